import ast
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# Imports only go down this order; modules on one line may import each other without cycles.
ORDER = [
    {"errors", "arguments", "convolution", "files", "config", "reporting"},
    {"languages", "alphabet", "text", "spelling", "audio", "audio_readers", "audio_headers", "pauses", "workers"},
    {"incoming"},
    {"features", "features_jax", "model", "losses", "metrics"},
    {"transfer", "freezing", "checkpoint", "run", "corpora", "dataset", "inference", "incremental", "activations"},
    {"lm"},
    {"decoding"},
    {"streaming", "network_file", "recognizer"},
    {"training"},
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_every_public_name_exists():
    import w2l_jax

    assert all(callable(getattr(w2l_jax, name)) for name in w2l_jax.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = w2l_jax.nonsense


def test_importing_the_package_is_light():
    heavy = {"tensorflow", "librosa", "kenlm", "numba", "tyro", "matplotlib", "soundfile", "av", "array_record"}
    names = "w2l_jax.ctc_loss, w2l_jax.freeze, w2l_jax.carry_output, w2l_jax.load"
    assert not loaded_by(f"import w2l_jax; {names}") & heavy


def test_training_and_evaluating_prepared_data_need_few_packages():
    heavy = {"tensorflow", "librosa", "kenlm", "numba", "tyro", "matplotlib", "soundfile", "jiwer"}
    behind_doors = {"w2l_jax.losses.asg", "w2l_jax.training.muon"}
    assert not loaded_by("import w2l_jax.training") & (heavy | behind_doors)


def test_decoding_workers_do_not_import_jax():
    assert not loaded_by("import w2l_jax.decoding.pool") & {"jax", "flax", "optax", "orbax"}


@pytest.mark.parametrize("path", sorted((ROOT / "w2l_jax").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_go_to_lower_layers(path):
    parts = path.relative_to(ROOT / "w2l_jax").with_suffix("").parts
    if parts[0] in ("__init__", "__main__"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("w2l_jax"):
            names = [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
            for name in names:
                assert LEVEL[name] <= LEVEL[parts[0]], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "w2l_jax").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_names_no_command_line_options(path):
    """No text names a launch script or an --option, except strings that are just an option of another program."""
    scripts = "|".join(p.name.replace(".", r"\.") for p in (ROOT / "launch").glob("*.py"))
    command = re.compile(rf"(?<![\w-])--[a-z]|\blaunch/|\b({scripts})\b")
    texts = [n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
    found = [t for t in texts if isinstance(t, str) and command.search(t) and not re.fullmatch(r"--[a-z_]+", t)]
    assert not found


def test_every_public_function_has_a_docstring():
    bare = []
    for path in (ROOT / "w2l_jax").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                if not ast.get_docstring(node):
                    bare.append(f"{path.name}: {node.name}")
                if isinstance(node, ast.FunctionDef):
                    untyped = [a.arg for a in node.args.args + node.args.kwonlyargs if a.annotation is None]
                    bare += [f"{path.name}: {node.name}({name})" for name in untyped]
    assert not bare


@pytest.mark.slow
def test_the_wheel_works_outside_of_a_clone(tmp_path, tones):
    """In an environment that has the dependencies but not this project."""
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "runs", "data", "tools", "*.egg-info", "build"))
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path / "dist", source], check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True, capture_output=True)
    assert {path.name for path in site.iterdir() if "dist-info" not in path.name} == {"w2l_jax"}
    assert (site / "w2l_jax" / "py.typed").is_file()
    recording = next((tones / "dev").glob("*.wav"))
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = (
        f"import w2l_jax; assert w2l_jax.__file__.startswith({str(site)!r}), w2l_jax.__file__\n"
        f"print(w2l_jax.load('english').transcribe({str(recording)!r}).text)"
    )
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", code], **run)
    assert done.returncode == 0, done.stderr
    text = done.stdout.strip()
    assert text
    assert not [path for path in (site / "w2l_jax").rglob("*.py") if "`make " in path.read_text(encoding="utf-8")]
    done = subprocess.run([sys.executable, "-m", "w2l_jax", str(recording), "--format=srt"], **run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1\n00:00:0") and text.split()[0] in done.stdout


def test_greedy_decoding_does_not_import_the_search():
    found = loaded_by("sys.path.insert(0, 'launch'); import decode, transcribe")
    assert not found & {"kenlm", "numba", "matplotlib"}
