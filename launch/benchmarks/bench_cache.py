"""The gain of the activation cache: updates per second from disk to new weights, with and without it."""

import os
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import BenchmarkOptions, Report, Table, interleaved
from w2l_jax import model
from w2l_jax.activations import FrozenLayers, on_activations
from w2l_jax.alphabet import preset
from w2l_jax.dataset.batches import Source, prefetch
from w2l_jax.dataset.shards import Record, Result, Shard, write_shards
from w2l_jax.dataset.store import Dataset, Entry
from w2l_jax.features import FRAME_SECONDS, FeatureConfig
from w2l_jax.files import text_digest
from w2l_jax.model import ModelConfig
from w2l_jax.training.certificate import CompiledStep
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import TrainOptions
from w2l_jax.training.step import StepConfig, init_state, make_step

_CACHED = 8, 9, 10
# Per measurement: each waits for its first batch, and an update on features takes a minute on two cores.
_UPDATES = {False: 1, True: 4}


def run(options: BenchmarkOptions, report: Report) -> list[Table]:
    """Times updates on random features for k = 0, 8, 9, 10 and, cached, 8, 9, 10, in turns.

    Timing starts with files that are not in memory (if the system can drop them) and ends with the new weights.
    """
    config = options.model
    with tempfile.TemporaryDirectory(prefix="w2l-cache-") as folder:
        source = _synthetic(Path(folder), options)
        params = jax.device_get(model.init(jax.random.key(0), config, source.dataset.alphabet.size))
        sources, fill_seconds = {(k, False): source for k in (0, *_CACHED)}, {}
        for k in _CACHED:
            layers = FrozenLayers(params, config, k, jnp.float32, "float16")
            started = time.perf_counter()
            (sources[k, True],) = on_activations([source], layers, folder, options.batch_size, report)
            fill_seconds[k] = time.perf_counter() - started
        calls = {str(key): _updates(key[0], place, config, params, options) for key, place in sources.items()}
        report(f"timing {len(calls)} variants, {options.repetitions} times each")
        medians = interleaved(calls, options.repetitions)
        seconds = {key: medians[str(key)] / _UPDATES[key[1]] for key in sources}
        hours = source.dataset.hours
        rows = [
            _row(*key, place.dataset, seconds, fill_seconds.get(key[0], 0.0) / hours if key[1] else 0.0, options)
            for key, place in sorted(sources.items())
        ]
    columns = (
        "k", "cached", "updates/s", "× k = 0", "× same k uncached", "MB read per update", "GB on disk per hour of "
        "speech",
        "seconds to fill per hour of speech",
    )  # fmt: skip
    title = f"Updates of {options.batch_size} × {options.seconds:g} s, end to end: activations computed and cached"
    note = (
        f"Width {config.width}, top width {config.top_width}, {options.labels} labels, float32 arithmetic, float16 "
        "stores. Reading, padding and copying to the device are in; of each measurement the first batch is waited for."
    )
    return [Table(title, columns, tuple(rows), note)]


def _row(
    k: int, cached: bool, dataset: Dataset, seconds: dict[Any, float], fill: float, options: BenchmarkOptions
) -> tuple[Any, ...]:
    here = seconds[k, cached]
    return (
        k, "yes" if cached else "no", 1 / here, seconds[0, False] / here, seconds[k, False] / here,
        options.batch_size * dataset.record.bytes(dataset.entries[0].frames) / 1e6,
        sum(path.stat().st_size for path in dataset.folder.glob("*.array_record")) / 1e9 / dataset.hours, fill,
    )  # fmt: skip


def _synthetic(folder: Path, options: BenchmarkOptions) -> Source:
    """A dataset of noise, two batches of it, with random texts."""
    rng = np.random.default_rng(0)
    count, frames, alphabet = 2 * options.batch_size, max(round(options.seconds / FRAME_SECONDS), 1), preset("english")
    texts = ["".join(rng.choice(list("abcdefghij"), options.labels)) for _ in range(count)]
    entries = tuple(
        Entry(f"{i:05d}", text, text, "", "", "english", "", frames, options.seconds) for i, text in enumerate(texts)
    )
    shard = Shard(0, "shard-00000-of-00001.array_record", range(count), "made up")
    record = Record(FeatureConfig().mels)

    def noise(indices: Any) -> Generator[Result, None, None]:
        for index in indices:
            yield rng.standard_normal((frames, record.channels), np.float32).astype(np.float16), {"id": index}

    write_shards(folder, [shard], noise, lambda *_: None)
    fingerprint = text_digest(repr(options))
    empty = Dataset(folder, entries, alphabet, FeatureConfig(), "english", fingerprint, {}, (), None)
    dataset = empty.stored_as(record, folder, [shard.name], [(0, i) for i in range(count)])
    return Source.create(dataset, alphabet, 1, options.batch_size)


def _updates(
    k: int, source: Source, config: ModelConfig, params: model.Params, options: BenchmarkOptions
) -> Callable[[], None]:
    """A call that makes a few updates on `source` with k layers frozen and waits for the weights."""
    cached = source.dataset.record.layer > 0
    frozen = frozenset(range(1, k + 1))
    optimizer = make_optimizer(TrainOptions(), frozen)
    step = CompiledStep(make_step(optimizer, StepConfig(config, frozen, first_layer=source.dataset.record.layer + 1)))
    states = [init_state(jax.tree.map(jnp.array, params), optimizer, frozen)]

    def placed(number: int) -> Any:
        indices = np.random.default_rng(number).permutation(len(source.dataset))[: options.batch_size]
        return jax.device_put(source.batch(indices, options.batch_size))

    def call() -> None:
        _let_go(source.dataset.folder)
        state = states.pop()
        for batch in prefetch(range(_UPDATES[cached]), placed):
            state, _ = step(state, batch)
        states.append(jax.block_until_ready(state))

    return call


def _let_go(folder: Path) -> None:
    """Asks the system to drop the files' content from memory."""
    for path in folder.glob("*.array_record"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
