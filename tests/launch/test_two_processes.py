"""Two concurrent processes with one folder: one does the work, the other waits or is refused in one line."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lm_building.kenlm_tools import Resources
from lm_building.lm_folder import make_once
from tests.conftest import ROOT, launch
from tests.decoding.conftest import kenlm_tools
from w2l_jax.lm.language_model import LanguageModel
from w2l_jax.run import Run

__all__ = ["kenlm_tools"]
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
    assert ended([training])[0][0] == 128 + signal.SIGTERM
    assert Run(tmp_path / "long").pointers()["last"] > 0


def test_two_processes_make_a_folder_only_once(tmp_path):
    folders, out = [], tmp_path / "lm"

    def fill(folder, scratch):
        folders.append(folder)
        time.sleep(0.3)
        card = {"made_from": {"text": 1}, "bytes": 3}
        for name, content in (("lm.bin", "abc"), ("unigrams.txt", "a\n"), ("card.json", json.dumps(card))):
            (folder / name).write_text(content)
        return card

    with ThreadPoolExecutor(2) as threads:
        cards = list(threads.map(lambda _: make_once(out, {"text": 1}, Resources(), fill), range(2)))
    assert len(folders) == 1 and cards[0] == cards[1] and [path.name for path in tmp_path.iterdir()] == ["lm"]


@pytest.mark.slow
def test_two_language_models_in_one_folder(tmp_path, tones, kenlm_tools):
    """The same text is built once and reused; of two texts, the last one remains, complete."""
    same = [f"--text={tones}/train.jsonl", "--language=en", "--out=lm"]
    both = ended([start(tmp_path, "build_lm.py", *same) for _ in "ab"])
    assert [(code, error) for code, _, error in both] == [(0, "")] * 2, both
    assert both[0][1] == both[1][1]
    other = [f"--text={tones}/dev.jsonl", *same[1:]]
    both = ended([start(tmp_path, "build_lm.py", *which) for which in (same, other)])
    assert [(code, error) for code, _, error in both] == [(0, "")] * 2, both
    card = LanguageModel(tmp_path / "lm").card
    assert (tmp_path / "lm" / "lm.bin").stat().st_size == card["bytes"]
    assert [path.name for path in tmp_path.iterdir()] == ["lm"]


@pytest.mark.slow
def test_two_first_decodings_of_a_run(tmp_path, data, kenlm_tools):
    """One process builds the run's language model, both use it, and their files are consistent."""
    done = launch("train.py", *data, "--run=r", "--steps=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    both = ended([start(tmp_path, "decode.py", "--run=r", "--workers=1") for _ in "ab"])
    assert [(code, error) for code, _, error in both] == [(0, "")] * 2, both
    assert sum("building one from" in out for _, out, _ in both) == 1
    tables = [out[out.index("run: r") :] for _, out, _ in both]
    assert tables[0] == tables[1]
    records = [json.loads(line) for line in (tmp_path / "r" / "decode" / "dev.jsonl").open()]
    summary = json.loads((tmp_path / "r" / "decode" / "dev.summary.json").read_text())
    assert summary[-1]["utterances"] == len(records) == 12
    assert summary[-1]["beam"]["ler"] == pytest.approx(sum(record["ler"] for record in records) / 12)
    assert LanguageModel(tmp_path / "r" / "lm").words and not list((tmp_path / "r").glob(".*"))
