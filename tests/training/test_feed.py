"""Feeding batches to devices: the same bits whether resident or read, on one device or several."""

import dataclasses
import itertools
import os
import subprocess
import sys
from fractions import Fraction
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.conftest import ROOT
from w2l_jax import training
from w2l_jax.alphabet import preset
from w2l_jax.dataset.batches import Source
from w2l_jax.dataset.order import MixedOrder, Order
from w2l_jax.dataset.prepare import PrepareConfig, prepare_cached
from w2l_jax.model import ModelConfig
from w2l_jax.run import Run
from w2l_jax.training import augment, feed
from w2l_jax.training.devices import Devices
from w2l_jax.training.options import AugmentOptions, DataOptions, LogOptions, MemoryOptions, TrainOptions

ON, OFF = MemoryOptions(resident="on"), MemoryOptions(resident="off")


@pytest.fixture
def options(tones, cache, tmp_path):
    data = DataOptions(train=str(tones / "train.jsonl"), cache=str(cache), buckets=3, workers=1)
    model = ModelConfig(width=8, top_width=12, initializer="he_uniform", activation="elu")
    return TrainOptions(
        run=str(tmp_path / "run"), steps=10, batch_size=8, data=data, model=model,
        log=LogOptions(every=5, eval_every=20, checkpoint_every=5), augment=AugmentOptions(speed=0.1, time_masks=1),
    )  # fmt: skip


def job_of(tones, cache, devices=1, speed=0.1, memory=OFF):
    """What `stream` needs of a job: 48 English utterances, and 24 German ones as a quarter of every batch."""
    english, german = (
        prepare_cached(tones / f"{name}.jsonl", cache, PrepareConfig(language=language), workers=1)
        for name, language in (("train", "en"), ("german", "de"))
    )
    source = Source.create(english.followed_by(german), preset("de"), 3, 8, speed)
    new, old = (Order(tuple(entry.frames for entry in data.entries), 8, 4) for data in (english, german))
    options = TrainOptions(steps=40, batch_size=8, seed=4, augment=AugmentOptions(speed=speed), memory=memory)
    order = MixedOrder(new, old, Fraction(1, 4))
    return SimpleNamespace(options=options, train=source, order=order, devices=Devices.choose(devices, 8))


def assert_same(batches, others):
    for a, b in itertools.zip_longest(batches, others):
        for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
            assert x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()


def with_memory(job, memory):
    return SimpleNamespace(**{**vars(job), "options": dataclasses.replace(job.options, memory=memory)})


@pytest.mark.parametrize("speed", [0.0, 0.1])
def test_resident_features_equal_those_read_from_files(tones, cache, speed):
    job, reports = job_of(tones, cache, speed=speed), []
    read = list(feed.stream(job, 0, reports.append))
    assert not reports and len({batch.features_BxTxM.shape for batch in read}) == 3
    assert_same(feed.stream(with_memory(job, ON), 0, reports.append), read)
    assert len(reports) == 1 and "of 72 utterances" in reports[0]
    assert_same(feed.stream(with_memory(job, ON), 33, reports.append), read[33:])  # resumed


@pytest.mark.parametrize("memory", [ON, OFF])
def test_a_batch_holds_stored_features_at_the_speed_of_its_step(tones, cache, memory):
    job = job_of(tones, cache, memory=memory)
    key, in_step = jax.random.key(0), jax.jit(augment.in_step, static_argnums=2)
    for step, batch in enumerate(feed.stream(job, 0, lambda line: None)):
        played = jax.device_get(in_step(key, batch, job.options.augment))
        batch = jax.device_get(batch)
        indices = job.order.batch(step)
        speed_B = augment.speeds(job.options.augment, 4, step, len(indices))
        for row, index in enumerate(indices):
            stored_TxM = job.train.dataset.features_of([index])[0]
            frames = max(round(len(stored_TxM) / (1 + speed_B[row])), 1)
            assert batch.frames_B[row] == frames
            arguments = [np.array([n]) for n in (len(stored_TxM), frames)]
            room = np.zeros((1, max(len(stored_TxM), frames), 128), np.float16)
            room[0, : len(stored_TxM)] = stored_TxM
            alone = augment.change_speed(room, *arguments, speed_B[row : row + 1].astype(np.float32))
            np.testing.assert_array_equal(batch.features_BxTxM[row, : len(stored_TxM)], stored_TxM)
            assert not batch.features_BxTxM[row, len(stored_TxM) :].any()
            np.testing.assert_allclose(played[row, :frames], alone[0, :frames], atol=2e-3, rtol=1e-3)
            assert not played[row, frames:].any()
            text = job.train.dataset.entries[index].transcript
            assert preset("de").decode(batch.labels_BxL[row, : batch.label_lengths_B[row]]) == text
        if step == 5:
            return


def on_four(tones, cache):
    """Prints how many batches are the same on one device and on four, resident and read; needs a process with four."""
    from pathlib import Path

    tones, cache = Path(tones), Path(cache)
    expected = list(feed.stream(job_of(tones, cache), 0))
    for memory in (ON, OFF):
        job = job_of(tones, cache, devices=4, memory=memory)
        batches = list(feed.stream(job, 0))
        assert_same(batches, expected)
        placed = job.devices.place(batches[0].frames_B)
        arrays = jax.tree.leaves(batches[0])
        assert len(arrays) == 6 and all(x.sharding.is_equivalent_to(placed.sharding, x.ndim) for x in arrays)
        print(len(batches))


def test_four_devices_make_the_same_batches(tones, cache):
    job_of(tones, cache)  # prepared here
    code = f"from tests.training.test_feed import on_four; on_four({str(tones)!r}, {str(cache)!r})"
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout.split()[-2:] == ["40", "40"], done.stderr[-2000:]


def test_training_does_not_depend_on_residency_which_may_change_on_resume(options):
    quiet = lambda line: None  # noqa: E731
    full = dataclasses.replace(options, memory=OFF)
    training.train(training.create(full, quiet), quiet)
    parts = dataclasses.replace(options, run=options.run + "_parts", steps=5, memory=ON)
    reports = []
    training.train(training.create(parts, reports.append), reports.append)
    assert any(line.startswith("resident: ") for line in reports)
    training.train(training.create(dataclasses.replace(parts, steps=10, resume=True, memory=OFF), quiet), quiet)
    a, b = (Run.open(run).restore_params("last") for run in (full.run, parts.run))
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("gigabytes", "expected"), [(None, False), (1e-3, False), (2.0, True)])
def test_features_become_resident_if_they_take_a_third_of_free_memory(tones, cache, gigabytes, expected):
    job = job_of(tones, cache)
    assert job.train.bytes == sum(len(x) for x in job.train.dataset.features_of(range(72))) * 128 * 2 > 1e-3 * 1e9 / 3
    stats = {"bytes_limit": gigabytes * 1e9, "bytes_in_use": 0} if gigabytes else None
    device = SimpleNamespace(memory_stats=lambda: stats)
    devices = SimpleNamespace(mesh=SimpleNamespace(local_devices=[device]), consensus=lambda text: text)
    job = SimpleNamespace(train=job.train, devices=devices, options=TrainOptions())
    assert feed.is_resident(job) == expected
    assert feed.is_resident(with_memory(job, ON)) and not feed.is_resident(with_memory(job, OFF))
    if expected:  # exactly a third of the free memory, and a byte less
        stats["bytes_in_use"] = int(stats["bytes_limit"]) - 3 * job.train.bytes
        assert feed.is_resident(job)
        stats["bytes_in_use"] += 1
        assert not feed.is_resident(job)
