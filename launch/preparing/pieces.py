"""Cuts long recordings at pauses between words into pieces to train on, instead of skipping them.

(The paper skips recordings over 35 s.)
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator

from w2l_jax import audio
from w2l_jax.corpora import Utterance

_PAUSE = 0.05  # seconds; the shortest pause to cut in
_SILENCE = 0.5  # seconds of silence to keep before and after the words
_ROUNDING = 0.001  # seconds; keeps a piece within the limit after rounding to samples


def split_long(
    utterances: Iterable[Utterance], max_seconds: float, seconds: Callable[[Utterance], float]
) -> Iterator[Utterance]:
    """Yields the utterances, those longer than `max_seconds` in pieces where they have word times.

    `seconds` measures one. A piece `<id>-001`, … extends from the middle of a pause to the middle of another, at most
    half a second beyond its words, which are its text. It ends at the longest pause in the second half of the maximum
    length, or at the last one in the first half; words without a pause between them stay together.
    """
    for utterance in utterances:
        length = seconds(utterance)
        if not utterance.words or length <= max_seconds:
            yield utterance
            continue
        words = sorted(utterance.words, key=lambda word: word[1:])
        spans = _spans(words, utterance.start, utterance.start + length, max_seconds - _ROUNDING)
        for number, (first, stop, start, end) in enumerate(spans, start=1):
            inside = tuple(words[first:stop])
            text = " ".join(word for word, _, _ in inside)
            yield dataclasses.replace(
                utterance, id=f"{utterance.id}-{number:03d}", text=text, words=inside, start=start, end=end
            )


def recorded_seconds(utterance: Utterance) -> float:
    """Returns the length of an utterance in seconds by its audio header, 0 if unknown."""
    end = audio.seconds(utterance.audio) if utterance.end is None else utterance.end
    return max(end - utterance.start, 0.0)


def annotated_seconds(utterance: Utterance) -> float:
    """Returns seconds from the start of an utterance to the end of its last word, without reading audio."""
    return max((end for _, _, end in utterance.words), default=utterance.start) - utterance.start


def _spans(
    words: list[tuple[str, float, float]], begin: float, end: float, limit: float
) -> Iterator[tuple[int, int, float, float]]:
    """Yields first word, last word + 1, start and end of each piece of the words between `begin` and `end`."""
    starts = [start for _, start, _ in words]
    ends = list(itertools.accumulate((end for _, _, end in words), max))
    # Boundary i is before word i. The first and last have `begin` and `end` as their middles.
    gaps = list(zip([2 * begin - starts[0], *ends], [*starts, 2 * end - ends[-1]], strict=True))
    opens = [max((left + right) / 2, right - _SILENCE) for left, right in gaps]
    closes = [min((left + right) / 2, left + _SILENCE) for left, right in gaps]
    pauses = [right - left for left, right in gaps]
    first = 0
    while first < len(words):
        stop = _stop(first, opens[first] + limit, opens[first] + limit / 2, pauses, closes)
        yield first, stop, opens[first], closes[stop]
        first = stop


def _stop(first: int, latest: float, early: float, pauses: list[float], closes: list[float]) -> int:
    """The end boundary of the piece that begins with word `first` and may last until `latest`."""
    everything = len(closes) - 1
    if closes[everything] <= latest:
        return everything
    stops = [stop for stop in range(first + 1, everything) if pauses[stop] >= _PAUSE] or [everything]
    fitting = list(itertools.takewhile(lambda stop: closes[stop] <= latest, stops)) or stops[:1]
    late = [stop for stop in fitting if closes[stop] >= early]
    return max(late, key=lambda stop: (pauses[stop], stop)) if late else fitting[-1]
