"""Prepared utterances to padded batches of a few shapes, in an order that is a function of (seed, step)."""

import dataclasses
import functools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from w2l_jax.alphabet import Alphabet
from w2l_jax.dataset.store import Dataset, Record
from w2l_jax.errors import UserError

_FRAME_STEP, _LABEL_STEP = 16, 8
# Batches whose utterances are sorted together by length; enough to save padding, few enough to stay random.
CHUNK = 16
# Batches that wait, ready for the step.
AHEAD = 3


class Batch(NamedTuple):
    """What one step sees. Rows beyond the data (only in evaluation) have 0 frames and 0 labels.

    In place of features it may hold the activations [B, S, C] of a layer; `frames_B` counts input frames then, too.
    """

    features_BxTxM: Any
    frames_B: Any
    labels_BxL: Any
    label_lengths_B: Any


class Bucket(NamedTuple):
    """One padded shape: T input frames, L labels."""

    frames: int
    labels: int


def empty_batch(rows: int, bucket: Bucket, record: Record) -> Batch:
    """A batch of `rows` rows without data in the shape of `bucket`, for what `record` describes (NumPy)."""
    return Batch(
        np.zeros((rows, record.rows(bucket.frames), record.channels), record.dtype),
        np.zeros(rows, np.int32),
        np.zeros((rows, bucket.labels), np.int32),
        np.zeros(rows, np.int32),
    )


def _round_up(value: int, step: int) -> int:
    return max(-(-value // step), 1) * step


def make_buckets(
    frames_N: Sequence[int], labels_N: Sequence[int], count: int, rows: int = 1, speed: float = 0.0
) -> tuple[Bucket, ...]:
    """Returns at most `count` shapes, smallest first, that pad the batches of an epoch as little as possible.

    Padding is counted on an epoch of batches of `rows` utterances as `Order` makes them, played at speeds of
    1 ± `speed`. The last shape takes the longest utterance at the lowest speed and the longest label, so that every
    batch finds one.
    """
    frames_N, labels_N = np.asarray(frames_N), np.asarray(labels_N)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(frames_N))
    stretched_N = frames_N / rng.uniform(1 - speed, 1 + speed, len(frames_N))
    chunks = np.split(order, range(CHUNK * rows, len(order), CHUNK * rows))
    sorted_chunks = [chunk[np.argsort(frames_N[chunk])] for chunk in chunks]
    batches = [chunk[i : i + rows] for chunk in sorted_chunks for i in range(0, len(chunk), rows)]
    longest = round(frames_N.max() / (1 - speed))
    sizes = [_round_up(round(stretched_N[batch].max()), _FRAME_STEP) for batch in batches]
    edges = _least_padding([*sizes, _round_up(longest, _FRAME_STEP)], count)
    # An edge may lie below every utterance at its own speed: its labels are then those of the shortest ones.
    return tuple(
        Bucket(edge, _round_up(int(labels_N[frames_N <= max(edge, frames_N.min())].max()), _LABEL_STEP))
        for edge in edges
    )


def _least_padding(sizes: Sequence[int], count: int) -> list[int]:
    """At most `count` of `sizes`, the largest among them, with the least sum of size → next larger chosen one."""
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
    """The smallest bucket that holds `frames` and `labels`; beyond the largest, one made to measure."""
    for bucket in buckets:
        if frames <= bucket.frames and labels <= bucket.labels:
            return bucket
    return Bucket(_round_up(frames, _FRAME_STEP), _round_up(labels, _LABEL_STEP))


@functools.lru_cache(maxsize=4)  # what a step may need: two epochs of each of two languages
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    order = np.random.default_rng((seed, 0, epoch)).permutation(size)
    order.flags.writeable = False
    return order


@dataclasses.dataclass(frozen=True)
class Order:
    """Which utterances make up the batch of each step: a pure function, so that any step can be resumed at.

    Epochs are independent permutations laid end to end and cut into batches; within 16 batches utterances are
    sorted by length, then the batches shuffled. Each utterance comes once an epoch, and every batch is full, the
    one across two epochs included. `sorted_first` takes the first epoch in order of length.
    """

    lengths: tuple[int, ...]
    batch_size: int
    seed: int
    sorted_first: bool = False

    def __post_init__(self):
        if not self.lengths:
            raise UserError("the training data hold no utterance")

    @functools.cached_property
    def _lengths_N(self) -> np.ndarray:
        return np.asarray(self.lengths)

    @functools.cached_property
    def _by_length(self) -> np.ndarray:
        return np.argsort(self._lengths_N, kind="stable")

    @property
    def _sorted_batches(self) -> int:
        return -(-len(self.lengths) // self.batch_size) if self.sorted_first else 0

    def epoch(self, step: int) -> int:
        """The epoch, from 0, in which the batch of `step` (from 0) begins."""
        return step * self.batch_size // len(self.lengths)

    def _stream(self, start: int, stop: int) -> np.ndarray:
        parts = []
        size = len(self.lengths)
        for epoch in range(start // size, (stop - 1) // size + 1):
            order = self._by_length if epoch == 0 and self.sorted_first else _permutation(self.seed, epoch, size)
            low = epoch * size
            parts.append(order[max(start - low, 0) : max(min(stop - low, size), 0)])
        return np.concatenate(parts)

    def batch(self, step: int) -> np.ndarray:
        """The indices [batch_size] of the batch of `step` (from 0)."""
        size = self.batch_size
        head = self._sorted_batches
        if step < head:
            return self._stream(step * size, (step + 1) * size)
        chunk, position = divmod(step - head, CHUNK)
        first = head + chunk * CHUNK
        return self.part([i * size for i in range(first, first + CHUNK + 1)], chunk, position)

    def part(self, starts: Sequence[int], chunk: int, position: int) -> np.ndarray:
        """The indices for the batch at `position` of the 16 of a `chunk` that share the utterances sorted by length.

        Batch i takes as many as lie between `starts[i]` and `starts[i + 1]`, counted from the first of all epochs.
        """
        sizes = np.diff(starts)
        indices = self._stream(starts[0], starts[-1]) if sizes.any() else np.zeros(0, int)
        by_length = indices[np.argsort(self._lengths_N[indices], kind="stable")]
        ranks = np.random.default_rng((self.seed, 1, chunk)).permutation(CHUNK)
        stop = np.cumsum(sizes[np.argsort(ranks)])[ranks[position]]
        return by_length[stop - sizes[position] : stop]


@dataclasses.dataclass(frozen=True)
class Source:
    """A dataset with its labels in one alphabet and the shapes its batches take."""

    dataset: Dataset
    labels: tuple[np.ndarray, ...]
    buckets: tuple[Bucket, ...]

    @staticmethod
    def create(dataset: Dataset, alphabet: Alphabet, buckets: int, rows: int = 1, speed: float = 0.0) -> "Source":
        """Encodes every transcript; raises UserError naming the first utterance `alphabet` cannot write.

        `buckets`, `rows` (of a batch) and `speed` decide the padded shapes: `make_buckets`.
        """
        labels = []
        for entry in dataset.entries:
            try:
                labels.append(alphabet.encode(entry.transcript))
            except UserError as error:
                raise UserError(f"{dataset.folder}: utterance {entry.id}: {error}") from None
        frames = [entry.frames for entry in dataset.entries]
        return Source(dataset, tuple(labels), make_buckets(frames, [len(i) for i in labels], buckets, rows, speed))

    def shape(self, indices: Sequence[int], frames: Iterable[int]) -> Bucket:
        """The padded shape of a batch of the utterances `indices`, of which these are the `frames`."""
        return bucket_for(self.buckets, max(frames), max(len(self.labels[i]) for i in indices))

    def batch(
        self,
        indices: Sequence[int],
        rows: int,
        transform: Callable[[np.ndarray, int], np.ndarray] | None = None,
        shape: Bucket | None = None,
    ) -> Batch:
        """Pads the utterances `indices` to a Batch of `rows` rows (NumPy; in the precision they are stored in).

        `transform(features_TxM, index)` may change an utterance's features and their number first. The padded shape
        is that of these utterances, or, where they are a part of a larger batch, its `shape`.
        """
        features = self.dataset.features_of(indices)
        frames = [self.dataset.entries[i].frames for i in indices]
        if transform:
            features = [transform(item, int(i)) for item, i in zip(features, indices, strict=True)]
            frames = list(map(len, features))
        labels = [self.labels[i] for i in indices]
        shape = shape or self.shape(indices, frames)
        batch = empty_batch(rows, shape, self.dataset.record)
        for row, (item, ids) in enumerate(zip(features, labels, strict=True)):
            batch.features_BxTxM[row, : len(item)] = item
            batch.labels_BxL[row, : len(ids)] = ids
            batch.frames_B[row], batch.label_lengths_B[row] = frames[row], len(ids)
        return batch

    def in_order_of_length(self, rows: int) -> Iterator[tuple[np.ndarray, Batch]]:
        """Every utterance once, shortest first, as (indices, Batch of `rows` rows): for evaluation."""
        order = np.argsort([entry.frames for entry in self.dataset.entries], kind="stable")
        for start in range(0, len(order), rows):
            indices = order[start : start + rows]
            yield indices, self.batch(indices, rows)


def prefetch(
    items: Iterable[Any], place: Callable[[Any], Any] = lambda item: item, depth: int = AHEAD
) -> Iterator[Any]:
    """Runs `items` and `place` (such as jax.device_put) in a thread, `depth` ahead, so that the step never waits.

    An exception in the thread is raised where the items are consumed; closing the iterator ends the thread.
    """
    slots: queue.Queue = queue.Queue(depth)
    closed = threading.Event()
    end = object()

    def offer(value) -> bool:
        while not closed.is_set():
            try:
                slots.put(value, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce():
        try:
            for item in items:
                if not offer((place(item), None)):
                    return
            offer((end, None))
        except BaseException as error:  # handed over, not swallowed
            offer((end, error))

    thread = threading.Thread(target=produce, daemon=True, name="prefetch")
    thread.start()
    try:
        while True:
            item, error = slots.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        closed.set()
        thread.join()
