"""Updates per second of the training loop and of its step alone, in one run."""

import contextlib
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks import BenchmarkOptions, Report, Table
from benchmarks.bench_input import EVERY_AUGMENTATION, write_corpus
from w2l_jax import training
from w2l_jax.training import feed
from w2l_jax.training.job import Job
from w2l_jax.training.loop import update_of
from w2l_jax.training.options import AugmentOptions, DataOptions, LogOptions, TrainOptions

AUGMENTATIONS = {"as it is": AugmentOptions(), "every augmentation": EVERY_AUGMENTATION}
COLUMNS = ("input", "step alone, updates per second", "training, updates per second", "training ÷ step")
_EVERY = 10  # updates between lines in the log
_NEVER = 10**9


def run(options: BenchmarkOptions, report: Report) -> Sequence[Table]:
    """One table: features as they are, and with every augmentation, over `repetitions` × 10 updates each."""
    updates, rows = _EVERY * options.repetitions, []
    with tempfile.TemporaryDirectory() as folder:
        report("loop: preparing recordings")
        manifest = write_corpus(Path(folder), options)
        for name in AUGMENTATIONS:
            report(f"loop: {name}, {updates} updates of each")
            rows.append((name, *rates(training_job(manifest, options, name, updates))))
    lengths = f"{options.seconds / 2:g} to {options.seconds:g} s"
    widths = f"width {options.model.width} and {options.model.top_width}"
    title = f"The loop: {options.batch_size} utterances of {lengths}, {widths}"
    note = (
        "Medians of ten updates each, in turn. Step alone: one batch again and again. Training: from files to the log."
    )
    return [Table(title, COLUMNS, tuple(rows), note)]


def training_job(manifest: Path, options: BenchmarkOptions, name: str, updates: int, dtype: str = "float32") -> Job:
    """Trains on `manifest` with the augmentation `name`, without dev data, for ten updates more than timed."""
    folder = manifest.parent
    job_options = TrainOptions(
        run=str(folder / f"{name} {dtype}".replace(" ", "_")),
        steps=_EVERY + updates,
        batch_size=options.batch_size,
        compute_dtype=dtype,
        log=LogOptions(eval_every=_NEVER, checkpoint_every=_NEVER, every=_EVERY),
        # One padded shape, as for the step alone.
        data=DataOptions(train=str(manifest), cache=str(folder / "prepared"), buckets=1),
        model=options.model,
        augment=AUGMENTATIONS[name],
    )
    return training.create(job_options, lambda line: None)


def rates(job: Job) -> tuple[float, float, float]:
    """Updates per second of the step of `job` alone and of training, and their ratio.

    After every ten updates training stops for ten of the step alone, so that a busy machine disturbs both alike;
    medians count.
    """
    step = update_of(job)
    with contextlib.closing(feed.stream(job, 0, lambda line: None)) as stream:
        batch = next(stream)
    state, _ = step(job.devices.replicate(job.state), batch)
    clock: list[tuple[float, float, float]] = []

    def pause(*_: Any) -> None:
        nonlocal state
        begins = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))  # after training's last update, still running
        between = time.perf_counter()
        for _ in range(_EVERY):
            state, _ = step(state, batch)
        jax.block_until_ready(state)
        clock.append((begins, between, time.perf_counter()))

    fresh = dataclasses.replace(job, state=job.devices.replicate(job.state))
    if training.train(fresh, lambda line: None, pause).signal:
        raise KeyboardInterrupt  # it ended training, not the measurement
    both = list(itertools.pairwise(clock[: job.options.steps // _EVERY]))  # the last line is logged in two parts
    alone = [(end - begin) / _EVERY for _, (_, begin, end) in both]
    trained = [(begin - end) / (_EVERY - 1) for (_, _, end), (begin, _, _) in both]
    ratios = [one / other for one, other in zip(alone, trained, strict=True)]
    return 1 / statistics.median(alone), 1 / statistics.median(trained), statistics.median(ratios)
