"""Two processes at once on one folder: one does the work, the other waits or is refused in one line."""

import hashlib
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT, launch
from w2l_jax.run import Run

SMALL = [
    "--model.width=16", "--model.top_width=24", "--batch_size=8", "--data.buckets=1", "--data.workers=1",
    "--log.checkpoint_every=5", "--learning_rate=3e-3",
]  # fmt: skip


def start(folder, script, *arguments):
    command = [sys.executable, str(ROOT / "launch" / script), *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(processes):
    """Exit code, standard output and error of each."""
    found = [(*process.communicate(timeout=300), process.returncode) for process in processes]
    return [(code, out, error) for out, error, code in found]


def digests(folder):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def data(tones, cache):
    return [f"--data.train={tones}/train.jsonl", f"--data.dev={tones}/dev.jsonl", f"--data.cache={cache}", *SMALL]


@pytest.mark.slow
def test_two_fresh_starts_and_a_resume_of_a_run_in_training(tmp_path, data):
    refused, trained = sorted(ended([start(tmp_path, "train.py", *data, "--run=r", "--steps=20") for _ in "ab"]))[::-1]
    assert trained[0] == 0 and "20 steps are done" in trained[1], trained
    assert refused[0] == 1 and refused[2].startswith("error: r: ") and refused[2].count("\n") == 1, refused
    assert Run.complete(tmp_path / "r")

    training = start(tmp_path, "train.py", *data, "--run=long", "--steps=100000", "--log.eval_every=100000",
                     "--log.checkpoint_every=100000", "--log.every=100000")  # fmt: skip
    while not (tmp_path / "long" / "certificate.json").is_file():
        assert training.poll() is None
        time.sleep(0.1)
    before = digests(tmp_path / "long")
    second = launch("train.py", "--run=long", "--resume", "--steps=7", cwd=tmp_path)
    assert (second.returncode, second.stderr) == (1, "error: long: another process is training this run\n")
    assert digests(tmp_path / "long") == before
    training.send_signal(signal.SIGTERM)
    assert ended([training])[0][0] == 0
    assert Run(tmp_path / "long").pointers()["last"] > 0
