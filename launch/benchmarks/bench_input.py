"""Whether the host delivers batches as fast as the step takes them, in the shape of the training loop."""

import functools
import json
import statistics
import string
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import soundfile

from benchmarks import BenchmarkOptions, Report, Table, interleaved
from w2l_jax import training
from w2l_jax.audio import SAMPLE_RATE
from w2l_jax.dataset.batches import prefetch
from w2l_jax.features import frame_count
from w2l_jax.model import ModelConfig, output_frames
from w2l_jax.training import augment, feed
from w2l_jax.training.job import Job
from w2l_jax.training.options import AugmentOptions, DataOptions, TrainOptions
from w2l_jax.training.step import make_step

_DEMO = ModelConfig(width=64, top_width=256)
_BATCHES = 4  # of different utterances
_AHEAD = 4  # steps until what was fetched before the first is used up
_READ = 16  # batches that are timed together
EVERY_AUGMENTATION = AugmentOptions(speed=0.1, frequency_masks=2, time_masks=2, room=0.5, noise=0.5, microphone=6.0)


def run(options: BenchmarkOptions, report: Report) -> Sequence[Table]:
    """Prepares random recordings, then times the host's part, the device's part, and the waits of updates."""
    sizes = {"demo": _DEMO, "full": options.model}
    with tempfile.TemporaryDirectory() as folder:
        report(f"input: preparing {_BATCHES * options.batch_size} recordings")
        manifest = write_corpus(Path(folder), options)
        jobs = {name: _job(manifest, options, config, name, EVERY_AUGMENTATION) for name, config in sizes.items()}
        plain = _job(manifest, options, _DEMO, "plain", AugmentOptions())
        alone = _time_parts(plain, jobs["demo"], options)
        rows = []
        for name, job in jobs.items():
            steps = 2 * options.repetitions
            report(f"input: {name}, {steps} + {_AHEAD} updates")
            waited, took = _waits(job, steps)
            share = sum(waited) / (sum(waited) + sum(took))
            widths = f"{job.options.model.width} and {job.options.model.top_width}"
            step = statistics.median(took)
            rows.append((f"{name} ({widths})", step, 1 / step, statistics.median(waited), max(waited), f"{share:.2%}"))
    shape = f"{options.batch_size} utterances of {options.seconds / 2} to {options.seconds} s"
    columns = ("network", "update s", "updates per second", "median wait s", "longest wait s", "share of time waiting")
    note = "Every augmentation on; an update waits while the device is idle and has no batch."
    return [
        Table(f"Input by itself: {shape}", ("batches", "seconds", "per second"), alone, "Files in memory."),
        Table(f"Updates waiting for batches: {shape}", columns, tuple(rows), note),
    ]


def write_corpus(folder: Path, options: BenchmarkOptions) -> Path:
    """Writes four batches of noise, of half to full length, with random texts; returns the manifest."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(_BATCHES * options.batch_size):
        samples = round(options.seconds * SAMPLE_RATE * rng.uniform(0.5, 1))
        soundfile.write(folder / f"{i:05d}.wav", rng.uniform(-0.5, 0.5, samples), SAMPLE_RATE)
        letters = min(options.labels, output_frames(frame_count(samples)) // 2)
        text = "".join(rng.choice(list(string.ascii_lowercase), letters))
        lines.append(json.dumps({"audio_filepath": f"{i:05d}.wav", "text": text, "lang": "en"}))
    manifest = folder / "train.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def _job(manifest: Path, options: BenchmarkOptions, config: ModelConfig, name: str, augment: AugmentOptions) -> Job:
    folder = manifest.parent
    # One padded shape: each more would be a compilation among the updates.
    data = DataOptions(train=str(manifest), cache=str(folder / "prepared"), buckets=1)
    run = str(folder / name)
    job_options = TrainOptions(run=run, batch_size=options.batch_size, data=data, model=config, augment=augment)
    return training.create(job_options, report=lambda line: None)


def _time_parts(plain: Job, job: Job, options: BenchmarkOptions) -> tuple[tuple[str, float, float], ...]:
    """Seconds per batch of the host's work, with as many threads as in training, and of the device's."""

    def read(job: Job, features: bool) -> None:
        def ready(step: int) -> None:
            jax.block_until_ready(job.devices.place(feed.sent(job, step, features)[1]))

        for _ in prefetch(range(_READ), ready):
            pass

    frames, item = feed.sent(job, 0, features=False)
    item, gather = job.devices.place(item), feed.gatherer(job.train, job.devices)
    store = feed.load(job.train, job.devices, lambda line: None)
    changed = jax.jit(functools.partial(augment.in_step, options=EVERY_AUGMENTATION))
    batch = next(feed.stream(job, 0))
    calls = {
        "read by the host": lambda: read(plain, features=True),
        "read by the host, with speeds": lambda: read(job, features=True),
        "resident, with speeds: the host's part": lambda: read(job, features=False),
        "resident: gathered by the device": lambda: [
            jax.block_until_ready(gather(store, item, frames)) for _ in range(_READ)
        ],
        "every augmentation, in the update": lambda: [
            jax.block_until_ready(changed(jax.random.key(0), batch)) for _ in range(_READ)
        ],
    }
    seconds = interleaved(calls, options.repetitions)
    return tuple((name, value / _READ, _READ / value) for name, value in seconds.items())


def _waits(job: Job, steps: int) -> tuple[list[float], list[float]]:
    """Seconds that each of `steps` updates waited for its batch, and seconds that it took."""
    step, state, clock = make_step(job.optimizer, job.step_config), job.state, []
    stream = feed.stream(job, 0)
    for _ in range(_AHEAD + steps):
        clock.append(time.perf_counter())
        batch = next(stream)
        clock.append(time.perf_counter())
        state, _ = jax.block_until_ready(step(state, batch))
    clock.append(time.perf_counter())
    stream.close()
    seconds = np.diff(clock).tolist()[2 * _AHEAD :]
    return seconds[::2], seconds[1::2]
