"""Searches that take the frames of a segment as they arrive."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding import recordings
from w2l_jax.decoding.beam import BeamConfig
from w2l_jax.decoding.confidence import HYPOTHESES, confidences
from w2l_jax.decoding.decoder_config import DecoderConfig
from w2l_jax.decoding.greedy import greedy
from w2l_jax.decoding.recordings import SearchResult
from w2l_jax.model import Params

if TYPE_CHECKING:
    from w2l_jax.decoding.decoder import Decoder


class Resumable(Protocol):
    """A search that can be continued with more frames."""

    def extend(self, piece_SxV: np.ndarray) -> None:
        """Takes more frames."""

    def text(self) -> str:
        """Returns the best text so far."""

    def result(self) -> SearchResult:
        """Returns the result if no frames follow."""


def searches(
    params: Params, alphabet: Alphabet, decoder: DecoderConfig, hot_words: Mapping[str, float]
) -> Callable[[], Resumable]:
    """Returns a function that begins a search; one at a time, because the language model caches one search only."""
    if not (decoder.beam_width or hot_words):
        return functools.partial(_Greedy, params, alphabet)
    from w2l_jax.decoding.decoder import Decoder

    beam = decoder.beam if decoder.beam_width else BeamConfig()
    return functools.partial(_Beam, Decoder(alphabet, decoder.lm or None, beam, hot_words), decoder.calibration)


class _Greedy:
    def __init__(self, params: Params, alphabet: Alphabet):
        self._params, self._alphabet = params, alphabet
        self._logits_SxV = np.zeros((0, alphabet.size), np.float32)

    def extend(self, piece_SxV: np.ndarray) -> None:
        self._logits_SxV = np.concatenate([self._logits_SxV, piece_SxV])

    def text(self) -> str:
        return self.result().text

    def result(self) -> SearchResult:
        if self._alphabet.repetitions:  # ASG: the best path needs its transitions
            return next(recordings.greedy_search([self._logits_SxV], self._params, self._alphabet))
        return SearchResult(greedy(self._logits_SxV, self._alphabet))


class _Beam:
    def __init__(self, decoder: "Decoder", calibration: tuple[float, float]):
        self._decoder, self._calibration, self._front = decoder, calibration, decoder.begin()

    def extend(self, piece_SxV: np.ndarray) -> None:
        self._front = self._decoder.extend(self._front, piece_SxV)

    def text(self) -> str:
        return self._decoder.text(self._front)

    def result(self) -> SearchResult:
        nbest = self._decoder.finish(self._front, HYPOTHESES)
        return SearchResult(nbest[0].text, nbest[0], confidences(nbest, *self._calibration))
