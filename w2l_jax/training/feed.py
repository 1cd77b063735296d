"""The batches of a training job on its devices: what the host sends for a step, and how devices complete it.

Features that fit are copied to the devices once; then the host sends only where each utterance begins.
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

# Resident features take at most this share of a device's free memory by default; the rest is for updates.
_THIRD = 3


def stream(job: Job, first: int, report: Report = print) -> Iterator[Batch]:
    """The batches of all steps from `first` (from 0): a function of seed and step only.

    They are bit-identical with and without resident features.
    """
    store_RxC = load(job.train, job.devices, report) if is_resident(job) else None

    def read(step: int) -> tuple[int, Sent]:
        frames, item = sent(job, step, features=store_RxC is None)
        return frames, job.devices.place(item)

    gather, waiting = gatherer(job.train, job.devices), prefetch(range(first, job.options.steps), read)
    with contextlib.closing(waiting):
        for frames, item in waiting:
            yield item.batch if store_RxC is None else gather(store_RxC, item, frames)


def shapes(job: Job) -> list[Batch]:
    """The possible shapes and shardings of the batches of `stream`, largest first."""
    rows, record = len(job.devices.own(range(job.options.batch_size))), job.train.dataset.record
    speeds = job.options.augment.speed > 0

    def shape(x: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

    buckets = reversed(job.train.buckets)
    return [jax.tree.map(shape, job.devices.place(empty_batch(rows, bucket, record, speeds))) for bucket in buckets]


class Sent(NamedTuple):
    """The data that the host sends for a step."""

    batch: Batch
    """The batch, without features if they are resident."""
    first_B: Any
    """Each utterance's first row in the resident features, or None."""


def sent(job: Job, step: int, features: bool = True) -> tuple[int, Sent]:
    """The padded frames of `step` (from 0), and the data this process sends for it, the rows of its own devices."""
    options, source, own = job.options, job.train, job.devices.own
    indices = job.order.batch(step)
    recorded_B = frames_B = source.frames_N[indices]
    played = {}
    if options.augment.speed:
        speed_B = augment.speeds(options.augment, options.seed, step, len(indices))
        frames_B = augment.changed_frames(recorded_B, speed_B)
        played = {"speed_B": own(speed_B.astype(np.float32)), "recorded_B": own(recorded_B)}
    # The recorded frames must fit, too.
    shape, mine = source.shape(indices, np.maximum(recorded_B, frames_B)), own(indices)
    batch = source.batch(mine, len(mine), shape, features)._replace(frames_B=own(frames_B), **played)
    return shape.frames, Sent(batch, None if features else source.first_row_N[mine])


def is_resident(job: Job) -> bool:
    """Whether to keep the training features on the devices: as the options say, else if they fit well."""
    resident = job.options.memory.resident
    if resident != "auto":
        return resident == "on"
    memory = job.devices.mesh.local_devices[0].memory_stats() or {}  # not on CPUs, which read files
    free = memory.get("bytes_limit", 0) - memory.get("bytes_in_use", 0)
    # All processes must agree.
    return not job.devices.consensus("" if _THIRD * job.train.bytes <= free else "no")


def load(source: Source, devices: Devices, report: Report = print) -> jax.Array:
    """The stored arrays of all utterances, concatenated [R, C], on every device."""
    count, record = len(source.dataset), source.dataset.record
    report(f"resident: {source.bytes / 1e9:.3g} GB of {count} utterances are kept on each device")
    store_RxC = np.empty((source.bytes // record.bytes(record.stride), record.channels), record.dtype)

    def read(indices: np.ndarray) -> None:
        for index, item in zip(indices, source.dataset.features_of(indices), strict=True):
            store_RxC[source.first_row_N[index] :][: len(item)] = item

    for _ in prefetch(np.array_split(np.arange(count), -(-count // 64)), read):
        pass
    return devices.on_every_device(store_RxC)


def gatherer(source: Source, devices: Devices) -> Callable[[jax.Array, Sent, int], Batch]:
    """`(resident features, what was sent, padded frames) → batch`, jitted: each device takes its own rows."""
    record = source.dataset.record

    def of_rows(rows: int, store_RxC: jax.Array, item: Sent) -> Batch:
        batch, first_B = item
        stored_B = record.rows(batch.frames_B if batch.recorded_B is None else batch.recorded_B)
        row_T = jnp.arange(rows)
        inside_BxT = row_T < stored_B[:, None]
        at_BxT = jnp.where(inside_BxT, first_B[:, None] + row_T, 0)
        features_BxTxC = store_RxC.at[at_BxT].get(mode="promise_in_bounds")
        return batch._replace(features_BxTxM=jnp.where(inside_BxT[:, :, None], features_BxTxC, 0))

    def gather(store_RxC: jax.Array, item: Sent, frames: int) -> Batch:
        return devices.by_rows(functools.partial(of_rows, record.rows(frames)))(store_RxC, item)

    return jax.jit(gather, static_argnums=2)
