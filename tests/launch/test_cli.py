"""Options and messages of the scripts."""

import errno
import os
import shlex
import subprocess
import sys

import jax
import pytest

import cli
import prepare
from tests.conftest import ROOT
from w2l_jax import config
from w2l_jax.errors import UserError
from w2l_jax.training.options import TrainOptions


def test_the_command_line_overrides_toml_and_toml_overrides_defaults(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("steps = 7\nbatch_size = 3\nlearning_rate = 1\n[data]\nlanguage = 'de'\n[model]\nwidth = 9\n")
    options = cli.parse(TrainOptions, [f"--config={path}", "--batch_size=4", "--data.train=x", "--model.width", "5"])
    assert (options.steps, options.batch_size, options.learning_rate) == (7, 4, 1.0)
    assert (options.data.language, options.data.train, options.model.width, options.seed) == ("de", "x", 5, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [("verify_frozen", "freeze.verify"), ("no-remat", "memory.remat"), ("optimizer=muon", "optimizer.name")],
)
def test_a_former_name_on_the_command_line(old, new):
    with pytest.raises(UserError, match=f"was renamed to --{new}"):
        cli.parse(TrainOptions, [f"--{old}"])


@pytest.mark.parametrize(
    ("misspelt", "near"),
    [("--data.trian=x", "--data.train"), ("--lerning_rate", "--learning_rate"), ("--memory.remta", "--memory.remat")],
)
def test_a_misspelt_option_suggests_the_right_one(misspelt, near):
    with pytest.raises(UserError, match=f"did you mean {near}"):
        cli.parse(TrainOptions, [misspelt])
    assert cli.parse(TrainOptions, ["--no_resume", "--memory.no_remat", "--model.width=3"]).model.width == 3


def test_a_shipped_configuration_is_suggested_if_none_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no such configuration; did you mean .*configs/adapt.toml"):
        cli.parse(TrainOptions, ["--config=adapt.toml"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--augment.speed=0.7", "error: --augment.speed must be in [0, 0.5), not 0.7\n"),  # of a group
        ("--steps=0", "error: steps must be at least 1, not 0\n"),
    ],
)
def test_invalid_option_values_are_ordinary_errors(option, message, capsys):
    """Without tyro's frame and its exit code."""
    with pytest.raises(SystemExit, match=r"^1$"):
        cli.run(lambda: cli.parse(TrainOptions, [option]))
    found = capsys.readouterr()
    assert found.err.startswith(message) and found.err.count("\n") == 1 and found.out == ""


def test_an_unknown_option_is_named_once(capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.parse(TrainOptions, ["--nonsense=1"])
    assert capsys.readouterr().err.count("nonsense=1") == 1


FULL = {
    "written": OSError(errno.ENOSPC, "No space left on device", "a.txt"),
    "quota": OSError(errno.EDQUOT, "Disk quota exceeded", "a.txt"),
    "TensorStore": ValueError("RESOURCE_EXHAUSTED: Error writing x: No space left on device [os_error_code='28']"),
}


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("nested", [False, True])
def test_a_full_disk_is_not_reported_as_lack_of_memory(name, nested, capsys):
    def main():
        if not nested:
            raise FULL[name]
        try:
            raise FULL[name]
        except Exception:
            raise RuntimeError("RESOURCE_EXHAUSTED: the checkpoint") from None

    with pytest.raises(SystemExit, match=r"^1$"):
        cli.run(main)
    error = capsys.readouterr().err
    assert error.startswith("error: no space left on the device while writing a") and error.count("\n") == 1


@pytest.mark.parametrize("filename", ["runs/x/.lock", None])
def test_system_errors_are_one_line(filename, capsys):
    def main():
        raise OSError(errno.EROFS, "Read-only file system", *([filename] if filename else []))

    with pytest.raises(SystemExit, match=r"^1$"):
        cli.run(main)
    place = "runs/x/.lock: " if filename else "[Errno 30] "
    assert capsys.readouterr().err == f"error: {place}Read-only file system\n"


def test_ctrl_c_does_not_wait_for_threads(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import threading, time, cli\n"
        "def main():\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    print('begun')\n"
        "    raise KeyboardInterrupt\n"
        "cli.run(main)\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'launch'}"}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (130, "begun\n") and "interrupted" in done.stderr


def test_given_reads_a_command_line():
    argv = ["--config", "a.toml", "--data.train=x=y", "--from-scratch", "--run", "r", "file"]
    assert cli.given(argv) == {"config": "a.toml", "data.train": "x=y", "from_scratch": "", "run": "r"}


def test_lists_of_tables_belong_to_files(capsys):
    path = str(ROOT / "configs" / "prepare_german.toml")
    options = cli.parse(prepare.Options, [f"--config={path}", "--examples=7"])
    assert options.corpora == config.load(prepare.Options, path).corpora and len(options.corpora) == 10
    assert (options.examples, options.language, options.config) == (7, "german", path)
    with pytest.raises(SystemExit):
        cli.parse(prepare.Options, [f"--config={path}", "--help"])
    assert "corpora." not in capsys.readouterr().out


def test_arguments_in_messages_are_options():
    cli.parse(TrainOptions, [])
    for text, shown in {
        "frozen_layers=8 needs init=<run>": "--frozen_layers=8 needs --init=<run>",
        "lower learning_rate, or set optimizer.clip_norm": "lower --learning_rate, or set --optimizer.clip_norm",
        "data.train_hours and data.train=x": "--data.train_hours and --data.train=x",
        "or set allow_speaker_overlap": "or set --data.allow_speaker_overlap",
        "runs/init=3/config.toml: steps are damaged": "runs/init=3/config.toml: steps are damaged",
        "--init=x and my_frozen_layers": "--init=x and my_frozen_layers",
    }.items():
        assert cli.as_options(text) == shown


def test_help_always_shows_the_papers_values(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # options on lines of their own
    (tmp_path / "a.toml").write_text("steps = 7\n")
    for argv in (["--help"], [f"--config={tmp_path}/a.toml", "--help"]):
        with pytest.raises(SystemExit):
            cli.parse(TrainOptions, argv, fallback=lambda options: f"{tmp_path}/a.toml")
        output = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "(default: 100000)" in output and "(default: 64)" in output and "(default: 0.0001)" in output
        assert "the paper's 250" in output and "the paper's 2000" in output and "(default: 7)" not in output


def test_compiled_programs_are_stored_in_the_users_cache_folder(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
        cli.use_compilation_cache()
        assert jax.config.jax_compilation_cache_dir == before
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        cli.use_compilation_cache()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "w2l_jax" / "xla")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def script(tmp_path, body: str, shell: str = "", **env: str) -> subprocess.CompletedProcess:
    """Runs a script with this `main` as the scripts of launch/ run; its command line ends with `shell`."""
    path = tmp_path / "job.py"
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    path.write_text(f"import sys, warnings\nimport cli\ndef main():\n{lines}cli.run(main)\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/launch", **env}
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(path))} {shell}"
    return subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, timeout=120)


def test_closed_standard_streams(tmp_path):
    """Like a daemon's: the job runs, and the files it opens do not become one of the three streams."""
    body = "print('out', file=sys.stderr)\nprint('out')\nassert sys.stdin.read() == ''\nfile = open('a.txt', 'w')\n"
    done = script(tmp_path, body + "file.write(str(file.fileno()))", "<&- >&- 2>&-")
    assert done.returncode == 0
    assert int((tmp_path / "a.txt").read_text()) > 2


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_that_cannot_show_a_character(tmp_path, encoding):
    body = "print('gr\u00fc\u00df \u03b1…')\nraise cli.UserError('5 °C … \u03b1')"
    done = script(tmp_path, body, PYTHONIOENCODING=encoding)
    assert done.returncode == 1
    assert done.stdout.decode(encoding) == {"latin-1": "gr\u00fc\u00df ??\n", "ascii": "gr?? ??\n"}[encoding]
    assert done.stderr.decode(encoding) == {"latin-1": "error: 5 °C ? ?\n", "ascii": "error: 5 ?C ? ?\n"}[encoding]


def test_no_device_for_jax_platforms(tmp_path):
    done = script(tmp_path, "import jax\njax.numpy.zeros(3)", JAX_PLATFORMS="cuda")
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"error: JAX finds no device for JAX_PLATFORMS=cuda: unset it")


def test_warnings_are_notes(tmp_path):
    done = script(tmp_path, "warnings.warn('a.wav: cut')")
    assert done.stderr == b"note: a.wav: cut\n"


@pytest.mark.parametrize(
    ("names", "option"), [({"spell_numbers"}, "--spell_numbers"), (set(), "prepare.py --spell_numbers")]
)
def test_messages_name_the_script_of_an_option_that_this_one_lacks(monkeypatch, names, option):
    monkeypatch.setattr(cli, "_NAMES", names)
    assert cli.as_options("1, 4 in 'um 14'; write numbers in words (spell_numbers)") == (
        f"1, 4 in 'um 14'; write numbers in words ({option})"
    )
