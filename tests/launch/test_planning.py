"""The planner: updates take what it forecasts, and its recommendation follows from its costs."""

import ctypes
import dataclasses
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from planning import choice, costs, timing
from planning.costs import Cost, Work
from planning.plan_options import PlanOptions, parse_size
from tests.conftest import ROOT
from tests.training_options import train_options
from w2l_jax import model
from w2l_jax.alphabet import preset
from w2l_jax.dataset.batches import Bucket, Source, empty_batch, prefetch
from w2l_jax.dataset.shards import Record
from w2l_jax.errors import UserError
from w2l_jax.model import ModelConfig
from w2l_jax.training import muon
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import AugmentOptions, ModelOptions, TrainOptions
from w2l_jax.training.resolve import complete
from w2l_jax.training.step import init_state

SMALL = ModelConfig(width=64, top_width=512)
PLAN = PlanOptions(data="somewhere", hours=1.0)


class Utterances(tuple):
    """A dataset from which nothing is read: entries with frames, and a record."""

    record = Record(128)

    @property
    def entries(self):
        return self


def work(frames=1200, labels=150):
    dataset = Utterances(SimpleNamespace(frames=frames) for _ in range(10))
    return Work(Source(dataset, (), (Bucket(frames, labels),)), preset("german"), 128, frames / 2)


def options_for(k, **changes):
    changes = {"init": "base", "batch_size": 8, "model": SMALL, **changes}
    return train_options(frozen_layers=str(k), **changes)


def cost(k, seconds, memory=1, cached=False, **changes):
    options = train_options(frozen_layers=str(k), init="base", cache_activations=cached)
    return Cost(options, 1, 1.0, memory, seconds=seconds, **changes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("6GB", 6e9), ("800MiB", 800 * 2**20), ("1.5 gib", 1.5 * 2**30), ("2T", 2e12), ("512k", 512e3)],
)
def test_sizes(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["6", "GB", "-1GB", "6 apples", "0GB", "1e9B", ""])
def test_invalid_sizes(text):
    with pytest.raises(UserError, match="number and a unit"):
        parse_size(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": ""}, "no data"),
        ({"hours": 0.0}, "--hours must be a positive"),
        ({"hours": float("nan")}, "--hours must be a positive"),
        ({"memory": "6 apples"}, "number and a unit"),
        ({"frozen_layers": "0,11"}, "from 0 to 10"),
        ({"compute_dtypes": "float16"}, "float32 and bfloat16"),
        ({"init": "runs/a", "from_scratch": True}, "contradict"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(PLAN, **options)


def test_the_lowest_k_with_enough_epochs_is_recommended():
    # An hour: 100, 200, 400 and, with half of it spent on filling, 1800 updates of 64 utterances.
    every = [cost(0, 36.0), cost(8, 18.0), cost(9, 9.0), cost(9, 1.0, cached=True, fill_seconds=1800.0)]
    assert [c.updates(1.0) for c in every] == [100, 200, 400, 1800]
    utterances = 64 * 15  # 10 epochs are 150 updates
    assert choice.choose(every, PLAN, utterances) == (every[1], every[3])
    assert choice.choose(every, PLAN, 64 * 10) == (every[0], every[3])
    assert choice.choose(every, PLAN, 64 * 30) == (every[3], every[3])  # the faster of two with k = 9
    assert choice.choose(every, PLAN, 64 * 1000) == (every[3], every[3])  # none is enough: the one with most epochs
    assert choice.choose(every, dataclasses.replace(PLAN, epochs=150.0), 64) == (every[1], every[3])
    with pytest.raises(UserError, match="not enough for one update"):
        choice.choose(every, dataclasses.replace(PLAN, hours=1e-6), utterances)


def test_the_command_line_holds_only_differences():
    options_for = train_options(
        init="a b", frozen_layers="9", cache_activations=True, batch_size=8, model=ModelOptions(width=3)
    )
    start = complete(train_options(remat=True, batch_size=8), None)
    found = choice.command(
        Cost(complete(options_for, None), 1, 1.0, 1, seconds=1.8, fill_seconds=360.0), PLAN, start, "train.py"
    )
    assert found == (
        "python train.py '--init=a b' --frozen_layers=9 --steps=1800 --freeze.cache_activations --stop.max_hours=0.9 "
        "--memory.no_remat --model.width=3"
    )


def test_variants_that_contradict_the_options_are_skipped():
    lines = []
    common = options_for(
        0, augment=AugmentOptions(time_masks=1), data=dataclasses.replace(TrainOptions().data, train="x")
    )
    found = list(costs.candidates(dataclasses.replace(PLAN, frozen_layers="0,9"), common, lines.append))
    assert [(w.frozen_layers, w.freeze.cache_activations) for w in found] == [("0", False), ("9", False)]
    assert len(lines) == 1 and "k = 9, cached: freeze.cache_activations and augment contradict" in lines[0]


def linear(options, work):
    """100 bytes, and 10 for each row of a microbatch; less with remat or frozen layers."""
    limit = options.memory.max_microbatch_frames
    parts = options.batch_size // (limit // work.frames) if limit else 1
    row = (10 - int(options.frozen_layers)) * (0.5 if options.memory.remat else 1)
    return None, Cost(options, parts, 1.0, int(100 + row * options.batch_size / parts))


@pytest.mark.parametrize(
    ("memory", "expected"),
    [(740, (1, False)), (739, (2, False)), (260, (4, False)), (180, (8, False)), (150, (16, False))],
)
def test_as_few_microbatches_as_fit(monkeypatch, memory, expected):
    monkeypatch.setattr(costs, "compiled", linear)
    plan, common = dataclasses.replace(PLAN, frozen_layers="0"), options_for(0, batch_size=64)
    common = dataclasses.replace(common, data=dataclasses.replace(common.data, train="x"))
    found = costs.forecasts(plan, common, work(), memory, lambda line: None)
    assert (found[0].microbatches, found[0].options.memory.remat) == expected
    assert found[0].memory <= memory
    # This is tried only if microbatches are smaller than remat's own 8 chunks.
    assert [c.options.memory.remat for c in found] == ([False, True] if expected[0] > 8 else [False])


def test_nothing_fits(monkeypatch):
    monkeypatch.setattr(costs, "compiled", linear)
    common = options_for(0, batch_size=64, data=dataclasses.replace(TrainOptions().data, train="x"))
    plan = dataclasses.replace(PLAN, frozen_layers="0,8")
    with pytest.raises(UserError, match=r"nothing fits 1e-07 GB: the least is 1 MB \(k = 8.*remat"):
        costs.forecasts(plan, common, work(), 100, lambda line: None)


def test_the_forecast_counts_everything_held_at_once():
    shapes, network = work(frames=400, labels=32), ModelConfig(width=8, top_width=96)
    full, cut, cached = (
        costs.compiled(options_for(10, model=network, **changes), shapes)[1]
        for changes in ({}, {"max_microbatch_frames": 400}, {"cache_activations": True})
    )
    assert cut.microbatches == 8 and full.memory - cut.memory > 7 * 200 * 96 * 4  # seven rows of one array at least
    assert cut.gflop == pytest.approx(full.gflop, rel=0.02)
    assert cached.gflop < 0.2 * full.gflop and full.disk == 0
    activations = 200 * 96 * 2
    assert cached.disk == 10 * activations
    trained = 96 * 33 + 33  # with two moments; and one batch in use, three waiting, one arriving, each of 8
    assert cached.memory > 3 * 4 * trained + 5 * 8 * activations


def test_muons_cost_does_not_grow_with_the_batch(monkeypatch):
    """In FLOPs, for batches shorter than the longest, and in seconds, measured on part of the batch."""
    shapes, network = work(frames=400, labels=32), ModelConfig(width=16, top_width=64)
    adam, found = (costs.compiled(options_for(9, model=network, name=name), shapes)[1] for name in ("adam", "muon"))
    own = muon.flops(model.layers(network, 33), frozenset(range(1, 10))) / 1e9
    assert found.gflop - adam.gflop == pytest.approx(own, rel=0.05)
    monkeypatch.setattr(timing, "_rows", lambda rows, flops: 2)
    monkeypatch.setattr(timing, "_update_seconds", lambda options, work: 5.0)
    monkeypatch.setattr(timing, "_optimizer_seconds", lambda options, work: 3.0)
    assert timing.timed(found, shapes).seconds == 2 * 8 / 2 * 0.5 + 3
    assert timing.timed(adam, shapes).seconds == 5 * 8 / 2 * 0.5


def test_resident_features_are_counted_and_selected_if_they_fit():
    place = work()
    size = 10 * 1200 * 128 * 2
    assert place.source.bytes == size
    bare, on = (
        costs.compiled(options_for(10, batch_size=1, resident=resident), place)[1] for resident in ("off", "on")
    )
    assert on.memory - bare.memory == size
    assert costs.with_features(bare, place, bare.memory + size).memory == on.memory
    assert costs.with_features(bare, place, bare.memory + size).options == on.options
    assert costs.with_features(bare, place, bare.memory + size - 1) == bare
    cached = dataclasses.replace(bare, disk=7)
    assert costs.with_features(cached, place, bare.memory + 7).memory == bare.memory + 7


def test_speed_perturbation_is_counted():
    plain, played = (
        costs.compiled(options_for(10, batch_size=2, augment=AugmentOptions(speed=speed)), work())[1]
        for speed in (0.0, 0.1)
    )
    batch = 2 * 1200 * 128
    assert played.gflop > 1.01 * plain.gflop
    # Float16 output and float32 intermediates; XLA of 0.7.1 fits them into memory of the layers above.
    least = 0 if jax.__version_info__ <= (0, 7, 1) else 2 * batch
    assert least < played.memory - plain.memory < 20 * batch


def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def peak(k, rows, cached):
    """Prints as JSON the forecast for an update and the peak growth of memory during some updates, in bytes."""
    place = work()
    options = options_for(k, batch_size=rows, cache_activations=cached)
    step, forecast = costs.compiled(options, place)
    frozen = frozenset(range(1, k + 1))
    record = costs.frozen_layers_of(options, place).record if cached else place.source.dataset.record

    def batch(_):
        batch = empty_batch(rows, place.source.buckets[0], record)
        for array in jax.tree.leaves(batch):  # pages that are never written take no memory
            array[:] = 1
        batch.frames_B[:] = place.frames
        return jax.device_put(batch)

    params = model.init(jax.random.key(0), SMALL, 33)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = status("VmRSS") - sum(array.nbytes for array in jax.live_arrays())
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    state = init_state(params, make_optimizer(options, frozen), frozen)
    for item in prefetch(range(6), batch):
        state, _ = step(state, item)
        jax.block_until_ready(state)
    print(json.dumps([forecast.memory, status("VmHWM") - before]))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell the peak")
@pytest.mark.parametrize(
    "setting",
    [
        pytest.param((10, 64, True), marks=pytest.mark.slow),
        pytest.param((9, 64, False), marks=pytest.mark.slow),
        pytest.param((0, 32, False), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_updates_take_the_forecast_memory(setting):
    code = f"from tests.launch.test_planning import peak; peak{setting}"
    # Every large block is mapped separately: in glibc's heaps, blocks below 32 MB fragment.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20), "PYTHONPATH": f"{ROOT}/launch"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, env=env)
    forecast, measured = json.loads(done.stdout)
    assert forecast > 300e6  # much more than a process's random fluctuations
    assert measured == pytest.approx(forecast, rel=0.15)
