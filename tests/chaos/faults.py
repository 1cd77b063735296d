"""The outcomes of faults, and functions that damage files."""

import collections
import contextlib
import dataclasses
import faulthandler
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from w2l_jax.errors import UserError

SURVIVED, REFUSED = "identical", "refused"
WRONG, TRACEBACK = "silently wrong", "tracebacks"
OUTCOMES = (SURVIVED, REFUSED, WRONG, TRACEBACK)


@dataclasses.dataclass
class Findings:
    """The number of faults of one kind by outcome, and the bad ones."""

    kind: str
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    bad: list[str] = dataclasses.field(default_factory=list)

    def add(self, outcome: str, detail: str = "") -> None:
        self.counts[outcome] += 1
        if outcome in (WRONG, TRACEBACK):
            self.bad.append(f"{self.kind}: {outcome}: {detail}")

    def attempt(self, read: Callable[[], Any], expected: Any = None, detail: str = "") -> None:
        """Counts the outcome of `read`: the `expected` result (None: any), a UserError, or anything else."""
        try:
            with limited(60):
                found = read()
        except UserError:
            self.add(REFUSED)
        except Exception:
            self.add(TRACEBACK, f"{detail}\n{traceback.format_exc()}")
        else:
            self.add(SURVIVED if expected is None or found == expected else WRONG, detail)

    def __iadd__(self, other: "Findings") -> "Findings":
        self.counts += other.counts
        self.bad += other.bad
        return self


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """A block that takes longer than `seconds` raises; three times as long ends the process with a traceback."""

    def stop(*_):
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(3 * seconds, exit=True, file=2)  # for compiled code
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """`content` with one bit flipped, or cut, at a random place."""
    place = int(rng.integers(len(content)))
    if rng.random() < 0.3:
        return content[:place]
    return content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1 :]


_HURTFUL = (
    b"\0", b"\xff", b"\r\n", b"\n", b'"', b"\xef\xbb\xbf", b"-1", b"9" * 25, b"9" * 5000, b"nan", b"1e999",
    b"\xed\xa0\x80",
)  # fmt: skip


def mutated(content: bytes, rng: np.random.Generator, words: tuple[bytes, ...] = ()) -> bytes:
    """`content` after one to four hostile edits: bits, bytes, cuts, repeats, and `words` that break such a format."""
    for _ in range(int(rng.integers(1, 5))):
        content = _edited(content, rng, (*words, *_HURTFUL))
    return content


def _edited(content: bytes, rng: np.random.Generator, words: tuple[bytes, ...]) -> bytes:
    a, b = sorted(int(place) for place in rng.integers(0, len(content) + 1, 2))
    b = min(b, a + 200)
    word = words[int(rng.integers(len(words)))]
    edits = (
        lambda: damaged(content, rng) if content else word,
        lambda: content[:a] + word + content[a:],
        lambda: content[:a] + word + content[a + len(word) :],
        lambda: content[:a] + content[b:],
        lambda: content[:a] + 2 * content[a:b] + content[b:],
        lambda: content[:a] + rng.bytes(4) + content[a + 4 :],
    )
    return edits[int(rng.integers(len(edits)))]()
