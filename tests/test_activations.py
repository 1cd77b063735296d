"""The activation cache: its content, that training on it gives the same result, and that nothing stale is read."""

import collections
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.conftest import ROOT
from tests.training_options import changed, train_options
from w2l_jax import activations, freezing, model, training
from w2l_jax.activations import FrozenLayers, on_activations
from w2l_jax.dataset.batches import Bucket, empty_batch
from w2l_jax.dataset.prepare import PrepareConfig, prepare_cached
from w2l_jax.errors import UserError
from w2l_jax.losses import ctc_loss
from w2l_jax.model import ModelConfig
from w2l_jax.run import Run
from w2l_jax.training import feed
from w2l_jax.training.certificate import certify, predicted_flops
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import AugmentOptions, DataOptions, TrainOptions
from w2l_jax.training.step import StepConfig, init_state, make_step

TINY = ModelConfig(width=16, top_width=24, initializer="he_uniform", activation="elu")


@pytest.fixture(scope="module")
def base(tones, cache, tmp_path_factory):
    """An English run of a few updates."""
    data = DataOptions(train=str(tones / "train.jsonl"), cache=str(cache), buckets=2, workers=1)
    folder = tmp_path_factory.mktemp("base") / "run"
    options = TrainOptions(run=str(folder), steps=4, batch_size=8, learning_rate=3e-3, model=TINY, data=data)
    training.train(training.create(options, lambda _: None), lambda _: None)
    return folder


@pytest.fixture
def options(tones, cache, base, tmp_path):
    """Options for adapting it to German, with prepared features as in the cache and an empty cache of activations."""
    paths = {}
    for side, name in (("train", "german"), ("dev", "german_dev")):
        paths[side] = str(
            prepare_cached(tones / f"{name}.jsonl", cache, PrepareConfig(language="german"), workers=1).folder
        )
    data = DataOptions(**paths, cache=str(tmp_path / "cache"), buckets=2, workers=1)
    return train_options(
        run=str(tmp_path / "run"), init=str(base), frozen_layers="9", steps=6, batch_size=8, learning_rate=3e-3,
        eval_every=4, checkpoint_every=4, every=2, cache_activations=True, data=data,
    )  # fmt: skip


def create(options, **changes):
    reports = []
    job = training.create(changed(options, **changes), reports.append)
    return job, reports


def uncached(options, **changes):
    return create(options, cache_activations=False, activation_dtype="float16", run=options.run + "_plain", **changes)


def stored(options):
    return sorted((Path(options.data.cache) / "activations").glob("*/shard-*.array_record"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_cached_activations_equal_those_of_single_utterances(options, dtype):
    plain, _ = uncached(options)
    job, reports = create(options, activation_dtype=dtype)
    params = job.state.params
    for cached_source, features in ((job.train, plain.train), (job.dev, plain.dev)):
        assert [entry.id for entry in cached_source.dataset.entries] == [entry.id for entry in features.dataset.entries]
        indices = [7, 0, 11]
        for index, item_SxC in zip(indices, cached_source.dataset.features_of(indices), strict=True):
            (x_TxM,) = features.dataset.features_of([index])
            alone = model.apply(params, x_TxM[None], jnp.array([len(x_TxM)]), TINY, last=9)[0]
            assert item_SxC.dtype == jnp.dtype(dtype) and item_SxC.shape == alone.shape
            rounding = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 0}[dtype]
            np.testing.assert_allclose(np.float32(item_SxC), alone, rtol=rounding, atol=1e-5 * abs(alone).max())
    hours = job.train.dataset.hours
    kilobytes = hours * 3600 * 62.5 * 24 * jnp.dtype(dtype).itemsize / 1e3
    assert activations.size(job.train.dataset, layers_of(job, dtype)) / 1e3 == pytest.approx(kilobytes, rel=0.02)
    assert sum("to be computed" in line for line in reports) == 2


def layers_of(job, dtype="float16"):
    return FrozenLayers(job.state.params, job.options.model, job.step_config.first_layer - 1, jnp.float32, dtype)


def first_update(job, batch):
    """Loss and gradient: with α = 1, the update of plain gradient descent is the gradient itself."""
    sgd = optax.sgd(1.0)
    before = jax.device_get(job.state.params)
    state = init_state(jax.tree.map(jnp.array, before), sgd, job.frozen)
    after, metrics = make_step(sgd, job.step_config)(state, batch)
    moved = jax.tree.map(lambda a, b: a - np.asarray(b), before, jax.device_get(after.params))
    return float(metrics["loss"]), freezing.partition(moved, job.frozen)[0]


@pytest.mark.parametrize(("layers", "prefix"), [("1", 1), ("9", 9), ("10", 10), ("1-3,9", 3)])
def test_loss_and_gradient_of_the_first_update_are_the_same(options, layers, prefix):
    job, reports = create(options, frozen_layers=layers, activation_dtype="float32", max_microbatch_frames=4 * 300)
    plain, _ = uncached(options, frozen_layers=layers, max_microbatch_frames=4 * 300)
    assert job.step_config.first_layer == prefix + 1
    assert any(f"activations of layer {prefix} for 24 utterances" in line for line in reports)
    indices = job.order.batch(0)
    batch, features = job.train.batch(indices, 8), plain.train.batch(indices, 8)
    assert batch.features_BxTxM.shape == (8, features.features_BxTxM.shape[1] // 2, 16 if prefix < 9 else 24)
    np.testing.assert_array_equal(batch.frames_B, features.frames_B)
    np.testing.assert_array_equal(batch.labels_BxL, features.labels_BxL)
    (loss, gradient), (expected_loss, expected_gradient) = first_update(job, batch), first_update(plain, features)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert gradient.keys() == expected_gradient.keys()
    for found, expected in zip(*map(jax.tree.leaves, (gradient, expected_gradient)), strict=True):
        assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


def losses(options):
    lines = (Path(options.run) / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {kind: [r["loss"] for r in records if r["kind"] == kind] for kind in ("train", "dev")}


def train(options):
    return training.train(training.create(options, lambda _: None), lambda _: None)


@pytest.mark.slow
def test_the_loss_curve_matches_the_uncached_one(options):
    cached = changed(options, steps=200, eval_every=100, every=100)
    plain = changed(cached, cache_activations=False, run=options.run + "_plain")
    train(cached), train(plain)
    for kind, expected in losses(plain).items():
        np.testing.assert_allclose(losses(cached)[kind], expected, rtol=0.005)
    assert losses(plain)["train"][-1] < 0.8 * losses(plain)["train"][0]


def test_activations_may_be_resident(options):
    job, _ = create(options)
    on = dataclasses.replace(job, options=changed(job.options, resident="on"))
    for read, computed in zip(feed.stream(job, 0), feed.stream(on, 0, lambda line: None), strict=True):
        assert read.features_BxTxM.shape[2] == TINY.top_width
        for a, b in zip(*map(jax.tree.leaves, (read, computed)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_resumed_run_is_bit_identical_and_recomputes_nothing(options, tmp_path):
    full = changed(options, steps=10, average_decay=0.9)
    train(full)
    written = {path: path.stat().st_mtime_ns for path in stored(options)}
    parts = dataclasses.replace(full, run=str(tmp_path / "parts"))

    def interrupt(line):
        if line.startswith("step 4"):
            os.kill(os.getpid(), signal.SIGTERM)

    first = training.train(training.create(parts, lambda _: None), interrupt)
    assert "SIGTERM" in first.reason
    job, reports = create(parts, resume=True)
    assert sum("stored already" in line for line in reports) == 2
    training.train(job, lambda _: None)
    a, b = (Run.open(x.run).restore_params("last") for x in (full, parts))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert losses(full) == losses(parts)
    assert len(written) == 2 and written == {path: path.stat().st_mtime_ns for path in stored(options)}
    with pytest.raises(UserError, match="cache_activations was True"):
        create(parts, resume=True, cache_activations=False)


def flip(params, name):
    """Flips the lowest bit of one weight."""
    kernel = np.array(params[name]["kernel"])
    kernel.view(np.uint32).flat[7] ^= 1
    return {**params, name: {**params[name], "kernel": kernel}}


def test_stale_entries_are_never_read(options):
    job, _ = create(options)
    data, layers = job.train.dataset, layers_of(job)
    params, config = layers.params, layers.config
    other = [
        dataclasses.replace(layers, params=flip(params, "layer_01")),
        dataclasses.replace(layers, params=flip(params, "layer_09")),
        dataclasses.replace(layers, count=8),
        dataclasses.replace(layers, config=dataclasses.replace(config, activation="relu")),
        dataclasses.replace(layers, stored_dtype="bfloat16"),
        dataclasses.replace(layers, compute_dtype=jnp.bfloat16),
    ]
    keys = [layers.fingerprint(data), *(changed.fingerprint(data) for changed in other)]
    keys += [layers.fingerprint(part) for part in (data.select(range(9)), data.subset(0.003), job.dev.dataset)]
    assert len(set(keys)) == 10
    # Trained layers, and equal arrays at another address, change nothing.
    same = dataclasses.replace(layers, params=flip(jax.tree.map(jnp.copy, params), "layer_10"))
    assert same.fingerprint(data) == keys[0]
    # The content is recomputed, not only renamed.
    plain, _ = uncached(options)
    params = jax.tree.map(np.asarray, params)
    doubled = {**params, "layer_09": jax.tree.map(lambda x: 2 * x, params["layer_09"])}
    changed = dataclasses.replace(layers, params=doubled, config=dataclasses.replace(config, activation="relu"))
    before = on_activations([plain.train], dataclasses.replace(layers, config=changed.config), options.data.cache, 8)
    after = on_activations([plain.train], changed, options.data.cache, 8)
    for a, b in zip(before[0].dataset.features_of(range(24)), after[0].dataset.features_of(range(24)), strict=True):
        np.testing.assert_allclose(2 * np.float32(a), np.float32(b), rtol=2e-3, atol=1e-4)


FILL = """
import json, os, signal, sys
from w2l_jax import activations, training
from w2l_jax.config import from_table
from w2l_jax.training.options import TrainOptions
activations._SHARD = 8
options, die_at = from_table(TrainOptions, json.loads(sys.argv[1]), "test"), int(sys.argv[2])
computed = 0
def progress(done, total, what):
    global computed
    if what.startswith("layers"):
        computed += 1
        if done == die_at: os.kill(os.getpid(), signal.SIGKILL)
training.create(options, lambda line: None, progress)
print(computed)
"""


def fill(options, die_at=-1):
    command = [sys.executable, "-c", FILL, json.dumps(dataclasses.asdict(options)), str(die_at)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_fill_resumes_and_two_processes_take_turns(options, monkeypatch):
    process = fill(options, die_at=19)  # in the third of three shards
    assert process.wait(120) == -signal.SIGKILL
    assert not Run.exists(options.run)
    written = {path.name: path.stat().st_mtime_ns for path in stored(options)}
    assert set(written) == {"shard-00000-of-00003.array_record", "shard-00001-of-00003.array_record"}
    both = [fill(dataclasses.replace(options, run=options.run + name)) for name in "ab"]
    out = [process.communicate(timeout=240) for process in both]
    assert all(process.returncode == 0 for process in both), out
    # One call reports the state, then one per utterance: 8 of train and 12 of dev were missing.
    assert sum(int(stdout) for stdout, _ in out) <= 8 + 12 + 4
    now = {path.name: path.stat().st_mtime_ns for path in stored(options)}
    assert written.items() <= now.items() and len(now) == 5
    monkeypatch.setattr(activations, "_SHARD", 8)
    job, reports = create(options)
    assert sum("stored already" in line for line in reports) == 2
    shutil.rmtree(Path(options.data.cache) / "activations")
    again, _ = create(options, run=options.run + "_again")
    for source, other in ((job.train, again.train), (job.dev, again.dev)):
        everything = range(len(source.dataset))
        for a, b in zip(source.dataset.features_of(everything), other.dataset.features_of(everything), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_damaged_cache_is_filled_again_or_named(options):
    job, _ = create(options)
    (shard,) = job.train.dataset.folder.glob("*.array_record")
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    _, reports = create(options, run=options.run + "2")
    assert sum("to be computed" in line for line in reports) == 1 and shard.read_bytes() == content
    flipped = bytearray(content)
    for place in range(0, len(content) // 2, 64):  # the rest is padding
        flipped[place] ^= 1
    shard.write_bytes(flipped)
    job, _ = create(options, run=options.run + "3")
    with pytest.raises(UserError, match=rf"{shard.name}: damaged .*delete the folder and run the same command again"):
        job.train.dataset.features_of(range(24))


def test_a_full_disk_is_refused_before_any_work(options, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 20_000))
    with pytest.raises(UserError, match=r"need 0\.07 MB more .* 0\.02 MB are free: .* give data\.cache"):
        create(options)
    assert not stored(options) and not Run.exists(options.run)
    monkeypatch.undo()
    create(options)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 0))
    create(options, run=options.run + "2")  # what is stored already needs no space


def test_values_beyond_the_stored_precision_are_refused(options):
    plain, _ = uncached(options)
    params = jax.tree.map(np.asarray, plain.state.params)
    loud = {**params, "layer_09": jax.tree.map(lambda x: 1e6 * x, params["layer_09"])}
    layers = FrozenLayers(loud, TINY, 9, jnp.float32, "float16")
    with pytest.raises(
        UserError, match=r"utterance german_0\d\d: .* float16 overflows at 65,504: .*freeze.activation_dtype=bfloat16"
    ):
        on_activations([plain.train], layers, options.data.cache, 8)
    assert not stored(options)
    wide = dataclasses.replace(layers, stored_dtype="bfloat16")
    (source,) = on_activations([plain.train], wide, options.data.cache, 8)
    values = np.concatenate(source.dataset.features_of(range(24))).astype(np.float32)
    assert np.isfinite(values).all() and values.max() > 65504
    broken = {**loud, "layer_08": jax.tree.map(lambda x: np.full_like(x, np.inf), params["layer_08"])}
    with pytest.raises(UserError, match=r"german_0\d\d: .*(inf|nan).*remove this recording"):
        on_activations([plain.train], dataclasses.replace(wide, params=broken), options.data.cache, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frozen_layers": "0"}, "does not freeze layer 1"),
        ({"frozen_layers": "2-9"}, "does not freeze layer 1"),
        ({"augment": AugmentOptions(time_masks=1)}, "and augment"),
        ({"augment": AugmentOptions(frequency_masks=1)}, "and augment"),
        ({"augment": AugmentOptions(speed=0.1)}, "and augment"),
        ({"augment": AugmentOptions(noise=0.1)}, "and augment"),
        ({"dropout": 0.1}, "and model.dropout"),
        ({"cache_activations": False, "activation_dtype": "float32"}, "freeze.activation_dtype"),
    ],
)
def test_contradictions_stop_before_any_work(options, changes, message):
    with pytest.raises(UserError, match=message):
        create(options, **changes)
    assert not stored(options) and not Run.exists(options.run)


@pytest.mark.parametrize("k", [8, 9, 10])
def test_the_cached_step_has_the_flops_of_the_layers_above(k):
    """At full width, compiled but not run: it does not contain the frozen layers' forward pass."""
    rows, frames, frozen = 2, 1500, frozenset(range(1, k + 1))
    optimizer, table = make_optimizer(TrainOptions(), frozen), model.layers(ModelConfig(), 33)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), ModelConfig(), 33))
    state = jax.eval_shape(lambda p: init_state(p, optimizer, frozen), params)
    record = FrozenLayers(params, ModelConfig(), k, jnp.float32, "float16").record
    batch = empty_batch(rows, Bucket(frames, 150), record)
    config = StepConfig(ModelConfig(), frozen, first_layer=k + 1)
    compiled = make_step(optimizer, config).lower(state, batch).compile()
    found = certify(compiled, state, table, (rows, frames), config)
    forward = sum(2 * rows * 750 * x.kernel * x.channels_in * x.channels_out for x in table[:k])
    expected = predicted_flops(table, rows, frames, frozen, k + 1)
    full = predicted_flops(table, rows, frames, frozenset())
    assert expected == predicted_flops(table, rows, frames, frozen) - forward
    # Compared with layer 11 alone, the loss is no longer small; casting its input adds 3 %.
    loss = loss_flops(rows, frames // 2, 33, 150)
    assert found.flops == pytest.approx(expected + loss, rel=0.04)
    assert found.flops_share_of_k0 == pytest.approx((expected + loss) / (full + loss), rel=0.04)
    assert found.first_layer == k + 1 and f"layers 1 to {k} are not run" in found.text()


def loss_flops(rows, frames, outputs, labels):
    shape = jax.ShapeDtypeStruct
    numbers = [shape(s, jnp.int32) for s in ((rows,), (rows, labels), (rows,))]
    gradient = jax.jit(jax.value_and_grad(lambda *target: ctc_loss(*target).sum()))
    cost = gradient.lower(shape((rows, frames, outputs), jnp.float32), *numbers).compile().cost_analysis()
    return (cost[0] if isinstance(cost, list) else cost)["flops"]
