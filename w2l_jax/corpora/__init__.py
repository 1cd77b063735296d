"""Corpora: one module per family; each turns a folder or a list into utterances."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it, as its corpus publishes it."""

    id: str
    audio: Path
    text: str
    speaker: str = ""
    """"" means unknown: it never counts as the same speaker as anybody."""
    language: str = ""
    split: str = ""
    source: str = ""
    """The corpus it comes from, under which results are reported."""
    words: tuple[tuple[str, float, float], ...] = ()
    """Word, start and end in seconds, where the corpus has them."""
