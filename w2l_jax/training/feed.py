"""The batches of a training job on its devices: what the host reads for a step, and what the devices make of it.

Features that fit are put on the devices once; from then on the host sends where in them each utterance begins.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from w2l_jax.dataset.batches import Batch, Source, empty_batch, prefetch
from w2l_jax.reporting import Report
from w2l_jax.training import augment
from w2l_jax.training.devices import Devices
from w2l_jax.training.job import Job

# Most of a device's memory that resident features take unasked; the rest is for updates.
_SHARE = 1 / 3


class Sent(NamedTuple):
    """What the host sends for a step."""

    batch: Batch
    """Its features are as they are stored, or None where they are resident; all else is as the step sees it."""
    first_B: Any
    """The row of the resident features at which each utterance begins, or None."""
    stored_B: Any
    """The number of rows that are stored of each."""
    speed_B: Any
    """How much faster than recorded to play each, or None."""


def stream(job: Job, first: int, report: Report = print) -> Iterator[Batch]:
    """The batches of the steps from `first` (from 0) to the last: a function of the seed and the step alone.

    They are the same bits with and without resident features.
    """
    store_RxC = load(job.train, job.devices, report) if is_resident(job) else None

    def read(step: int) -> tuple[int, Sent]:
        frames, item = sent(job, step, features=store_RxC is None)
        return frames, job.devices.place(item)

    make, waiting = maker(job.devices), prefetch(range(first, job.options.steps), read)
    with contextlib.closing(waiting):
        for frames, item in waiting:
            as_sent = store_RxC is None and item.speed_B is None
            yield item.batch if as_sent else make(store_RxC, item, job.train.dataset.record.rows(frames))


def shapes(job: Job) -> list[Batch]:
    """The shapes that the batches of `stream` may take, and where their rows lie; the largest first."""
    rows, record = len(job.devices.own(range(job.options.batch_size))), job.train.dataset.record

    def shape(x: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

    buckets = reversed(job.train.buckets)
    return [jax.tree.map(shape, job.devices.place(empty_batch(rows, bucket, record))) for bucket in buckets]


def sent(job: Job, step: int, features: bool = True) -> tuple[int, Sent]:
    """The padded frames of `step` (from 0), and what this process sends for it: the rows of its own devices."""
    options, source, own = job.options, job.train, job.devices.own
    indices = job.order.batch(step)
    stored_B = frames_B = source.frames_N[indices]
    speed_B = None
    if options.augment.speed:
        exact_B = augment.speeds(options.augment, options.seed, step, indices)
        frames_B, speed_B = augment.changed_frames(stored_B, exact_B), own(exact_B.astype(np.float32))
    # As they are stored they must fit, too.
    shape = source.shape(indices, np.maximum(stored_B, frames_B))
    mine = own(indices)
    batch = source.batch(mine, len(mine), shape, features)._replace(frames_B=own(frames_B))
    first_B = None if features else source.first_row_N[mine]
    return shape.frames, Sent(batch, first_B, source.dataset.record.rows(own(stored_B)), speed_B)


def is_resident(job: Job) -> bool:
    """Whether the training data's features are put on the devices: as the options say, else where they fit well."""
    wanted = job.options.memory.resident
    if wanted != "auto":
        return wanted == "on"
    memory = job.devices.mesh.local_devices[0].memory_stats() or {}  # a CPU's says nothing: it has them in files
    # All processes decide alike.
    return not job.devices.agreed("" if job.train.bytes <= _SHARE * memory.get("bytes_limit", 0) else "no")


def load(source: Source, devices: Devices, report: Report = print) -> jax.Array:
    """What is stored of all utterances, one after another [R, C], on every device."""
    count, record = len(source.dataset), source.dataset.record
    report(f"resident: {source.bytes / 1e9:.3g} GB of {count} utterances are put on each device")
    store_RxC = np.empty((source.bytes // record.bytes(record.stride), record.channels), record.dtype)

    def read(indices: np.ndarray) -> None:
        for index, item in zip(indices, source.dataset.features_of(indices), strict=True):
            store_RxC[source.first_row_N[index] :][: len(item)] = item

    for _ in prefetch(np.array_split(np.arange(count), -(-count // 64)), read):
        pass
    return devices.everywhere(store_RxC)


def maker(devices: Devices) -> Callable[[jax.Array | None, Sent, int], Batch]:
    """What the devices do: `(resident features, what was sent, padded rows) → batch`, jitted, each for its own rows."""

    def make(store_RxC: jax.Array | None, item: Sent, rows: int) -> Batch:
        return devices.by_rows(functools.partial(_made, rows=rows))(store_RxC, item)

    return jax.jit(make, static_argnums=2)


def _made(store_RxC: jax.Array | None, item: Sent, rows: int) -> Batch:
    batch = item.batch
    features_BxTxM = batch.features_BxTxM if store_RxC is None else _gathered(store_RxC, item, rows)
    if item.speed_B is not None:
        # Compiled by itself, so that it rounds alike wherever the features come from.
        features_BxTxM = jax.lax.optimization_barrier(features_BxTxM)
        features_BxTxM = augment.change_speed(features_BxTxM, item.stored_B, batch.frames_B, item.speed_B)
    return batch._replace(features_BxTxM=features_BxTxM)


def _gathered(store_RxC: jax.Array, item: Sent, rows: int) -> jax.Array:
    row_T = jnp.arange(rows)
    there_BxT = row_T < item.stored_B[:, None]
    at_BxT = jnp.where(there_BxT, item.first_B[:, None] + row_T, 0)
    return jnp.where(there_BxT[:, :, None], store_RxC.at[at_BxT].get(mode="promise_in_bounds"), 0)
