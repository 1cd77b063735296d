"""Recordings of any length to timed segments of text, in constant memory."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from w2l_jax import inference, pauses
from w2l_jax.alphabet import BLANK, Alphabet
from w2l_jax.decoding.align import WordSpan, align
from w2l_jax.decoding.beam import Transcript
from w2l_jax.decoding.confidence import HYPOTHESES, confidences
from w2l_jax.decoding.greedy import greedy
from w2l_jax.features import OUTPUT_SECONDS
from w2l_jax.model import Params
from w2l_jax.text import join_unspaced

if TYPE_CHECKING:
    from w2l_jax.decoding.pool import DecoderPool

_PAUSE = 0.5  # seconds of silence to leave around a cut


class Word(NamedTuple):
    """A word of the best transcript: times in seconds from the start of the recording, and confidence, 0 to 1."""

    word: str
    start: float
    end: float
    confidence: float | None = None
    """Calibrated; None without a beam search."""
    posterior: float | None = None
    """Before calibration; None if not requested."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """Some seconds of a recording, from `start` to `end`, with at least one word."""

    start: float
    end: float
    words: tuple[Word, ...]
    transcript: Transcript | None = None
    """The beam search's transcript, with its scores."""

    @property
    def text(self) -> str:
        """The words separated by single spaces, with none between characters of scripts without spaces."""
        return text_of(self.words)


def text_of(words: Iterable[Word]) -> str:
    """Returns the text of words, in the form of `Segment.text`."""
    return join_unspaced(" ".join(word.word for word in words))


class SearchResult(NamedTuple):
    """The result of a search: the text and, from a beam search, its scores and the words' confidences."""

    text: str
    transcript: Transcript | None = None
    confidences: Sequence[float] | None = None


Search = Callable[[Iterable[np.ndarray]], Iterator[SearchResult]]


def greedy_search(parts: Iterable[np.ndarray], params: Params, alphabet: Alphabet) -> Iterator[SearchResult]:
    """Yields the best path's text of each part's logits [S, V]."""
    for part_SxV in parts:
        yield SearchResult(greedy(inference.best_path(params, part_SxV), alphabet))


def beam_search(
    parts: Iterable[np.ndarray], pool: "DecoderPool", calibration: tuple[float, float]
) -> Iterator[SearchResult]:
    """Yields the pool's result for each part's logits [S, V]; `calibration` is for the confidences."""
    for nbest in pool.nbest(parts, HYPOTHESES):
        yield SearchResult(nbest[0].text, nbest[0], confidences(nbest, *calibration))


def transcribe(logits: Iterable[np.ndarray], alphabet: Alphabet, search: Search) -> Iterator[Segment]:
    """Yields the segments of a recording whose logits [S, V] arrive in pieces.

    A recording of more than 35 s is searched in parts of 17 to 35 s, cut where speech is least probable.
    """
    waiting: collections.deque[tuple[int, np.ndarray]] = collections.deque()

    def parts() -> Iterator[np.ndarray]:
        first = 0
        for part_SxV in pauses.cut(logits, _frames(pauses.LONGEST_SECONDS), speech(alphabet), _frames(_PAUSE)):
            waiting.append((first, part_SxV))
            first += len(part_SxV)
            yield part_SxV

    for result in search(parts()):
        first, part_SxV = waiting.popleft()
        if piece := segment(result, part_SxV, first, alphabet):
            yield piece


def segment(result: SearchResult, logits_SxV: np.ndarray, first: int, alphabet: Alphabet) -> Segment | None:
    """Returns the search result of logits [S, V] as a segment, None without words; `first` is their first frame."""
    if not result.text:
        return None
    words = timed(align(logits_SxV, result.text, alphabet), result.confidences, first * OUTPUT_SECONDS)
    return Segment(words[0].start, words[-1].end, words, result.transcript)


def _frames(seconds: float) -> int:
    return round(seconds / OUTPUT_SECONDS)


def speech(alphabet: Alphabet) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the probability [S] that a frame of logits emits neither a blank nor a space."""
    silent = [alphabet.ids[" "]] if " " in alphabet.ids else []
    silent += [] if alphabet.repetitions else [BLANK]

    def probability(logits_SxV: np.ndarray) -> np.ndarray:
        likely_SxV = np.exp(logits_SxV - logits_SxV.max(axis=1, keepdims=True))
        return 1 - likely_SxV[:, silent].sum(axis=1) / likely_SxV.sum(axis=1)

    return probability


def timed(spans: Sequence[WordSpan], sure: Sequence[float] | None = None, offset: float = 0.0) -> tuple[Word, ...]:
    """Returns the words of spans that begin `offset` seconds from the start, with confidences if there are any."""
    return tuple(
        Word(span.word, round(float(span.start + offset), 3), round(float(span.end + offset), 3), confidence)
        for span, confidence in zip(spans, sure or [None] * len(spans), strict=True)
    )
