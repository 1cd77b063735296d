"""Which utterances make up the batch of each step: a function of (seed, step), for one dataset or a mixture of two."""

import dataclasses
import functools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from w2l_jax.errors import UserError

# Batches whose utterances are sorted together by length; enough to save padding, few enough to stay random.
CHUNK = 16


@functools.lru_cache(maxsize=4)  # enough for any step: two epochs of each of two languages
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    order = np.random.default_rng((seed, 0, epoch)).permutation(size)
    order.flags.writeable = False
    return order


@dataclasses.dataclass(frozen=True)
class Order:
    """Which utterances make up the batch of each step: a pure function, so that training can resume at any step.

    Epochs are independent permutations, concatenated and cut into batches; within 16 batches utterances are sorted by
    length, then the batches shuffled. Each utterance occurs once per epoch, and every batch is full, even across two
    epochs. `sorted_first` sorts the first epoch by length.
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
class MixedOrder:
    """The order of `new` with a `share` of every batch, in [0, 1], taken from `old`; both of one seed and batch size.

    Indices of `old` follow those of `new`, as in `Dataset.followed_by`. The first n batches hold floor(share · n ·
    batch_size) old utterances, so rounding evens out. Both are sorted by length and shuffled together: a batch holds
    short utterances of both, or long ones.
    """

    new: Order
    old: Order
    share: Fraction

    def old_before(self, step: int) -> int:
        """How many utterances of `old` the batches before `step` hold."""
        return int(self.share * step * self.new.batch_size)

    def epoch(self, step: int) -> int:
        """The epoch of `new`, from 0, in which the batch of `step` (from 0) begins."""
        return (step * self.new.batch_size - self.old_before(step)) // len(self.new.lengths)

    def batch(self, step: int) -> np.ndarray:
        """The indices [batch_size] of the batch of `step` (from 0), those of `new` first."""
        chunk, position = divmod(step, CHUNK)
        steps = range(chunk * CHUNK, (chunk + 1) * CHUNK + 1)
        old = [self.old_before(i) for i in steps]
        new = [i * self.new.batch_size - count for i, count in zip(steps, old, strict=True)]
        return np.concatenate(
            [self.new.part(new, chunk, position), self.old.part(old, chunk, position) + len(self.new.lengths)]
        )
