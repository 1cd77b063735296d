"""Confidences of a transcript's words: posteriors over the n-best list, calibrated on dev data.

A hypothesis's posterior is its share of exp(score / temperature) in the list. A word of the best hypothesis gets the
summed posteriors of all hypotheses that hold it at the same place of a minimum-cost alignment. A temperature above 1
lowers confidences (Guo et al. 2017, "On Calibration of Modern Neural Networks"). It cannot help where all hypotheses
share an error, as in a beam they often do; hence the coverage, the fraction of the whole posterior attributed to the
list. `temperature` and `coverage` are fitted on dev data.
"""

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Indel

from w2l_jax.decoding.beam import Transcript

HYPOTHESES = 100
"""Length of the n-best lists for confidences: a temperature is valid for the length it was fitted with."""


def confidences(nbest: Sequence[Transcript], temperature: float, coverage: float = 1.0) -> list[float]:
    """The confidence of each word of `nbest[0].text`, 0 to 1, from an n-best list (best first)."""
    return (coverage * posteriors(nbest, np.array([temperature]))[0]).tolist()


def right(expected: str, text: str) -> list[bool]:
    """Whether each word of `text` is in a longest common subsequence with `expected`."""
    words = text.split()
    correct = [False] * len(words)
    for step, _, _, start, end in Indel.opcodes(expected.split(), words):
        correct[start:end] = [step == "equal"] * (end - start)
    return correct


def posteriors(nbest: Sequence[Transcript], temperatures_K: np.ndarray) -> np.ndarray:
    """The share [K, W] of the list that holds each word of the best hypothesis, at each temperature."""
    score_N = np.array([transcript.score for transcript in nbest])
    weight_KxN = np.exp((score_N - score_N.max()) / temperatures_K[:, None])
    held_NxW = np.array([right(transcript.text, nbest[0].text) for transcript in nbest], float)
    return weight_KxN / weight_KxN.sum(axis=1, keepdims=True) @ held_NxW
