"""Confidences of a transcript's words: posteriors over the n-best list, calibrated on dev data.

A hypothesis's posterior is its share of exp(score / temperature) in the list. A word of the best hypothesis gets the
summed posteriors of all hypotheses that hold it at the same place of a minimum-cost alignment. A temperature above 1
lowers confidences (Guo et al. 2017, "On Calibration of Modern Neural Networks"). It cannot help where all hypotheses
share an error, as in a beam they often do; hence the coverage, the fraction of the whole posterior attributed to the
list. Both are fitted by maximum likelihood.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Indel

from w2l_jax.decoding.beam import Transcript

HYPOTHESES = 100
"""Length of the n-best lists for confidences: a temperature is valid for the length it was fitted with."""

# Steps of 6 % and of 2 %: the likelihood is flat near its maximum.
_TEMPERATURES = np.geomspace(0.1, 100.0, 121)
_COVERAGES = np.linspace(0.02, 1.0, 50)
# A word on which the whole list agrees has posterior 1; if wrong, its loss must stay finite.
_SUREST = 1 - 1e-3


def confidences(nbest: Sequence[Transcript], temperature: float, coverage: float = 1.0) -> list[float]:
    """The confidence of each word of `nbest[0].text`, 0 to 1, from an n-best list (best first)."""
    return (coverage * _posteriors(nbest, np.array([temperature]))[0]).tolist()


def right(expected: str, text: str) -> list[bool]:
    """Whether each word of `text` is in a longest common subsequence with `expected`."""
    words = text.split()
    found = [False] * len(words)
    for step, _, _, start, end in Indel.opcodes(expected.split(), words):
        found[start:end] = [step == "equal"] * (end - start)
    return found


def words(
    nbests: Sequence[Sequence[Transcript]], expected: Sequence[str], temperature: float, coverage: float = 1.0
) -> tuple[list[float], list[bool]]:
    """The confidence of every word of these utterances, and whether it is right."""
    sure = [value for nbest in nbests for value in confidences(nbest, temperature, coverage)]
    return sure, [value for nbest, text in zip(nbests, expected, strict=True) for value in right(text, nbest[0].text)]


def fit(nbests: Sequence[Sequence[Transcript]], expected: Sequence[str]) -> tuple[float, float]:
    """The temperature (0.1 to 100) and the coverage with the least log loss of word correctness; 1 without words."""
    correct_W = np.array([value for n, text in zip(nbests, expected, strict=True) for value in right(text, n[0].text)])
    if not len(correct_W):
        return 1.0, 1.0
    posterior_KxW = np.concatenate([_posteriors(nbest, _TEMPERATURES) for nbest in nbests], axis=1)
    loss_CxK = np.stack([_log_loss(coverage * posterior_KxW, correct_W.astype(bool)) for coverage in _COVERAGES])
    c, k = np.unravel_index(loss_CxK.argmin(), loss_CxK.shape)
    return float(_TEMPERATURES[k]), float(_COVERAGES[c])


def _log_loss(confidence_KxW: np.ndarray, correct_W: np.ndarray) -> np.ndarray:
    confidence_KxW = np.clip(confidence_KxW, 1 - _SUREST, _SUREST)
    return -np.log(np.where(correct_W, confidence_KxW, 1 - confidence_KxW)).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class Bin:
    """The words with confidences in one bin of 0 to 1."""

    words: int
    confidence: float
    """Their mean confidence."""
    right: float
    """The fraction of them that are right."""


def reliability(confidence: Sequence[float], correct: Sequence[bool], bins: int = 10) -> list[Bin]:
    """The words in `bins` equal parts of 0 to 1 by confidence, without empty ones."""
    confidence_W, correct_W = np.asarray(confidence, float), np.asarray(correct, bool)
    part_W = np.minimum((confidence_W * bins).astype(int), bins - 1)
    return [
        Bin(int((part_W == p).sum()), float(confidence_W[part_W == p].mean()), float(correct_W[part_W == p].mean()))
        for p in np.unique(part_W)
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: the mean over words of their bin's |confidence − fraction right|, or NaN."""
    words = sum(b.words for b in bins)
    return sum(b.words * abs(b.confidence - b.right) for b in bins) / words if words else float("nan")


def _posteriors(nbest: Sequence[Transcript], temperatures_K: np.ndarray) -> np.ndarray:
    """The share [K, W] of the list that holds each word of the best hypothesis, at each temperature."""
    score_N = np.array([transcript.score for transcript in nbest])
    weight_KxN = np.exp((score_N - score_N.max()) / temperatures_K[:, None])
    held_NxW = np.array([right(transcript.text, nbest[0].text) for transcript in nbest], float)
    return weight_KxN / weight_KxN.sum(axis=1, keepdims=True) @ held_NxW
