"""Corpora: the utterances and skipped rows that readers return."""

import collections
import dataclasses
import re
from pathlib import Path

from w2l_jax.errors import UserError

SPLITS = ("train", "dev", "test")
_SPLIT = re.compile(r"(train|dev|val|test|eval)(ing|el|elopment|id|idation|uation)?(?![a-z])", re.IGNORECASE)
MAX_SKIPPED = 0.05
"""Share of the rows, or of the utterances, above which skipping them is an error."""


def split_named(name: str) -> str:
    """Returns the split that a name such as `test_clean`, `Validation` or `eval2000` begins with, "" if none."""
    match = _SPLIT.match(name)
    return {"val": "dev", "eval": "test"}.get(word := match[1].lower(), word) if match else ""


@dataclasses.dataclass(frozen=True, slots=True)
class Utterance:
    """One recording, or a piece of one, with its published transcript."""

    id: str
    audio: Path
    text: str
    speaker: str = ""
    """"" means unknown, and never equals another speaker."""
    language: str = ""
    split: str = ""
    """`train`, `dev` or `test` where the corpus decides; "" if it does not."""
    source: str = ""
    """Its corpus; results are reported by corpus."""
    words: tuple[tuple[str, float, float], ...] = ()
    """Word, start and end in seconds from the start of `audio`, where the corpus has them."""
    start: float = 0.0
    """Where the piece begins in `audio`, in seconds."""
    end: float | None = None
    """Where it ends (exclusive); None: at the end of the file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Skipped:
    """A recording or annotation that gives no utterance: the reason it is counted under, and a sentence of detail."""

    path: Path
    reason: str
    message: str
    id: str = ""
    broken: bool = False
    """Whether it is faulty: too many of these are an error."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """The content of a corpus: every file is used, or listed with a reason."""

    utterances: tuple[Utterance, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    """Notes for the user, such as two annotations that disagree: one sentence each, with the place."""

    def check(self, source: Path, max_skipped: float = MAX_SKIPPED) -> "Reading":
        """Returns itself; raises UserError if a larger share of rows than `max_skipped` is broken."""
        broken = [row for row in self.skipped if row.broken]
        total = len(self.utterances) + len(broken)
        if too_many(len(broken), total, max_skipped):
            counts = collections.Counter(row.reason for row in broken)
            first = {row.reason: row.message for row in reversed(broken)}
            raise UserError(
                f"{source}: {len(broken):,} of {total:,} rows cannot be used, and at most {max_skipped:.0%} may be "
                "skipped (max_skipped):"
                + "".join(f"\n  {n:>8,}  {reason}, the first: {first[reason]}" for reason, n in counts.most_common())
            )
        return self


def too_many(count: int, total: int, max_skipped: float) -> bool:
    """Whether `count` of `total` are more than the share `max_skipped` (0: none), and more than one."""
    return count > (max(1, max_skipped * total) if max_skipped else 0)


def weighted_sources(text: str) -> list[tuple[str, float]]:
    """Returns paths and weights (1 by default) of a list such as `a.jsonl,data/b/train=2`; raises UserError.

    A single path may contain commas if it exists.
    """
    if Path(text).exists():
        return [(text, 1.0)]
    sources = []
    for item in filter(None, map(str.strip, text.split(","))):
        path, mark, weight = item.rpartition("=")
        if not mark or Path(item).exists():
            path, weight = item, "1"
        try:
            sources.append((path, float(weight)))
        except ValueError:
            raise UserError(f"{item!r}: write sources as path or path=weight, separated by commas") from None
        if not 0 < sources[-1][1] <= 1000:
            raise UserError(f"{item!r}: a weight must be above 0 and at most 1000")
    return sources
