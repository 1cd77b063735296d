"""Updates a second of the training loop beside those of its step alone, in one run."""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax

from benchmarks import BenchmarkOptions, Report, Table
from benchmarks.bench_input import EVERY_AUGMENTATION, write_corpus
from w2l_jax import training
from w2l_jax.dataset.batches import Batch
from w2l_jax.training import feed
from w2l_jax.training.certificate import CompiledStep
from w2l_jax.training.job import Job
from w2l_jax.training.loop import update_of
from w2l_jax.training.options import AugmentOptions, DataOptions, LogOptions, TrainOptions

SETTINGS = {"as it is": AugmentOptions(), "every augmentation": EVERY_AUGMENTATION}
COLUMNS = ("input", "step alone, updates a second", "training, updates a second", "training ÷ step")
_EVERY = 10  # updates between lines in the log
_NEVER = 10**9


def run(options: BenchmarkOptions, report: Report) -> Sequence[Table]:
    """One table: features as they are, and with every augmentation, over `repetitions` × 10 updates each."""
    updates, rows = _EVERY * options.repetitions, []
    with tempfile.TemporaryDirectory() as folder:
        report("loop: preparing recordings")
        manifest = write_corpus(Path(folder), options)
        for name in SETTINGS:
            report(f"loop: {name}, {updates} updates of each")
            rows.append((name, *rates(training_job(manifest, options, name, updates))))
    lengths = f"{options.seconds / 2:g} to {options.seconds:g} s"
    widths = f"width {options.model.width} and {options.model.top_width}"
    title = f"The loop: {options.batch_size} utterances of {lengths}, {widths}"
    note = "Step alone: one batch again and again, before and after training. Training: from files to lines of the log."
    return [Table(title, COLUMNS, tuple(rows), note)]


def training_job(manifest: Path, options: BenchmarkOptions, name: str, updates: int, dtype: str = "float32") -> Job:
    """Training on `manifest` with the augmentation called `name`, without dev data, for ten updates more than asked."""
    folder = manifest.parent
    wanted = TrainOptions(
        run=str(folder / f"{name} {dtype}".replace(" ", "_")),
        steps=_EVERY + updates,
        batch_size=options.batch_size,
        compute_dtype=dtype,
        log=LogOptions(eval_every=_NEVER, checkpoint_every=_NEVER, every=_EVERY),
        # One padded shape: the step alone has one, too.
        data=DataOptions(train=str(manifest), cache=str(folder / "prepared"), buckets=1),
        model=options.model,
        augment=SETTINGS[name],
    )
    return training.create(wanted, lambda line: None)


def rates(job: Job) -> tuple[float, float, float]:
    """Updates a second of the step of `job` alone and of training, and the second by the first."""
    step, stream = update_of(job), feed.stream(job, 0, lambda line: None)
    batch = next(stream)
    stream.close()
    seconds = _time_steps(job, step, batch)
    clock: dict[int, float] = {}
    fresh = dataclasses.replace(job, state=job.devices.replicate(job.state))
    training.train(fresh, lambda line: None, lambda at, _: clock.setdefault(at.step, time.perf_counter()))
    trained = (job.options.steps - _EVERY) / (clock[job.options.steps] - clock[_EVERY])
    alone = 2 / (seconds + _time_steps(job, step, batch))
    return alone, trained, trained / alone


def _time_steps(job: Job, step: CompiledStep, batch: Batch) -> float:
    """Seconds of an update."""
    updates = job.options.steps - _EVERY
    state, _ = jax.block_until_ready(step(job.devices.replicate(job.state), batch))
    started = time.perf_counter()
    for _ in range(updates):
        state, _ = step(state, batch)
    jax.block_until_ready(state)
    return (time.perf_counter() - started) / updates
