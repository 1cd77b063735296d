"""Hours of speech whose features are computed in an hour: with librosa and in JAX."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import BenchmarkOptions, Report, Table, interleaved
from w2l_jax import features
from w2l_jax.audio import SAMPLE_RATE
from w2l_jax.features_jax import spectrograms
from w2l_jax.workers import usable_cores


def run(options: BenchmarkOptions, report: Report) -> Sequence[Table]:
    """Both paths on the same waveforms in memory, from and to NumPy."""
    samples, rows = round(options.seconds * SAMPLE_RATE), options.batch_size
    waveforms_BxN = np.random.default_rng(0).uniform(-0.5, 0.5, (rows, samples)).astype(np.float32)
    samples_B = np.full(rows, samples)
    cpu: dict[str, list[float]] = {"librosa": [], "JAX": []}

    def librosa() -> None:
        for waveform_N in waveforms_BxN:
            features.spectrogram(waveform_N)

    def ours() -> None:
        jax.device_get(spectrograms(waveforms_BxN, samples_B))

    report(f"features: {rows} recordings of {options.seconds} s")
    calls = {"librosa": _on_the_clock(librosa, cpu["librosa"]), "JAX": _on_the_clock(ours, cpu["JAX"])}
    wall = interleaved(calls, options.repetitions)
    speech = rows * options.seconds
    # The first measurement of each is that of its compilation.
    table_rows = [(name, wall[name], speech / wall[name], speech / statistics.median(cpu[name][1:])) for name in calls]
    columns = ("path", "seconds", "hours per hour", "hours per hour per core")
    cores = usable_cores()
    note = f"{cores} cores to use; per core: by processor time. librosa works through them one by one, JAX as a batch."
    return [Table(f"Features of {rows} × {options.seconds} s", columns, tuple(table_rows), note)]


def _on_the_clock(call: Callable[[], Any], seconds: list[float]) -> Callable[[], None]:
    """`call`, its processor time added to `seconds`."""

    def clocked() -> None:
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)

    return clocked
