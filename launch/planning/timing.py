"""Seconds of a plan's updates, measured on few utterances if all would take long."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from planning.costs import Cost, Work, compiled, fixed_flops, frozen_layers_of
from w2l_jax import activations, config, freezing, model, transfer
from w2l_jax.dataset.batches import Batch, empty_batch
from w2l_jax.training.certificate import predicted_flops
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import TrainOptions
from w2l_jax.training.step import init_state

# A few seconds on two cores; on an accelerator a whole update.
_LARGEST_ON_CPU = 250e9
_SECONDS = 5.0


def timed(cost: Cost, work: Work) -> Cost:
    """The cost with its seconds: timed on part of the utterances and scaled by their number.

    Adam's share, which does not grow with them, is scaled too, so the forecast is rather too high for few utterances.
    Muon's larger share is measured separately.
    """
    options, fixed = cost.options, fixed_flops(cost.options, work)
    scale = work.mean_frames / work.frames
    rows = _rows(options.batch_size, (cost.gflop * 1e9 - fixed) / scale)
    limit = options.memory.max_microbatch_frames
    if limit:  # a loop stays one
        rows = max(rows, 2)
        limit = min(limit, max(rows // 2, 1) * work.frames)
    changes = {"batch_size": rows, "memory.max_microbatch_frames": limit}
    seconds = _update_seconds(config.changed(options, changes), work)
    once = min(_optimizer_seconds(options, work), seconds) if fixed else 0.0
    fill = _fill_seconds(cost, work) if options.freeze.cache_activations else 0.0
    seconds = (seconds - once) * options.batch_size / rows * scale + once
    return dataclasses.replace(cost, seconds=seconds, fill_seconds=fill)


def _rows(rows: int, flops: float) -> int:
    """How many of `rows` utterances, which take `flops`, to time: a divisor."""
    if jax.default_backend() != "cpu":
        return rows
    return next((n for n in range(rows, 0, -1) if rows % n == 0 and flops * n / rows <= _LARGEST_ON_CPU), 1)


def _update_seconds(options: TrainOptions, work: Work) -> float:
    step, _ = compiled(options, work)
    frozen = freezing.parse_layers(options.frozen_layers)
    params = transfer.init(jax.random.key(0), options.model, work.alphabet, work.mels)
    state = init_state(params, make_optimizer(options, frozen), frozen, options.optimizer.average_decay > 0)
    record = frozen_layers_of(options, work).record if options.freeze.cache_activations else work.source.dataset.record
    batch = _noise(options.batch_size, work, record, options.augment.speed > 0)

    def update() -> None:
        nonlocal state
        state, _ = step(state, batch)
        jax.block_until_ready(state)

    return _best(update)


def _optimizer_seconds(options: TrainOptions, work: Work) -> float:
    frozen = freezing.parse_layers(options.frozen_layers)
    params = transfer.init(jax.random.key(0), options.model, work.alphabet, work.mels)
    optimizer = make_optimizer(options, frozen)
    update, state = jax.jit(optimizer.update), optimizer.init(params)
    jax.block_until_ready(update(params, state, params))  # compiled
    return _best(lambda: jax.block_until_ready(update(params, state, params)))


def _fill_seconds(cost: Cost, work: Work) -> float:
    """Seconds to compute the activations of all data, without reading and writing."""
    options, frames = cost.options, work.frames
    layers = frozen_layers_of(options, work)
    table = model.layers(options.model, work.alphabet.size, work.mels)
    most = activations.rows_at_once(options.batch_size // cost.microbatches)
    shape = (table[: layers.count], most, frames, frozenset(range(1, layers.count + 1)))
    rows = _rows(most, predicted_flops(*shape))
    run = activations.compile_filling(layers, rows, frames, work.mels)
    params = model.init(jax.random.key(0), options.model, table[-1].channels_out, work.mels)
    prefix = jax.device_put(dataclasses.replace(layers, params=params).prefix)
    batch = _noise(rows, work, work.source.dataset.record)
    seconds = _best(lambda: jax.block_until_ready(run(prefix, batch.features_BxTxM, batch.frames_B)))
    return seconds / rows * len(work.source.dataset) * work.mean_frames / frames


def _noise(rows: int, work: Work, record: Any, speeds: bool = False) -> Batch:
    bucket = work.source.buckets[-1]
    batch = empty_batch(rows, bucket, record, speeds)
    batch.features_BxTxM[:] = np.random.default_rng(0).standard_normal(batch.features_BxTxM.shape[1:], np.float32)
    batch.frames_B[:] = bucket.frames
    return jax.device_put(batch)


def _best(call: Callable[[], Any]) -> float:
    """The least seconds of three calls, or fewer if they take long."""
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < _SECONDS:
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
