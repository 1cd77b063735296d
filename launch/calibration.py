"""Confidences against the truth: temperature and coverage by maximum likelihood, and how far they are off."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from w2l_jax.decoding.beam import Transcript
from w2l_jax.decoding.confidence import confidences, posteriors, right

# Steps of 6 % and of 2 %: the likelihood is flat near its maximum.
_TEMPERATURES = np.geomspace(0.1, 100.0, 121)
_COVERAGES = np.linspace(0.02, 1.0, 50)
# A word on which the whole list agrees has posterior 1; if wrong, its loss must stay finite.
_SUREST = 1 - 1e-3


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
    posterior_KxW = np.concatenate([posteriors(nbest, _TEMPERATURES) for nbest in nbests], axis=1)
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
