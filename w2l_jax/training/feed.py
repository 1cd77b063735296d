"""The batches of a training job on its devices: what the host reads for a step, and what the devices make of it."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from w2l_jax.dataset.batches import Batch, empty_batch, prefetch
from w2l_jax.training import augment
from w2l_jax.training.job import Job


class Sent(NamedTuple):
    """What the host sends for a step."""

    batch: Batch
    """Its features are as they are stored, all else is as the step sees it."""
    stored_B: Any
    """The number of frames that are stored."""
    speed_B: Any
    """How much faster than recorded to play the features (None: all as recorded)."""


def stream(job: Job, first: int) -> Iterator[Batch]:
    """The batches of the steps from `first` (from 0) to the last: a function of the seed and the step alone."""
    play = jax.jit(job.devices.by_rows(_played))
    waiting = prefetch(range(first, job.options.steps), lambda step: job.devices.place(sent(job, step)))
    with contextlib.closing(waiting):
        for batch, stored_B, speed_B in waiting:
            yield batch if speed_B is None else play(batch, stored_B, speed_B)


def shapes(job: Job) -> list[Batch]:
    """The shapes that the batches of `stream` may take, and where their rows lie; the largest first."""
    rows, record = len(job.devices.own(range(job.options.batch_size))), job.train.dataset.record

    def shape(x: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

    buckets = reversed(job.train.buckets)
    return [jax.tree.map(shape, job.devices.place(empty_batch(rows, bucket, record))) for bucket in buckets]


def sent(job: Job, step: int) -> Sent:
    """What this process sends for `step` (from 0): its own rows, in the shape that those of all processes need."""
    options, source, own = job.options, job.train, job.devices.own
    indices = job.order.batch(step)
    stored_B = frames_B = source.frames_N[indices]
    speed_B = None
    if options.augment.speed:
        exact_B = augment.speeds(options.augment, options.seed, step, indices)
        frames_B, speed_B = augment.changed_frames(stored_B, exact_B), own(exact_B.astype(np.float32))
    # As they are stored they fit in, too.
    shape = source.shape(indices, np.maximum(stored_B, frames_B))
    batch = source.batch(own(indices), len(own(indices)), shape)._replace(frames_B=own(frames_B))
    return Sent(batch, own(stored_B), speed_B)


def _played(batch: Batch, stored_B: jax.Array, speed_B: jax.Array) -> Batch:
    return batch._replace(features_BxTxM=augment.change_speed(batch.features_BxTxM, stored_B, batch.frames_B, speed_B))
