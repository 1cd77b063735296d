"""Updates a second of the training loop beside those of its step alone, in one run."""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks import BenchmarkOptions, Report, Table
from benchmarks.bench_input import write_corpus
from w2l_jax import training
from w2l_jax.model import ModelConfig
from w2l_jax.training.certificate import CompiledStep
from w2l_jax.training.job import Job
from w2l_jax.training.loop import batches
from w2l_jax.training.options import AugmentOptions, DataOptions, LogOptions, TrainOptions
from w2l_jax.training.step import make_step

AUGMENTED = AugmentOptions(
    frequency_masks=2, time_masks=2, speed=0.1, room=0.3, noise=0.5, microphone=6.0
)  # everything there is
_EVERY = 10  # updates between lines in the log
_NEVER = 10**9
_COLUMNS = ("input", "step alone, updates a second", "training, updates a second", "training ÷ step")


def run(options: BenchmarkOptions, report: Report) -> Sequence[Table]:
    """One table: features as they are, and with every augmentation, over `repetitions` × 10 updates each."""
    updates = _EVERY * options.repetitions
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        report("loop: preparing recordings")
        manifest = write_corpus(Path(folder), options)
        for name, augment in (("as it is", AugmentOptions()), ("all augmentation", AUGMENTED)):
            report(f"loop: {name}, {updates} updates each way")
            wanted = train_options(manifest, options, augment, name.replace(" ", "_"), updates)
            rows.append((name, *rates(training.create(wanted, lambda line: None), updates)))
    title = f"The loop: {options.batch_size} utterances of {options.seconds / 2:g} to {options.seconds:g} s, width "
    note = "Step alone: one batch again and again, before and after training. Training: from files to the log's lines."
    return [Table(f"{title}{options.width} and {options.top_width}", _COLUMNS, tuple(rows), note)]


def train_options(
    manifest: Path, options: BenchmarkOptions, augment: AugmentOptions, name: str, updates: int, dtype: str = "float32"
) -> TrainOptions:
    """What trains on `manifest` for `updates` after as many as one line of the log takes, without dev data."""
    return TrainOptions(
        run=str(manifest.parent / name),
        steps=_EVERY + updates,
        batch_size=options.batch_size,
        compute_dtype=dtype,
        log=LogOptions(eval_every=_NEVER, checkpoint_every=_NEVER, every=_EVERY),
        # One padded shape: the step alone has one, too.
        data=DataOptions(train=str(manifest), cache=str(manifest.parent / "prepared"), buckets=1),
        model=ModelConfig(options.width, options.top_width),
        augment=augment,
    )


def rates(job: Job, updates: int) -> tuple[float, float, float]:
    """Updates a second of the step of `job` alone, of training, and the second by the first."""
    step = CompiledStep(make_step(job.optimizer, job.step_config))
    batch = job.devices.place(next(batches(job, 0)))
    before = _alone(job, step, batch, updates)
    clock: dict[int, float] = {}
    kept = dataclasses.replace(job, state=_copy(job))
    training.train(kept, lambda line: None, lambda at, _: clock.setdefault(at.step, time.perf_counter()))
    first, last = min(clock), max(clock)
    trained = (last - first) / (clock[last] - clock[first])
    alone = 2 / (1 / before + 1 / _alone(job, step, batch, updates))
    return alone, trained, trained / alone


def _copy(job: Job):
    return job.devices.replicate(jax.tree.map(jnp.array, job.state))


def _alone(job: Job, step: CompiledStep, batch, updates: int) -> float:
    state, _ = step(_copy(job), batch)
    jax.block_until_ready(state)
    started = time.perf_counter()
    for _ in range(updates):
        state, _ = step(state, batch)
    jax.block_until_ready(state)
    return updates / (time.perf_counter() - started)
