"""Common to Partitur and EMU files: words, their places in the recording, and the spoken text."""

import dataclasses

from deliveries.bas.markers import clean
from w2l_jax.errors import UserError

Span = tuple[int, int]
"""The first sample, and the one after the last."""

_NOT_UNDERSTOOD = "<usb>"


class AnnotationError(UserError):
    """An annotation file that cannot be used; the message names the file and, if there is one, the line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    """A labelled word, with markers, and its samples if known."""

    label: str
    span: Span | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
    """The content of one annotation file that speech recognition needs."""

    words: tuple[Word, ...] = ()
    rate: int = 0
    """Sample rate in Hz; 0: unknown."""
    tr2: tuple[str, ...] = ()
    """The words of the first transcription, if the corpus has them."""
    speaker: str = ""
    problem: str = ""
    """Why the word times of the file were ignored; "" if they were not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Transcript:
    """The spoken words without markers; if all have times, word, start and end in seconds."""

    words: tuple[str, ...] = ()
    times: tuple[tuple[str, float, float], ...] = ()


def union(spans: list[Span]) -> Span | None:
    """Returns the span from the first to the last sample of `spans`; None if there are none."""
    return (min(start for start, _ in spans), max(end for _, end in spans)) if spans else None


def transcript(annotation: Annotation) -> Transcript:
    """Returns the spoken text of `annotation`.

    A first word that was not understood (`<usb>`) is taken from the TR2 tier, which has the rest of a word that begins
    before the recording; so is the last one if TR2 has equally many words.
    """
    labels, tr2 = [word.label for word in annotation.words], annotation.tr2
    if labels and tr2 and labels[0].lower() == _NOT_UNDERSTOOD:
        labels[0] = tr2[0]
    if labels and len(tr2) == len(labels) and labels[-1].lower() == _NOT_UNDERSTOOD:
        labels[-1] = tr2[-1]
    spoken = [(clean(label), word.span) for label, word in zip(labels, annotation.words, strict=True)]
    spoken = [(word, span) for word, span in spoken if word]
    rate = annotation.rate
    times = [(word, span[0] / rate, span[1] / rate) for word, span in spoken if span and rate]
    return Transcript(tuple(word for word, _ in spoken), tuple(times) if len(times) == len(spoken) else ())
