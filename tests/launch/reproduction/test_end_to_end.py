"""The smallest complete grid as a user runs it: killed in the middle, then resumed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, launch, write_corpus
from tests.launch.reproduction.test_page import numbers_are_those_of_the_files

CONFIG = """
title = "Smallest"
base = "runs/english"
base_config = "{here}/network.toml"
base_train = "train"
base_data = "dev"
train_config = "{here}/network.toml"
scratch_arguments = ["--model.width=8", "--model.top_width=16", "--model.initializer=he_uniform"]
timing = {{ batch_size = 2, seconds = 1.0, labels = 8, model = {{ width = 8, top_width = 16 }}, repetitions = 2 }}

[[languages]]
name = "german"
train = "german"
dev = "german_dev"
tests = ["german_test"]
experiments = [
    "figure2", "figure3", "figure5", "figure6", "figure7", "figure8", "table1", "table3", "forgetting", "unfreezing",
    "amounts",
]
amounts = [0.0025, 0.0015]
steps = 20
eval_every = 5

[[languages]]
name = "english"
distance = "near"
train = "train"
dev = "dev"
experiments = ["distance"]
steps = 12
eval_every = 6

[[languages]]
name = "dutch"
distance = "far"
train = "dutch"
dev = "dutch_dev"
experiments = ["distance"]
steps = 12
eval_every = 6
"""
NETWORK = """
steps = 20
batch_size = 4
learning_rate = 3e-3
[log]
eval_every = 10
checkpoint_every = 5
every = 5
[model]
width = 8
top_width = 16
initializer = "he_uniform"
[data]
buckets = 1
workers = 1
cache = "{cache}"
unknown_characters = "drop_utterance"
"""

DATA = [
    ("train", 32, "en"), ("dev", 6, "en"), ("german", 24, "de"), ("german_dev", 6, "de"), ("german_test", 6, "de"),
    ("dutch", 16, "nl"), ("dutch_dev", 6, "nl"),
]  # fmt: skip


@pytest.mark.slow
def test_the_smallest_complete_grid(tmp_path):
    data = tmp_path / "data"
    for seed, (name, count, lang) in enumerate(DATA):
        write_corpus(data, name, count, 3, seed, lang)
    (tmp_path / "network.toml").write_text(NETWORK.format(cache=tmp_path / "prepared"))
    (tmp_path / "scale.toml").write_text(CONFIG.format(here=tmp_path))
    options = [f"--config={tmp_path}/scale.toml", f"--data={data}", "--out=out"]
    runs, out = tmp_path / "out" / "runs", tmp_path / "out"
    script = [sys.executable, str(ROOT / "launch" / "reproduce.py"), *options]
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(script, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 1200
        while first.poll() is None and len(list(runs.glob("*/decode/german_dev.summary.json"))) < 3:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        assert first.poll() is None, (tmp_path / "log").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    finished = {path: path.stat().st_mtime_ns for path in runs.glob("*/decode/*.summary.json")}
    report = launch("reproduce.py", *options, "--report_only", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert "tasks are missing" in (out / "index.html").read_text()

    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    assert finished and {path: path.stat().st_mtime_ns for path in finished} == finished
    for path in finished:
        assert f"decode {path.parts[-3]} on {path.name.removesuffix('.summary.json')}\n" not in done.stdout
    content = (out / "index.html").read_text()
    assert "missing" not in content and "running" not in content
    pictures = {path.stem for path in (out / "figures").glob("*.png")}
    assert pictures == {
        "figure2", "figure3", "figure4", "figure5", "figure6", "memory", "forgetting", "unfreezing", "amounts",
        "distance",
    }  # fmt: skip
    assert {"figure7.png", "figure8.png", "filters.png"} <= {p.name for p in Path(out / "weights_german").iterdir()}
    assert "Filters of the input layer" in content and "the networks that this needs are not trained" not in content
    assert "training, german" in content
    numbers_are_those_of_the_files(out / "index.html")
    again = launch("reproduce.py", *options, cwd=tmp_path)
    assert again.returncode == 0 and ", 0 left" in again.stdout
