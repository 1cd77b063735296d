"""Seconds of an update for each k (the paper's Figure 4), and the device's peak memory if it reports it."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import BenchmarkOptions, Report, Table, interleaved
from benchmarks import bench_memory as memory
from benchmarks.bench_memory import MIB, OUTPUTS, Variant
from w2l_jax import model
from w2l_jax.dataset.batches import Batch, empty_batch
from w2l_jax.dataset.shards import Record
from w2l_jax.model import output_frames
from w2l_jax.training.certificate import Certificate
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import TrainOptions
from w2l_jax.training.step import TrainState, init_state

_Compiled = dict[Variant, tuple[Any, Certificate]]


def random_batch(options: BenchmarkOptions) -> Batch:
    """A batch of noise on the device, every utterance of full length, with targets that fit."""
    rng = np.random.default_rng(0)
    shape = memory.bucket(options)
    batch = empty_batch(options.batch_size, shape, Record(128))
    batch.features_BxTxM[:] = rng.standard_normal(batch.features_BxTxM.shape)
    batch.labels_BxL[:] = rng.integers(1, OUTPUTS, batch.labels_BxL.shape)
    batch.frames_B[:] = shape.frames
    batch.label_lengths_B[:] = min(shape.labels, output_frames(shape.frames) // 2)
    return jax.device_put(batch)


def fresh_state(options: BenchmarkOptions, variant: Variant) -> TrainState:
    """The state before the first update of a variant."""
    config = memory.step_config(options, variant)
    params = model.init(jax.random.key(0), config.model, OUTPUTS)
    return init_state(params, make_optimizer(TrainOptions(), config.frozen), config.frozen)


def _updates(step: Any, state: TrainState, batch: Batch) -> Callable[[], None]:
    def update():
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics["loss"])
        jax.block_until_ready(state.step)

    return update


def _peaks(options: BenchmarkOptions, compiled: _Compiled, batch: Batch) -> dict[Variant, float | str]:
    """Peak MiB on the device after one update of each variant, or a dash if the device does not report it.

    The peak never falls, so variants run in the order of the compiler's figures.
    """
    device = jax.devices()[0]
    peaks: dict[Variant, float | str] = dict.fromkeys(compiled, "–")
    if not device.memory_stats():
        return peaks
    need = {v: c.temporary_bytes + c.argument_bytes for v, (_, c) in compiled.items()}
    for variant in sorted(compiled, key=need.get):
        _updates(compiled[variant][0], fresh_state(options, variant), batch)()
        peaks[variant] = device.memory_stats()["peak_bytes_in_use"] / MIB
    return peaks


def run(options: BenchmarkOptions, report: Report) -> Sequence[Table]:
    """One table: seconds of an update for each k, precision and `remat`, with the ratio to k = 0 of the same options.

    Variants with the same precision and `remat` take turns. On a CPU the default shapes take minutes per update: ask
    for fewer or shorter utterances.
    """
    compiled = {variant: (step, cost) for variant, step, cost in memory.compiled_variants(options, report)}
    batch = random_batch(options)
    peaks = _peaks(options, compiled, batch)
    rows = []
    for common, group in itertools.groupby(compiled, key=lambda variant: variant[1:]):
        report(f"timing {common[0]}, remat {'on' if common[1] else 'off'}")
        turns = {v: _updates(compiled[v][0], fresh_state(options, v), batch) for v in group}
        seconds = interleaved(turns, options.repetitions)
        first = next(iter(seconds.values()))
        for variant, value in seconds.items():
            cost = compiled[variant][1]
            speed = cost.flops / value / 1e9
            rows.append((*variant.cells, value, value / first, speed, cost.temporary_bytes / MIB, peaks[variant]))
    columns = ("k", "dtype", "remat", "seconds", "to k = 0", "GFLOP/s", "temporary MiB", "device peak MiB")
    return (Table(f"Step: {memory.title(options)}", columns, tuple(rows), memory.note()),)
