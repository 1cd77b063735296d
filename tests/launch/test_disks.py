"""Commands on a full or read-only disk: a message of one line, no partial files, and results still printed."""

import importlib
import shutil

import pytest

from tests.conftest import ROOT, launch, read_only
from tests.decoding.conftest import hand_lm, kenlm_tools
from w2l_jax.run import Run

__all__ = ["hand_lm", "kenlm_tools"]
SMALL = [
    "--model.width=32", "--model.top_width=64", "--batch_size=8", "--data.buckets=1", "--data.workers=1",
    "--log.checkpoint_every=2", "--learning_rate=3e-3",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tones, cache, tmp_path_factory):
    """A folder with a run of two updates."""
    folder = tmp_path_factory.mktemp("place")
    done = launch("train.py", *data(tones, cache), "--run=good", "--steps=2", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def data(tones, cache):
    return [f"--data.train={tones}/train.jsonl", f"--data.dev={tones}/dev.jsonl", f"--data.cache={cache}", *SMALL]


def one_line(done, message):
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ") and message in done.stderr


@pytest.fixture
def decode(place, monkeypatch, capsys):
    """Decodes in this process; returns standard output and error."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(ROOT / "launch"))
    module = importlib.import_module("decode")

    def call(*arguments):
        module.main([*arguments, "--workers=1"])
        return capsys.readouterr()

    return call


def test_decoding_a_read_only_run(place, small_disk, decode):
    """Decoded greedily, its results are printed; no language model can be stored for it."""
    disk = small_disk("20m")
    shutil.copytree(place / "good", disk / "run")
    read_only(disk)
    out, errors = decode(f"--run={disk}/run", "--lm=none")
    assert "worst utterances" in out and "every utterance" not in out
    assert errors.endswith(
        f"note: {disk}/run/decode cannot be written (Read-only file system); --out names another file\n"
    )
    with pytest.raises(ValueError, match=r"cannot be written .*, so no language model can be stored there: name one"):
        decode(f"--run={disk}/run")


def test_an_unwritable_report_does_not_hide_the_results(small_disk, decode, capsys):
    disk = small_disk("1m")
    read_only(disk)
    with pytest.raises(OSError, match="Read-only file system"):
        decode("--run=good", "--lm=none", f"--out={disk}/out.jsonl")
    assert "worst utterances" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("size", ["12k", "100k", "600k"])
def test_training_on_a_full_disk(tones, cache, small_disk, size):
    disk = small_disk(size)
    done = launch("train.py", *data(tones, cache), "--run=run", "--steps=40", "--log.keep_steps=2,4,6,8", cwd=disk)
    one_line(done, "no space left on the device while writing ")
    assert "memory" not in done.stderr
    run = Run(disk / "run")
    assert not list(run.folder.rglob(".*"))
    assert not run.steps() or run.restore_params("last")


@pytest.mark.slow
def test_every_command_on_a_read_only_disk(place, tones, cache, small_disk):
    disk = small_disk("20m")
    shutil.copytree(place / "good", disk / "run")
    read_only(disk)
    before = {path: path.stat().st_mtime_ns for path in disk.rglob("*")}
    recording = next((tones / "dev").glob("*.wav"))
    for script, *arguments in (
        ("train.py", f"--run={disk}/run", "--resume", "--steps=9"),
        ("train.py", *data(tones, cache), f"--run={disk}/new", "--steps=2"),
        ("export.py", "--run=good", f"--out={disk}/a.safetensors"),
        ("tune_decoder.py", f"--run={disk}/run", "--trials=2"),
        ("introspect.py", f"--run={disk}/run", "--base=good"),
        ("transcribe.py", recording, "--run=good", "--lm=none", f"--out={disk}/texts"),
        ("build_lm.py", f"--text={tones}/train.jsonl", "--language=en", f"--out={disk}/lm"),
        ("prepare.py", f"--manifest={tones}/train.jsonl", "--language=en", f"--out={disk}/prepared"),
    ):
        one_line(launch(script, *arguments, cwd=place), "Read-only file system")
    done = launch("transcribe.py", recording, f"--run={disk}/run", cwd=place)
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in disk.rglob("*")} == before
    # Training a run in another folder from read-only data and caches.
    copied = shutil.copytree(place / "good", place / "other")
    done = launch("train.py", f"--run={copied}", "--resume", "--steps=3", cwd=disk)
    assert done.returncode == 0 and done.stderr.count("\n") == 1 and "note: runs/latest" in done.stderr


@pytest.mark.slow
def test_an_export_to_a_full_disk_leaves_nothing(place, small_disk):
    disk = small_disk("100k")
    one_line(launch("export.py", "--run=good", f"--out={disk}/a.safetensors", cwd=place), f"{disk}/a.safetensors")
    assert not list(disk.iterdir())
