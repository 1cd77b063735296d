"""Live recognition: blocks of a waveform in, events out.

Everything depends on the sample count, in steps of 160 ms, never on where blocks end or when they arrive. An output
frame is known once its receptive field has arrived, 0.8 s later. At quiet places the network is run as if the recording
ended there, which makes words final earlier.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from w2l_jax import audio, features, incoming, incremental
from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding import recordings, resumable
from w2l_jax.decoding.align import align
from w2l_jax.decoding.beam import Transcript
from w2l_jax.decoding.recordings import Segment, Word
from w2l_jax.decoding.resumable import Resumable
from w2l_jax.errors import UserError
from w2l_jax.features import FRAME_SECONDS, OUTPUT_SECONDS, FeatureConfig
from w2l_jax.incoming import Block, Messages

if TYPE_CHECKING:
    from w2l_jax.recognizer import Recognizer

PAUSE_SECONDS = 0.4
"""Words are final after so many seconds of silence."""
LONGEST_SECONDS = 20.0
"""Without such a pause words are final after so many seconds, up to the quietest place of the second half."""

_PAUSE, _LONGEST = (round(seconds / OUTPUT_SECONDS) for seconds in (PAUSE_SECONDS, LONGEST_SECONDS))
_SPEECH = 0.5  # probability from which on a frame is not silent
_TRIED = range(2, 7)  # quiet steps after which the network is run ahead: 0.3 to 1 s


@dataclasses.dataclass(frozen=True)
class Event:
    """Provisional words, final words, or a `message` about the sound; times in seconds from the start.

    Each event replaces the `provisional` one before it, possibly by no words. After a `final` event, provisional ones
    are about what follows. Words have times and, in final events of a beam search, confidences.
    """

    kind: Literal["provisional", "final", "message"]
    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    transcript: Transcript | None = None
    """In final events of a beam search: the transcript with its scores."""

    @property
    def segment(self) -> Segment:
        """The words as `transcribe` gives them."""
        return Segment(self.start, self.end, self.words, self.transcript)


def stream(
    recognizer: "Recognizer", blocks: Iterable[Block], rate: int, hot_words: Mapping[str, float]
) -> Iterator[Event]:
    """Compiles the network and returns the events of `blocks` (see `Recognizer.stream`)."""
    if rate < 1:
        raise UserError(f"rate is {rate}; give the blocks' samples per second")
    params, alphabet = recognizer.params, recognizer.alphabet
    begin = resumable.searches(params, alphabet, recognizer.decoder, hot_words)

    def events(source: Iterable[Block], rate: int) -> Iterator[Event]:
        messages = Messages()
        waveform = incoming.at_16_khz(source, rate, messages)
        levels = features.levels(waveform, recognizer.features, slab=incremental.FRAMES)
        pieces = map(Normalizer(recognizer.features), levels)
        return _events(pieces, incremental.Network(params, recognizer.model), alphabet, begin, messages)

    collections.deque(events([np.zeros(audio.SAMPLE_RATE, np.float32)], audio.SAMPLE_RATE), maxlen=0)
    return events(blocks, rate)


class Normalizer:
    """Normalises features by the past only; training used whole utterances.

    Call it with the next features [T, M]; it returns them in float16. Mean and standard deviation are those of about
    the last twenty seconds (exponentially forgotten), and start from those of typical speech.
    """

    START: ClassVar = {FeatureConfig(): (-1.05, 0.63)}
    """Means over 300 utterances of the included network's training set, of 0.2 and 0.12 standard deviations."""
    START_SECONDS, SECONDS = 3.0, 20.0

    def __init__(self, config: FeatureConfig):
        mean, deviation = self.START.get(config, (0.0, 0.0))
        self._frames = self.START_SECONDS / FRAME_SECONDS if config in self.START else 0.0
        self._mean, self._square = mean, mean**2 + deviation**2

    def __call__(self, levels_TxM: np.ndarray) -> np.ndarray:
        self._frames = min(self._frames + len(levels_TxM), self.SECONDS / FRAME_SECONDS)
        share = len(levels_TxM) / self._frames
        self._mean += share * (levels_TxM.mean(dtype=np.float64) - self._mean)
        self._square += share * (np.square(levels_TxM, dtype=np.float64).mean() - self._square)
        deviation = math.sqrt(max(self._square - self._mean**2, 0.0))
        if deviation < 1e-6 * max(1.0, abs(self._mean)):
            return np.zeros_like(levels_TxM, np.float16)
        return ((levels_TxM - self._mean) / deviation).astype(np.float16)


def _events(
    pieces: Iterable[np.ndarray],
    network: incremental.Network,
    alphabet: Alphabet,
    begin: Callable[[], Resumable],
    messages: Messages,
) -> Iterator[Event]:
    unfinished, quiet, last = _Unfinished(0, alphabet, begin), 0, False
    for piece_TxM in pieces:
        last = len(piece_TxM) < incremental.FRAMES
        unfinished.extend(network.rest(piece_TxM) if last else network.extend(piece_TxM))
        yield from (Event("message", *message) for message in messages.read())
        quiet = quiet + 1 if piece_TxM.mean() < 0 else 0
        end = unfinished.end()
        if not end and quiet in _TRIED and not last:
            end = unfinished.end_early(network.rest())
        if end:
            yield from unfinished.final(end)
            unfinished = unfinished.behind(end)
        yield from unfinished.provisional()
    if not last:
        unfinished.extend(network.rest())
    yield from (Event("message", *message) for message in messages.read())
    yield from unfinished.final()


def _pauses(speech_S: np.ndarray) -> bool:
    return len(speech_S) >= _PAUSE and bool((speech_S[-_PAUSE:] < _SPEECH).all())


class _Unfinished:
    """The frames from `first` whose words are not final yet."""

    def __init__(self, first: int, alphabet: Alphabet, begin: Callable[[], Resumable]):
        self._first, self._alphabet, self._begin, self._search = first, alphabet, begin, begin()
        self._logits_SxV = np.zeros((0, alphabet.size), np.float32)
        self._text, self._words = "", ()
        self._early = 0  # frames that became final before they were known

    def extend(self, piece_SxV: np.ndarray) -> None:
        self._take(piece_SxV[self._early :])
        self._early = max(self._early - len(piece_SxV), 0)

    def _take(self, piece_SxV: np.ndarray) -> None:
        self._logits_SxV = np.concatenate([self._logits_SxV, piece_SxV])
        self._search.extend(piece_SxV)

    def end(self) -> int:
        """The number of frames that are final now: all at a pause, some after a long time without one, else 0."""
        frames = len(self._logits_SxV)
        speech_S = recordings.speech(self._alphabet)(self._logits_SxV[-_PAUSE if frames < _LONGEST else None :])
        if _pauses(speech_S):
            return frames
        if frames < _LONGEST:
            return 0
        weights = np.hanning(_PAUSE + 2)[1:-1]
        disturbed_S = speech_S + np.convolve(speech_S, weights / weights.sum(), mode="same")
        return _LONGEST // 2 + int(disturbed_S[_LONGEST // 2 : _LONGEST].argmin())

    def end_early(self, rest_SxV: np.ndarray) -> int:
        """The number of frames that are final if `rest` follows, without half of the pause; else 0."""
        rest_SxV = rest_SxV[self._early :]
        speech_S = recordings.speech(self._alphabet)(np.concatenate([self._logits_SxV, rest_SxV]))
        more = len(rest_SxV) - _PAUSE // 2
        if more <= 0 or not _pauses(speech_S) or (speech_S < _SPEECH).all():
            return 0
        self._take(rest_SxV[:more])
        self._early += more
        return len(self._logits_SxV)

    def final(self, end: int | None = None) -> Iterator[Event]:
        """Yields the words of the frames before `end` (None: all), or an event that clears those shown."""
        search, logits_SxV = self._search, self._logits_SxV[:end]
        if len(logits_SxV) < len(self._logits_SxV):
            search = self._begin()
            search.extend(logits_SxV)
        result = search.result()
        if segment := recordings.segment(result, logits_SxV, self._first, self._alphabet):
            yield Event("final", segment.start, segment.end, segment.text, segment.words, segment.transcript)
        elif self._text:
            yield Event("provisional", self._words[0].start, self._words[-1].end, "")

    def behind(self, end: int) -> "_Unfinished":
        """Returns the frames from `end`."""
        following = _Unfinished(self._first + end, self._alphabet, self._begin)
        following._early = self._early
        if end < len(self._logits_SxV):
            following.extend(self._logits_SxV[end:])
        return following

    def provisional(self) -> Iterator[Event]:
        """Yields the words so far if they have changed."""
        text = self._search.text()
        if text == self._text:
            return
        before, self._text = self._words, text
        self._words = self._timed(text.split(), before) if text else ()
        shown = self._words or before
        yield Event("provisional", shown[0].start, shown[-1].end, recordings.text_of(self._words), self._words)

    def _timed(self, words: list[str], before: tuple[Word, ...]) -> tuple[Word, ...]:
        """The times of the words; aligns again only from the first change."""
        same = 0
        while same < min(len(words), len(before) - 1) and words[same] == before[same].word:
            same += 1
        known = before[:same]
        first = round(known[-1].end / OUTPUT_SECONDS) - self._first if known else 0
        try:
            spans = align(self._logits_SxV[first:], " ".join(words[same:]), self._alphabet)
        except UserError:  # the words before have moved, and left no room
            known, first = (), 0
            spans = align(self._logits_SxV, " ".join(words), self._alphabet)
        return known + recordings.timed(spans, None, (self._first + first) * OUTPUT_SECONDS)
