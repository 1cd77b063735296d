"""An incoming waveform: resampled to 16 kHz, 160 ms at a time, faults repaired and reported."""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from w2l_jax import audio
from w2l_jax.errors import UserError

STEP_SECONDS = 0.16
_QUIET_SECONDS = 10.0  # before the same message is repeated
_CLIPPED_LEVEL, _CLIPPED_SHARE = 0.999, 0.01


@dataclasses.dataclass(frozen=True)
class Break:
    """Replaces a block: `seconds` of sound were lost here; later blocks have `rate` Hz (0: as before)."""

    seconds: float = 0.0
    rate: int = 0


Block = np.ndarray | Break
"""A mono waveform [N], float in −1…1 or int16; or a break."""


class Message(NamedTuple):
    """A fault of the sound from `start` seconds."""

    start: float
    end: float
    text: str


class Messages:
    """Unread messages, each at most once in ten seconds; `now` is the position in the sound."""

    def __init__(self):
        self.now = 0.0
        self._waiting: collections.deque[Message] = collections.deque()
        self._told: dict[str, float] = {}

    def tell(self, text: str, seconds: float) -> None:
        """Adds a message about the next `seconds`."""
        if self.now >= self._told.get(text, -math.inf):
            self._told[text] = self.now + _QUIET_SECONDS
            self._waiting.append(Message(round(self.now, 3), round(self.now + seconds, 3), text))

    def read(self) -> Iterator[Message]:
        """Yields the messages and removes them."""
        while self._waiting:
            yield self._waiting.popleft()


def at_16_khz(blocks: Iterable[Block], rate: int, messages: Messages) -> Iterator[np.ndarray]:
    """Yields the blocks' samples, of `rate` Hz, at 16 kHz.

    Their number at a time does not depend on the blocks. Raises UserError for a block of another type or shape.
    """
    for hertz, steps in itertools.groupby(_steps(blocks, rate, messages), key=lambda step: step[1]):
        yield from audio.resampled((_mended(step_N, hertz, messages) for step_N, _ in steps), hertz)


def _steps(blocks: Iterable[Block], rate: int, messages: Messages) -> Iterator[tuple[np.ndarray, int]]:
    """Yields samples in steps, fewer before a break and at the end, with their rate."""
    waiting: list[np.ndarray] = []
    held = 0
    for block in itertools.chain(blocks, [Break()]):
        is_break = isinstance(block, Break)
        if not is_break:
            waiting.append(floats(block))
            held += len(waiting[-1])
        size = round(rate * STEP_SECONDS)
        if held and (held >= size or is_break):
            samples_N = np.concatenate(waiting)
            complete = held if is_break else held - held % size
            for start in range(0, complete, size):
                yield samples_N[start : min(start + size, complete)], rate
            waiting, held = [samples_N[complete:]], held - complete
        if is_break and block.seconds:
            messages.tell("sound was lost and replaced by silence", block.seconds)
            silence_N = np.zeros(round(block.seconds * rate), np.float32)
            for start in range(0, len(silence_N), size):
                yield silence_N[start : start + size], rate
        if is_break and block.rate not in (0, rate):
            messages.tell(f"the rate changes from {rate} to {block.rate} Hz", 0.0)
            rate = block.rate


def floats(block: np.ndarray, name: str = "a block") -> np.ndarray:
    """Returns one channel as float32 [N] in −1…1; raises UserError, with its `name`, for another shape or type."""
    block_N = np.asarray(block)
    if block_N.ndim != 1:
        raise UserError(f"{name} has the shape {list(block_N.shape)}; give one channel, [N]")
    if block_N.dtype == np.int16:
        return block_N / np.float32(32768)
    if not np.issubdtype(block_N.dtype, np.floating):
        raise UserError(f"{name} is of type {block_N.dtype}; give floats in −1…1, or int16")
    return block_N.astype(np.float32)


def _mended(step_N: np.ndarray, rate: int, messages: Messages) -> np.ndarray:
    finite_N = np.isfinite(step_N)
    if not finite_N.all():
        messages.tell("samples that are not finite were replaced by silence", len(step_N) / rate)
        step_N = np.where(finite_N, step_N, np.float32(0))
    if (np.abs(step_N) >= _CLIPPED_LEVEL).mean() > _CLIPPED_SHARE:
        messages.tell("the sound is clipped; lower the gain", len(step_N) / rate)
    messages.now += len(step_N) / rate
    return step_N
