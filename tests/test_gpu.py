"""Tests that need a GPU: `pytest -m gpu`, two minutes; skipped without one."""

import dataclasses
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import BenchmarkOptions
from benchmarks.bench_losses import case, ctc_gradient
from w2l_jax import losses, model, training
from w2l_jax.alphabet import preset
from w2l_jax.dataset.batches import Batch, Bucket
from w2l_jax.model import ModelConfig
from w2l_jax.run import Run
from w2l_jax.training.certificate import compile_step, predicted_flops
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import AugmentOptions, DataOptions, LogOptions, TrainOptions
from w2l_jax.training.step import StepConfig, init_state

CONFIG = ModelConfig(width=125, top_width=1000, initializer="he_uniform")
ALPHABET = preset("german")
ROWS, FRAMES, LABELS, MELS = 16, 800, 40, 128
FROZEN = (10, 8, 0)  # a memory peak never falls: smallest first


@pytest.fixture(autouse=True, scope="module")
def _gpu():
    if jax.default_backend() == "cpu" and not os.environ.get("W2L_JAX_GPU_TESTS_ON_CPU"):
        pytest.skip("no GPU")


pytestmark = pytest.mark.gpu


def on_a_gpu():
    return jax.default_backend() != "cpu"


def random_batch(seed=0):
    rng = np.random.default_rng(seed)
    frames_B = rng.integers(FRAMES // 2, FRAMES + 1, ROWS).astype(np.int32)
    features_BxTxM = rng.standard_normal((ROWS, FRAMES, MELS), np.float32).astype(np.float16)
    labels_BxL = rng.integers(1, ALPHABET.size, (ROWS, LABELS)).astype(np.int32)
    return Batch(features_BxTxM, frames_B, labels_BxL, rng.integers(1, LABELS + 1, ROWS).astype(np.int32))


def frozen(k):
    return frozenset(range(1, k + 1))


def fresh_state(k):
    return init_state(
        model.init(jax.random.key(0), CONFIG, ALPHABET.size), make_optimizer(TrainOptions(), frozen(k)), frozen(k)
    )


@pytest.fixture(scope="module")
def compiled():
    """The compiled update at each k, with its cost."""

    def compile_at(k):
        config = StepConfig(CONFIG, frozen(k))
        return compile_step(
            make_optimizer(TrainOptions(), config.frozen), config, ROWS, Bucket(FRAMES, LABELS), ALPHABET
        )

    with ThreadPoolExecutor() as threads:
        return dict(zip(FROZEN, threads.map(compile_at, FROZEN), strict=True))


def test_memory_matches_the_forecast(compiled):
    """The planner's forecast: arguments, temporaries and new outputs."""
    device = jax.devices()[0]
    if not device.memory_stats():
        pytest.skip("this device does not tell its memory")
    for k in FROZEN:
        step, cost = compiled[k]
        before, highest = device.memory_stats()["bytes_in_use"], device.memory_stats()["peak_bytes_in_use"]
        state, batch = fresh_state(k), jax.device_put(random_batch())
        jax.block_until_ready(step(state, batch))
        peak = device.memory_stats()["peak_bytes_in_use"]
        forecast = cost.temporary_bytes + cost.argument_bytes + cost.output_bytes - cost.reused_bytes
        print(f"k = {k}: forecast {forecast / 2**20:.0f} MiB, peak {(peak - before) / 2**20:.0f} MiB")
        assert peak > highest, f"k = {k}: something before took more"
        assert 0.7 * forecast < peak - before < 1.1 * forecast


@pytest.mark.parametrize("k", FROZEN)
def test_flops_match_the_layer_table(compiled, k):
    table = model.layers(CONFIG, ALPHABET.size)
    assert compiled[k][1].flops == pytest.approx(predicted_flops(table, ROWS, FRAMES, frozen(k)), rel=0.05)


@pytest.mark.parametrize("k", FROZEN)
def test_the_state_is_donated_and_frozen_layers_stay_bit_identical(compiled, k):
    step, cost = compiled[k]
    assert cost.reused_bytes >= cost.optimizer_bytes + 4 * cost.trained_parameters
    # Not from the same state: on a CPU, arrays that are in use are not donated.
    before, first = jax.device_get(fresh_state(k).params), fresh_state(k)
    state = first
    for seed in range(5):
        state, _ = step(state, jax.device_put(random_batch(seed)))
    moved = [model.layer_name(number) for number in range(k + 1, model.LAYERS + 1)]
    assert all(first.params[name]["kernel"].is_deleted() for name in moved)
    for name, layer in before.items():
        for leaf in ("kernel", "bias"):
            same = np.asarray(state.params[name][leaf]).tobytes() == layer[leaf].tobytes()
            assert same == (name not in moved), (name, leaf)


@pytest.mark.parametrize(
    ("dtype", "precision", "most"), [("float32", "highest", 1e-5), ("float32", None, 2e-2), ("bfloat16", None, 0.2)]
)
def test_padding_and_batch_mates_never_change_an_answer(dtype, precision, most):
    """Exact to 1e-5 at the highest precision; TF32, a GPU's default for float32, and bfloat16 round by more."""
    params, batch = model.init(jax.random.key(0), CONFIG, ALPHABET.size), random_batch()
    settings = {"dtype": jnp.dtype(dtype), "precision": precision}
    batched = np.asarray(model.apply(params, batch.features_BxTxM, batch.frames_B, CONFIG, **settings))
    worst = 0.0
    for row in range(4):
        frames = batch.frames_B[row]
        alone_1xTxM, count = batch.features_BxTxM[row : row + 1, :frames], batch.frames_B[row : row + 1]
        alone = np.asarray(model.apply(params, alone_1xTxM, count, CONFIG, **settings))[0]
        apart = np.abs(batched[row, : len(alone)] - alone).max() / max(1.0, np.abs(alone).max())
        worst = max(worst, float(apart))
    print(f"{dtype}, precision {precision}: {worst:.2g}")
    assert worst <= most


def test_ctc_against_float64():
    logits_BxSxV, *target = case(BenchmarkOptions("losses", batch_size=8, seconds=6.0, labels=100))
    gradient = np.asarray(jax.jit(jax.grad(lambda x: losses.ctc_loss(x, *target).sum()))(logits_BxSxV))
    for row, found_SxV in enumerate(gradient):
        expected_SxV = ctc_gradient(*(np.asarray(x[row]) for x in (logits_BxSxV, *target)))
        np.testing.assert_allclose(found_SxV, expected_SxV, atol=2e-5)


@pytest.fixture
def options(tones, cache, tmp_path):
    data = DataOptions(
        train=str(tones / "train.jsonl"), dev=str(tones / "dev.jsonl"), cache=str(cache), buckets=1, workers=1
    )
    augment = AugmentOptions(frequency_masks=1, time_masks=1, speed=0.1, room=0.5, noise=0.5, microphone=6.0)
    return TrainOptions(
        run=str(tmp_path / "whole"), steps=12, batch_size=8, data=data, augment=augment,
        model=ModelConfig(width=32, top_width=64), log=LogOptions(eval_every=4, checkpoint_every=4, every=2),
    )  # fmt: skip


def train(options, report=lambda line: None):
    return training.train(training.create(options, report), report)


def test_there_are_no_implicit_transfers(options):
    job = training.create(options, lambda line: None)
    with jax.transfer_guard("disallow"):
        assert training.train(job, lambda line: None).position.step == 12
        if on_a_gpu():
            with pytest.raises(Exception, match=r"[Dd]isallowed"):  # the guard itself makes one
                float(job.state.step + job.state.step)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_interrupted_and_resumed_is_bit_identical(options, dtype):
    full = dataclasses.replace(options, compute_dtype=dtype)
    train(full)
    parts = dataclasses.replace(full, run=str(Path(full.run).with_name("parts")))
    train(parts, lambda line: line.startswith("step 4: dev") and os.kill(os.getpid(), signal.SIGTERM))
    assert Run.open(parts.run).pointers()["last"] in (4, 5)
    train(dataclasses.replace(parts, resume=True))
    a, b = (jax.tree.leaves(Run.open(each.run).restore_params("last")) for each in (full, parts))
    assert all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))
