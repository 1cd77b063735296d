"""Speed and memory of decoding the logits of a trained network."""

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

import latest
import w2l_jax
from benchmarks import BenchmarkOptions, Report, Table, interleaved
from benchmarks.first_search import Search
from w2l_jax import inference, metrics
from w2l_jax.dataset.store import Dataset, open_dataset
from w2l_jax.decoding.beam import BeamConfig
from w2l_jax.decoding.pool import DecoderPool
from w2l_jax.errors import UserError
from w2l_jax.recognizer import Recognizer
from w2l_jax.workers import WorkerPool, usable_cores

_WIDTHS = (16, 100, 500)
Logits = list[np.ndarray]


def run(options: BenchmarkOptions, report: Report) -> Sequence[Table]:
    """Decodes the logits of a run with each search in a separate process, then with one search in several processes."""
    name = options.run or latest.choose(latest.LATEST)
    trained = w2l_jax.load(name, lm=options.lm)
    lm = trained.decoder.lm
    if not options.data or not lm:
        raise UserError("--what=decode: give --data (a prepared folder) and, if the run has none of its own, --lm")
    dataset = open_dataset(options.data)
    dataset = dataset.select(np.linspace(0, len(dataset) - 1, min(options.limit, len(dataset))).astype(int))
    report(f"decode: logits of {len(dataset)} utterances")
    logits = _logits(trained, dataset)
    searches = [Search(trained.alphabet, *what) for what in [(), *((w, m) for m in ("", lm) for w in _WIDTHS)]]
    rows = []
    for search in searches:
        report(f"decode: {search.name}")
        rows.append((search.name, *_measure(search, logits, dataset, options.repetitions)))
    report(f"decode: {searches[-1].name} in several processes")
    seconds = dataset.hours * 3600
    shape = f"{len(dataset)} utterances of {Path(options.data).name}, {seconds:.0f} s, by {name}"
    columns = ("search", "ms per second of speech", "× real time per core", "peak MB", "LER", "WER")
    note = f"Processor time, and the peak of a process that does nothing else. Language model: {Path(lm).name}."
    return [
        Table(f"Searching {shape}", columns, tuple(rows), note),
        _scaling(searches[-1], logits, seconds, options.repetitions),
    ]


def _logits(trained: Recognizer, dataset: Dataset) -> Logits:
    params = jax.device_put(trained.params)
    features = dataset.features_of(range(len(dataset)))
    return [inference.logits(params, features_TxM, trained.model) for features_TxM in features]


def _measure(
    search: Search, logits: Logits, dataset: Dataset, repetitions: int
) -> tuple[float, float, float, str, str]:
    with WorkerPool(search, 1) as process:
        took, peak, texts = next(process.in_order([(logits, repetitions)]))
    pairs = zip(dataset.entries, texts, strict=True)
    rates = metrics.rates([metrics.utterance_errors(entry.transcript, text) for entry, text in pairs])
    seconds = dataset.hours * 3600
    return 1000 * took / seconds, seconds / took, peak, f"{rates.ler:.1%}", f"{rates.wer:.1%}"


def _scaling(search: Search, logits: Logits, seconds: float, repetitions: int) -> Table:
    cores = usable_cores()
    config = BeamConfig(beam_width=search.width)
    with contextlib.ExitStack() as stack:
        pools = {
            workers: stack.enter_context(DecoderPool(search.alphabet, search.lm, config, workers))
            for workers in sorted({1, 2, cores})
        }
        took = interleaved(
            {workers: functools.partial(_drain, pool, logits) for workers, pool in pools.items()}, repetitions
        )
    rows = [(workers, value, seconds / value, took[1] / value) for workers, value in took.items()]
    columns = ("processes", "seconds", "× real time", "speed-up")
    note = f"{cores} cores to use; wall clock, processes already running, logits sent to them."
    return Table(f"{search.name} in several processes", columns, tuple(rows), note)


def _drain(pool: DecoderPool, logits: Logits) -> None:
    for _ in pool.decode(logits):
        pass
