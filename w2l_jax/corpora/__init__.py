"""Corpora: one module per family; each turns a folder or a list into utterances."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class Utterance:
    """One recording, or a piece of one, and what is said in it, as its corpus publishes it."""

    id: str
    audio: Path
    text: str
    speaker: str = ""
    """"" means unknown: it never counts as the same speaker as anybody."""
    language: str = ""
    split: str = ""
    """`train`, `dev` or `test` where the corpus decides; "" leaves it to `dataset.splits`."""
    source: str = ""
    """The corpus it comes from, under which results are reported."""
    words: tuple[tuple[str, float, float], ...] = ()
    """Word, start and end in seconds from the start of `audio`, where the corpus has them."""
    start: float = 0.0
    """Where the piece begins in `audio`, in seconds."""
    end: float | None = None
    """Where it ends (exclusive); None: at the end of the file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Skipped:
    """A recording or annotation of a corpus that gives no utterance: the reason it is counted under, and a sentence."""

    path: Path
    reason: str
    message: str
    id: str = ""


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was found in a delivery of a corpus: every file is used, or listed with a reason."""

    utterances: tuple[Utterance, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    """What a user should know, such as two annotations that disagree: a sentence each, with the place."""
