import json
import os
import re
import runpy
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from demo_corpus.speak import Voice, speak
from tests.conftest import ROOT, launch
from tests.training_options import train_options
from w2l_jax import audio, features, inference, model
from w2l_jax.decoding.greedy import greedy
from w2l_jax.errors import UserError
from w2l_jax.export import export, import_safetensors, to_safetensors
from w2l_jax.network import load, save
from w2l_jax.run import SHIPPED, Run
from w2l_jax.training import create, train
from w2l_jax.training.options import DataOptions, TrainOptions


@pytest.fixture(scope="module")
def trained(tones, cache, tmp_path_factory):
    """A run of twelve updates."""
    old = str(tones / "dev.jsonl")
    data = DataOptions(str(tones / "train.jsonl"), old, old_dev=old, cache=str(cache), buckets=1, workers=1)
    size = model.ModelConfig(width=16, top_width=24)
    folder = tmp_path_factory.mktemp("runs") / "small"
    options = train_options(
        run=str(folder), steps=12, batch_size=8, eval_every=12, data=data, model=size, old_train=str(old),
        allow_speaker_overlap=True,
    )  # fmt: skip
    train(create(options, lambda _: None), lambda _: None)
    return Run.open(folder)


def test_an_exported_run_has_the_rounded_weights_and_no_paths(trained, tmp_path):
    out = export(trained, tmp_path / "small")
    before, after = trained.restore_params("best"), out.restore_params("best")
    for name in before:
        for leaf in before[name]:
            rounded = np.asarray(before[name][leaf], jnp.bfloat16).astype(np.float32)
            np.testing.assert_array_equal(after[name][leaf], rounded)
    assert (out.model, out.features, out.alphabet) == (trained.model, trained.features, trained.alphabet)
    assert out.config()["data"]["train"] == "train.jsonl" and out.config()["data"]["dev"] == ""
    for path in out.folder.rglob("*"):
        for place in (trained.folder.parent, tmp_path):
            assert path.is_dir() or str(place).encode() not in path.read_bytes(), path
    kept = [json.loads(line) for line in (out.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(record["kind"], record["step"]) for record in kept] == [("train", 10), ("dev", 12), ("old_dev", 12)]
    assert out.config()["data"]["old_train"] == "dev.jsonl"


def test_exporting_elsewhere_only(trained, tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(UserError, match="holds files already"):
        export(trained, tmp_path)


def test_an_exported_run_cannot_be_resumed_and_says_what_to_do(trained, tmp_path):
    out = export(trained, tmp_path / "small", dtype="float32")
    np.testing.assert_array_equal(
        out.restore_params()["layer_09"]["kernel"], trained.restore_params("best")["layer_09"]["kernel"]
    )
    with pytest.raises(UserError, match=r"as in an exported run; adapt it with --init"):
        out.restore_optimizer("last", {})


def test_the_script_and_adapting_what_it_wrote(trained, tones, cache, tmp_path):
    done = launch("export.py", f"--run={trained.folder}", "--out=given", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "step 12" in done.stdout and "bfloat16" in done.stdout
    done = launch(
        "train.py", "--init=given", "--frozen_layers=8", f"--data.train={tones}/german.jsonl", "--steps=2",
        "--batch_size=8", f"--data.cache={cache}", "--data.workers=1", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 steps are done: runs/german_k8" in done.stdout


def test_a_run_as_one_file_gives_the_logits_of_the_run(trained, tmp_path):
    to_safetensors(trained, tmp_path / "exact.safetensors", dtype="float32")
    to_safetensors(trained, tmp_path / "small.safetensors")
    exact, small = load(tmp_path / "exact.safetensors"), load(tmp_path / "small.safetensors")
    params = trained.restore_params()
    assert jax.tree.all(jax.tree.map(np.array_equal, exact.params, params))
    rounded = jax.tree.map(lambda leaf: np.asarray(leaf, jnp.bfloat16).astype(np.float32), params)
    assert jax.tree.all(jax.tree.map(np.array_equal, small.params, rounded))
    features_TxM = np.random.default_rng(0).standard_normal((90, 128)).astype(np.float16)
    ours = inference.logits(exact.params, features_TxM, exact.model)
    assert ours.shape == (45, trained.alphabet.size) and np.ptp(ours) > 0.1
    np.testing.assert_array_equal(ours, inference.logits(params, features_TxM, trained.model))
    for network in (exact, small):
        assert network.model == trained.model and network.features == trained.features
        assert network.alphabet == trained.alphabet and network.step == 12
    assert str(trained.folder.parent).encode() not in (tmp_path / "small.safetensors").read_bytes()


def test_a_file_becomes_the_run_that_export_writes(trained, tmp_path):
    run = Run(shutil.copytree(trained.folder, tmp_path / "run"))
    (run.folder / "README.md").write_text("Licence: MIT, größtenteils\n", encoding="utf-8")
    to_safetensors(run, tmp_path / "a.safetensors")
    imported, exported = import_safetensors(tmp_path / "a.safetensors", tmp_path / "b"), export(run, tmp_path / "c")
    assert jax.tree.all(jax.tree.map(np.array_equal, imported.restore_params(), exported.restore_params()))
    assert imported.step_of("best") == imported.step_of("last") == 12
    texts = [{path.name: path.read_text() for path in run.folder.glob("*.*")} for run in (imported, exported)]
    assert texts[0] == texts[1] and "README.md" in texts[0]
    assert (imported.folder / "README.md").read_text(encoding="utf-8") == "Licence: MIT, größtenteils\n"


def test_importing_elsewhere_only_and_whole_runs_only(trained, tmp_path):
    to_safetensors(trained, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="exists already"):
        to_safetensors(trained, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="holds files already"):
        import_safetensors(tmp_path / "a.safetensors", tmp_path)
    network = load(tmp_path / "a.safetensors")
    part = {name: text for name, text in network.metadata.items() if name != "data.json"}
    save(tmp_path / "part.safetensors", network.params, part)
    with pytest.raises(UserError, match=r"part\.safetensors: its metadata lack data\.json"):
        import_safetensors(tmp_path / "part.safetensors", tmp_path / "b")
    save(tmp_path / "evil.safetensors", network.params, {**network.metadata, "../outside.txt": "!", "x.py": "!"})
    import_safetensors(tmp_path / "evil.safetensors", tmp_path / "deep" / "c")
    assert not list(tmp_path.rglob("outside.txt")) and not list(tmp_path.rglob("x.py"))


def test_a_file_where_a_run_folder_is_needed_says_what_to_do(trained, tones, tmp_path):
    to_safetensors(trained, tmp_path / "a.safetensors")

    def adapt(path):
        data = DataOptions(str(tones / "german.jsonl"))
        create(TrainOptions(init=str(path), run=str(tmp_path / "b"), data=data), lambda _: None)

    advice = r"a\.safetensors: a file, not .*export.py --run=.*a\.safetensors --out=runs/a"
    for use in (Run.open, adapt, lambda path: Run.create(path, TrainOptions(), trained.alphabet)):
        with pytest.raises(UserError, match=advice):
            use(tmp_path / "a.safetensors")


def test_the_script_with_files(trained, tmp_path, monkeypatch):
    done = launch("export.py", f"--run={trained.folder}", "--out=given.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "given.safetensors: step 12, weights 0.3 MB in bfloat16" in done.stdout
    done = launch("export.py", "--run=given.safetensors", "--out=runs/b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "runs/b: step 12; adapt it with train.py --init=runs/b" in done.stdout
    assert Run.open(tmp_path / "runs" / "b").model == trained.model
    main = runpy.run_path(str(ROOT / "launch" / "export.py"))["main"]
    monkeypatch.chdir(tmp_path)
    for arguments, message in {
        (f"--run={trained.folder}", "--out=given.safetensors"): "exists already",
        ("--run=given.safetensors", "--out=b.safetensors"): "both files",
        ("--run=given.safetensors", "--out=c", "--dtype=float32"): "--dtype has no meaning",
        ("--run=given.safetensors", "--out=c", "--checkpoint=last"): "--checkpoint has no meaning",
    }.items():
        with pytest.raises(UserError, match=message):
            main(list(arguments))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.safetensors", "runs"]


def test_the_readmes_example_says_what_the_run_says(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if block.startswith("# a run as one file")]
    comment, *lines = code.splitlines()
    assert len([line for line in lines if line]) <= 10
    script, *arguments = comment.partition("python launch/")[2].split()
    arguments = [argument.replace("models/", f"{ROOT}/models/") for argument in arguments]
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "launch" / script))["main"](arguments)
    soundfile.write(tmp_path / "recording.wav", *speak("The old man is walking to the garden.", Voice("en")))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = Run.open(SHIPPED)
    heard = features.compute(audio.load("recording.wav"), run.features)
    expected = greedy(inference.logits(run.restore_params(), heard, run.model), run.alphabet)
    assert done.stdout == f"{expected}\n" and len(expected) > 10


@pytest.mark.skipif(not Run.exists(SHIPPED), reason="no network comes along")
class TestShipped:
    def test_it_is_small_and_says_what_it_is(self):
        weights = [path for path in (SHIPPED / "checkpoints").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in weights) <= 12e6
        card = (SHIPPED / "README.md").read_text()
        for word in ("Licence", "en_dev", "seed", "LER", "not good for"):
            assert word in card
        assert "/tmp" not in (SHIPPED / "config.toml").read_text()

    def test_it_is_used_where_there_is_no_run(self, tones, tmp_path):
        line = json.loads((tones / "dev.jsonl").read_text().splitlines()[0])
        done = launch("transcribe.py", str(tones / line["audio_filepath"]), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "models/english" in done.stderr and str(ROOT) in done.stderr
        done = launch("decode.py", f"--data={tones}/dev.jsonl", "--worst=1", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "runs" / "english" / "decode" / "dev.jsonl").is_file()
        assert not (SHIPPED / "decode").exists()

    @pytest.mark.slow
    def test_its_language_can_be_changed(self, tones, cache, tmp_path):
        (tmp_path / "models").symlink_to(ROOT / "models")  # the run becomes the latest of where this is called
        done = launch(
            "train.py", "--init=models/english", "--frozen_layers=8", f"--data.train={tones}/german.jsonl",
            "--steps=1", "--batch_size=4", f"--run={tmp_path}/run", f"--data.cache={cache}", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "new ä (zero)" in done.stdout
