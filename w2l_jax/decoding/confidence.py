"""How sure a transcript is of each of its words: posteriors over the n-best list, calibrated on dev data.

A hypothesis's posterior is its share of exp(score / temperature) in the list. A word of the best hypothesis has the
sum of the posteriors of those that hold it at the same place, where a cheapest alignment of the words decides what
the same place is. A temperature above 1 makes them less sure; the one under which words prove right as often as
their confidences say is fitted by maximum likelihood (Guo et al. 2017, "On Calibration of Modern Neural Networks").
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from w2l_jax import metrics
from w2l_jax.decoding.beam import Transcript

HYPOTHESES = 100
"""Length of the n-best lists that confidences are made of: a temperature holds for the length it was fitted with."""

_TEMPERATURES = np.geomspace(0.1, 100.0, 601)
# A word in which the whole list agrees has the posterior 1; wrong all the same, it must not cost infinitely much.
_SUREST = 1 - 1e-3


def confidences(nbest: Sequence[Transcript], temperature: float) -> list[float]:
    """The confidence of each word of `nbest[0].text`, 0 to 1, from an n-best list (best first)."""
    return _confidences(_scores(nbest), _support(nbest), np.array([temperature]))[0].tolist()


def right(expected: str, text: str) -> list[bool]:
    """Whether each word of `text` stands in `expected` too, as a cheapest alignment of the words pairs them."""
    reference, words = expected.split(), text.split()
    found = [False] * len(words)
    for i, j in metrics.alignment(reference, words):
        if i is not None and j is not None:
            found[j] = reference[i] == words[j]
    return found


def words(
    nbests: Sequence[Sequence[Transcript]], expected: Sequence[str], temperature: float
) -> tuple[list[float], list[bool]]:
    """The confidence of every word of these utterances, and whether it is right."""
    sure = [value for nbest in nbests for value in confidences(nbest, temperature)]
    return sure, [value for nbest, text in zip(nbests, expected, strict=True) for value in right(text, nbest[0].text)]


def fit_temperature(nbests: Sequence[Sequence[Transcript]], expected: Sequence[str]) -> float:
    """The temperature (0.1 to 100) with the least log loss of word correctness; 1 where no word was heard."""
    loss_K = np.zeros(len(_TEMPERATURES))
    for nbest, text in zip(nbests, expected, strict=True):
        correct_W = np.array(right(text, nbest[0].text), bool)
        confidence_KxW = _confidences(_scores(nbest), _support(nbest), _TEMPERATURES)
        confidence_KxW = np.clip(confidence_KxW, 1 - _SUREST, _SUREST)
        loss_K -= np.log(np.where(correct_W, confidence_KxW, 1 - confidence_KxW)).sum(axis=1)
    return float(_TEMPERATURES[loss_K.argmin()]) if loss_K.any() else 1.0


@dataclasses.dataclass(frozen=True)
class Bin:
    """The words whose confidences lie in one tenth of 0 to 1."""

    words: int
    confidence: float
    """Their mean confidence."""
    right: float
    """The fraction of them that are right."""


def reliability(confidence: Sequence[float], correct: Sequence[bool], bins: int = 10) -> list[Bin]:
    """The words in `bins` equal parts of 0 to 1 by confidence, empty ones left out."""
    confidence_W, correct_W = np.asarray(confidence, float), np.asarray(correct, bool)
    part_W = np.minimum((confidence_W * bins).astype(int), bins - 1)
    return [
        Bin(int((part_W == p).sum()), float(confidence_W[part_W == p].mean()), float(correct_W[part_W == p].mean()))
        for p in np.unique(part_W)
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: the mean over words of |confidence − fraction right| of their bin; NaN without."""
    words = sum(b.words for b in bins)
    return sum(b.words * abs(b.confidence - b.right) for b in bins) / words if words else float("nan")


def _scores(nbest: Sequence[Transcript]) -> np.ndarray:
    return np.array([transcript.score for transcript in nbest])


def _support(nbest: Sequence[Transcript]) -> np.ndarray:
    """Whether each hypothesis [N] holds each word [W] of the best one."""
    support_NxW = np.zeros((len(nbest), len(nbest[0].text.split())), bool)
    for row, transcript in zip(support_NxW, nbest, strict=True):
        row[:] = right(transcript.text, nbest[0].text)
    return support_NxW


def _confidences(scores_N: np.ndarray, support_NxW: np.ndarray, temperatures_K: np.ndarray) -> np.ndarray:
    logits_KxN = (scores_N - scores_N.max()) / temperatures_K[:, None]
    weights_KxN = np.exp(logits_KxN)
    return weights_KxN / weights_KxN.sum(axis=1, keepdims=True) @ support_NxW
