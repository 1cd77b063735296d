"""Prepared utterances in padded batches of a few shapes, read ahead of the steps that need them."""

import collections
import concurrent.futures
import dataclasses
import functools
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from w2l_jax.alphabet import Alphabet
from w2l_jax.dataset.order import CHUNK
from w2l_jax.dataset.shards import Record
from w2l_jax.dataset.store import Dataset
from w2l_jax.errors import UserError
from w2l_jax.workers import usable_cores

Made = TypeVar("Made")
_FRAME_STEP, _LABEL_STEP = 16, 8
# Batches that are ready for the step or being read, and the threads that read them.
AHEAD = 3
_READERS = min(AHEAD, usable_cores())


class Batch(NamedTuple):
    """The input of one step. Rows beyond the data (only in evaluation) have 0 frames and 0 labels.

    Instead of features it may hold the activations [B, S, C] of a layer; `frames_B` still counts input frames.
    """

    features_BxTxM: Any
    frames_B: Any
    labels_BxL: Any
    label_lengths_B: Any
    speed_B: Any = None
    """How much faster than recorded the step plays each utterance, giving `frames_B` frames; None: as recorded."""
    recorded_B: Any = None
    """The number of recorded frames in `features_BxTxM`; None without `speed_B`."""


class Bucket(NamedTuple):
    """One padded shape: T input frames, L labels."""

    frames: int
    labels: int


def empty_batch(rows: int, bucket: Bucket, record: Record, speeds: bool = False) -> Batch:
    """An empty batch (NumPy) of `rows` rows in the shape of `bucket`, for arrays as `record` describes them."""
    return Batch(
        np.zeros((rows, record.rows(bucket.frames), record.channels), record.dtype),
        np.zeros(rows, np.int32),
        np.zeros((rows, bucket.labels), np.int32),
        np.zeros(rows, np.int32),
        np.zeros(rows, np.float32) if speeds else None,
        np.zeros(rows, np.int32) if speeds else None,
    )


def _round_up(value: int, step: int) -> int:
    return max(-(-value // step), 1) * step


def make_buckets(
    frames_N: Sequence[int], labels_N: Sequence[int], count: int, rows: int = 1, speed: float = 0.0
) -> tuple[Bucket, ...]:
    """Returns at most `count` shapes, smallest first, that pad the batches of an epoch as little as possible.

    Padding is counted over an epoch of `Order`'s batches of `rows` utterances, played at speeds of 1 ± `speed`; a shape
    also holds them as stored. The last shape fits the longest utterance at the lowest speed and the longest label, so
    every batch has one.
    """
    frames_N, labels_N = np.asarray(frames_N), np.asarray(labels_N)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(frames_N))
    stretched_N = frames_N / np.minimum(rng.uniform(1 - speed, 1 + speed, len(frames_N)), 1)
    chunks = np.split(order, range(CHUNK * rows, len(order), CHUNK * rows))
    sorted_chunks = [chunk[np.argsort(frames_N[chunk])] for chunk in chunks]
    batches = [chunk[i : i + rows] for chunk in sorted_chunks for i in range(0, len(chunk), rows)]
    longest = round(frames_N.max() / (1 - speed))
    sizes = [_round_up(round(stretched_N[batch].max()), _FRAME_STEP) for batch in batches]
    edges = _least_padding([*sizes, _round_up(longest, _FRAME_STEP)], count)
    # If an edge is below every utterance at its own speed, its labels are those of the shortest ones.
    return tuple(
        Bucket(edge, _round_up(int(labels_N[frames_N <= max(edge, frames_N.min())].max()), _LABEL_STEP))
        for edge in edges
    )


def _least_padding(sizes: Sequence[int], count: int) -> list[int]:
    """At most `count` of `sizes`, with the largest, that minimise the total padding of each size to the next one."""
    edges, weights = np.unique(sizes, return_counts=True)
    below = np.concatenate([[0], np.cumsum(weights)])
    # cost[i, j]: all sizes from edge i to edge j padded to edge j.
    cost = edges * (below[1:] - below[:-1, None]) + np.where(np.tri(len(edges), k=-1), np.inf, 0)
    best, paths = cost[0], [[j] for j in range(len(edges))]
    for _ in range(min(count, len(edges)) - 1):
        split = best[:-1, None] + cost[1:]  # [i, j]: the last group begins above edge i
        choice = split.argmin(axis=0)
        better = split.min(axis=0) < best
        paths = [paths[choice[j]] + [j] if better[j] else paths[j] for j in range(len(edges))]
        best = np.minimum(best, split.min(axis=0))
    return [int(edges[j]) for j in paths[-1]]


def bucket_for(buckets: Sequence[Bucket], frames: int, labels: int) -> Bucket:
    """The smallest bucket that holds `frames` and `labels`; beyond the largest, a custom shape."""
    for bucket in buckets:
        if frames <= bucket.frames and labels <= bucket.labels:
            return bucket
    return Bucket(_round_up(frames, _FRAME_STEP), _round_up(labels, _LABEL_STEP))


@dataclasses.dataclass(frozen=True)
class Source:
    """A dataset with encoded labels and the padded shapes of its batches."""

    dataset: Dataset
    labels: tuple[np.ndarray, ...]
    buckets: tuple[Bucket, ...]

    @staticmethod
    def create(dataset: Dataset, alphabet: Alphabet, buckets: int, rows: int = 1, speed: float = 0.0) -> "Source":
        """Encodes every transcript; raises UserError naming the first utterance outside `alphabet`.

        `buckets`, `rows` (of a batch) and `speed` determine the padded shapes (`make_buckets`).
        """
        labels = []
        for entry in dataset.entries:
            try:
                labels.append(alphabet.encode(entry.transcript))
            except UserError as error:
                raise UserError(f"{dataset.folder}: utterance {entry.id}: {error}") from None
        frames = [entry.frames for entry in dataset.entries]
        return Source(dataset, tuple(labels), make_buckets(frames, [len(i) for i in labels], buckets, rows, speed))

    @functools.cached_property
    def frames_N(self) -> np.ndarray:
        """The number of input frames of every utterance."""
        return np.array([entry.frames for entry in self.dataset.entries], np.int32)

    @property
    def bytes(self) -> int:
        """The size of all stored arrays."""
        return sum(map(self.dataset.record.bytes, self.frames_N.tolist()))

    @functools.cached_property
    def first_row_N(self) -> np.ndarray:
        """Each utterance's first row if all stored arrays were concatenated."""
        rows_N = self.dataset.record.rows(self.frames_N)
        return (np.cumsum(rows_N, dtype=np.int64) - rows_N).astype(np.int32)

    def shape(self, indices: Sequence[int], frames: Iterable[int]) -> Bucket:
        """The padded shape of a batch of the utterances `indices` with these `frames`."""
        return bucket_for(self.buckets, int(max(frames)), max(len(self.labels[i]) for i in indices))

    def batch(self, indices: Sequence[int], rows: int, shape: Bucket | None = None, features: bool = True) -> Batch:
        """Pads the utterances `indices` to a Batch of `rows` rows (NumPy, in the stored precision).

        The padded shape is that of these utterances or, for a part of a larger batch, its `shape`. Without `features`
        nothing is read, and they are None.
        """
        frames, record = self.frames_N[indices], self.dataset.record
        shape = shape or self.shape(indices, frames)
        batch = empty_batch(rows, shape._replace(frames=0), record)._replace(features_BxTxM=None)
        batch.frames_B[: len(indices)] = frames
        for row, index in enumerate(indices):
            ids = self.labels[index]
            batch.labels_BxL[row, : len(ids)], batch.label_lengths_B[row] = ids, len(ids)
        if not features:
            return batch
        features_BxTxM = self._memory.array((rows, record.rows(shape.frames), record.channels), record.dtype)
        for row, item in enumerate(self.dataset.features_of(indices)):
            features_BxTxM[row, : len(item)], features_BxTxM[row, len(item) :] = item, 0
        features_BxTxM[len(indices) :] = 0
        return batch._replace(features_BxTxM=features_BxTxM)

    @functools.cached_property
    def _memory(self) -> "_Memory":
        return _Memory()

    def in_order_of_length(self, rows: int) -> Iterator[np.ndarray]:
        """The indices of every utterance once, shortest first, at most `rows` together: for evaluation."""
        order = np.argsort(self.frames_N, kind="stable")
        return (order[start : start + rows] for start in range(0, len(order), rows))


class _Memory:
    """Memory for arrays, reused once an array and all its views (in JAX, too) are gone: new pages cost more than
    filling them.

    It is aligned, so that JAX's CPU backend takes the arrays without a copy.
    """

    _ALIGNED = 64

    def __init__(self):
        self._free: list[np.ndarray] = []
        # glibc keeps freed blocks up to the largest it has seen freed (32 MB at most); without this, each utterance's
        # bytes would be new pages, too.
        np.empty(30 << 20, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of any content."""
        size = math.prod(shape) * dtype.itemsize
        try:  # several threads ask, and another may be faster
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(0, np.uint8)
        if len(memory) < size:
            memory = np.empty(size + self._ALIGNED, np.uint8)
            memory = memory[-memory.ctypes.data % self._ALIGNED :][:size]
        # Every view refers to this array, because its own base is not an array.
        buffer = np.frombuffer(memoryview(memory), np.uint8, size)
        weakref.finalize(buffer, self._free.append, memory).atexit = False
        return buffer.view(dtype).reshape(shape)


def prefetch(items: Iterable[Any], work: Callable[[Any], Made], depth: int = AHEAD) -> Iterator[Made]:
    """Yields `work(item)` of every item in order; threads work up to `depth` items ahead, so that steps never wait.

    An exception in `work` is raised in place of its result; closing the iterator ends the threads.
    """
    pool = concurrent.futures.ThreadPoolExecutor(_READERS, thread_name_prefix="prefetch")
    ahead: collections.deque[concurrent.futures.Future] = collections.deque()
    try:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > depth:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
