"""Hundreds of thousands of utterances: the real preparation and start of training, without audio.

What hearing a recording gives is made up (a second, 8 mel filters); planning, shards, index and start-up are real.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from w2l_jax.corpora import Utterance
from preparing import splits
from w2l_jax.dataset import extraction, filters
from w2l_jax.dataset.batches import Source
from w2l_jax.dataset.order import Order
from w2l_jax.dataset.prepare import PrepareConfig, prepare
from w2l_jax.dataset.store import open_dataset
from w2l_jax.features import FeatureConfig

count, out, words = int(sys.argv[1]), sys.argv[2], "alpha beta gamma delta epsilon zeta eta theta".split()

def fake_extract_all(tasks, *_):
    for i, _ in enumerate(tasks):
        yield extraction.Extracted(np.zeros((100 + i % 80, 8), np.float16), 1 + i % 80 / 100, f"{i:064x}", False, False)

extraction.extract_all = fake_extract_all
found = {}

def timed(name, work):
    start = time.perf_counter()
    result = work()
    found[name] = time.perf_counter() - start
    return result

def make_utterance(i):
    text = " ".join(words[i * k % 8] for k in range(1, 16))
    return Utterance(f"u{i:07d}", Path(sys.executable), text, f"s{i % 2000}")  # any file: it is not read

utterances = list(map(make_utterance, range(count)))
timed("split", lambda: splits.assign(utterances))
timed("prepare", lambda: prepare(utterances, out, PrepareConfig(features=FeatureConfig(mels=8))))
found["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def start():
    data = timed("open", lambda: open_dataset(out))
    source = timed("source", lambda: Source.create(data, data.alphabet, 6, 64, 0.1))
    order = timed("order", lambda: Order(tuple(entry.frames for entry in data.entries), 64, 0))
    assert len(data) == count and source.batch(order.batch(7), 64).frames_B.min() >= 100

timed("start", start)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_time_and_memory_grow_linearly(tmp_path):
    found = {}
    for count in (50_000, 100_000, 200_000):
        command = [sys.executable, "-c", PROGRAM, str(count), str(tmp_path / str(count))]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'launch'}"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        found[count] = json.loads(done.stdout)
        print(count, {name: round(value, 2) for name, value in found[count].items()})
    most = found[200_000]
    assert most["start"] < 10
    for name in ("split", "prepare", "start"):  # twice as much, with a margin for a busy machine
        assert most[name] < 2 * 1.7 * found[100_000][name]
    # Memory per utterance while preparing; 1,000 h of LibriSpeech have 281,000 utterances.
    assert (most["megabytes"] - found[50_000]["megabytes"]) / 0.15 < 3500  # bytes per utterance
