"""Batches of two datasets in a fixed proportion, in an order that is a function of (seed, step)."""

import dataclasses
from fractions import Fraction

import numpy as np

from w2l_jax.dataset.batches import CHUNK, Order


@dataclasses.dataclass(frozen=True)
class MixedOrder:
    """The order of `new` with a `share` of every batch, in [0, 1], taken from `old`; both of one seed and batch size.

    Indices of `old` follow those of `new`, as in `Dataset.followed_by`. Of the first n batches' utterances the whole
    part of share · n · batch_size are old ones: what is rounded off in one batch is made up for in the next ones.
    Both are sorted by length and shuffled together, so that a batch has short utterances of both or long ones.
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
