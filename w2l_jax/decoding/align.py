"""The times of a transcript's words, from the most probable CTC alignment with the frames (Viterbi)."""

import math
from typing import NamedTuple

import numpy as np

from w2l_jax.alphabet import BLANK, Alphabet
from w2l_jax.decoding.greedy import clean
from w2l_jax.errors import UserError
from w2l_jax.features import OUTPUT_SECONDS

_LATE = 5  # frames from the beginning of a word to its first letter
_BLANK, _CHARACTER = range(2)
_STAYED = 0  # the predecessor of a state: itself, or one of the other kind or position, encoded as its kind + 1


class WordSpan(NamedTuple):
    """A word and its times, in seconds from the start of the logits, on the grid of their frames (16 ms)."""

    word: str
    start: float
    end: float


def align(logits_SxV: np.ndarray, text: str, alphabet: Alphabet) -> list[WordSpan]:
    """Returns the times of each word of `text`: from 80 ms before its first letter to the last frame of its last.

    Networks emit the first letter that long after the beginning of a word (median 70 to 110 ms on words with known
    beginnings). No word begins before the previous one has ended.

    The logits [S, V] may be normalised or not. Exact: no alignment of the text has a higher probability (ASG's
    transitions are ignored). For L characters it takes time proportional to S · L and memory to √S · L: about three
    minutes and 300 MB for an hour of speech and its transcript. Raises UserError for characters outside the alphabet,
    for logits that are not finite and for a text too long for the frames.
    """
    labels_L = alphabet.encode(clean(text))
    first_L, last_L = _frames(np.asarray(logits_SxV), labels_L, not alphabet.repetitions)
    spans, end = [], 0
    for word, places in zip(text.split(), _words(labels_L, alphabet), strict=True):
        start, end = max(end, first_L[places[0]] - _LATE), last_L[places[-1]] + 1
        spans.append(WordSpan(word, round(start * OUTPUT_SECONDS, 3), round(end * OUTPUT_SECONDS, 3)))
    return spans


def _words(labels_L: np.ndarray, alphabet: Alphabet) -> list[np.ndarray]:
    """The places of each word's labels."""
    if not len(labels_L):
        return []
    spaces = np.flatnonzero(labels_L == alphabet.ids.get(" ", -1))
    first, *others = np.split(np.arange(len(labels_L)), spaces)
    return [first, *(places[1:] for places in others)]


def _frames(logits_SxV: np.ndarray, labels_L: np.ndarray, blank: bool) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last frame of each label."""
    needed = len(labels_L) + int((labels_L[1:] == labels_L[:-1]).sum())
    if needed > len(logits_SxV):
        seconds, least = len(logits_SxV) * OUTPUT_SECONDS, needed * OUTPUT_SECONDS
        raise UserError(
            f"a transcript of {len(labels_L)} letters needs at least {least:g} s, but the recording has {seconds:g} s: "
            "is it the right transcript?"
        )
    if not np.isfinite(logits_SxV).all():
        raise UserError("the logits are not finite; the network diverged or its input is damaged")
    path_S = best_path(logits_SxV, labels_L, blank)
    spoken_S = np.flatnonzero(path_S >= 0)
    places = np.arange(len(labels_L))
    first_L = spoken_S[np.searchsorted(path_S[spoken_S], places)]
    last_L = spoken_S[np.searchsorted(path_S[spoken_S], places, side="right") - 1]
    return first_L, last_L


def best_path(scores_SxV: np.ndarray, labels_L: np.ndarray, blank: bool = True) -> np.ndarray:
    """Returns for each frame the position in `labels_L` of the label it emits, or −1 for the blank; int [S].

    The path has the highest score among all that read as the labels. The labels must fit: one frame per label, and one
    more for each that equals the one before it. With `blank` false there is no blank, and no two neighbours may be
    equal.
    """
    frames, states = len(scores_SxV), len(labels_L) + 1
    # Predecessors are stored for one block at a time and recomputed for the others: memory for √S frames, not S. They
    # take an eighth of the memory of the scores, which are stored between the blocks.
    block = max(1, math.isqrt(8 * frames))
    starts = range(0, frames, block)
    first_2xP = np.full((2, states), -np.inf)
    first_2xP[_BLANK, 0] = 0.0
    checkpoints = [first_2xP]
    for start in starts[:-1]:
        checkpoints.append(_forward(checkpoints[-1], scores_SxV[start : start + block], labels_L, blank))
    path_S = np.empty(frames, int)
    kind = place = None
    for start in reversed(starts):
        scores_KxV = scores_SxV[start : start + block]
        came_Kx2xP = np.zeros((len(scores_KxV), 2, states), np.int8)
        last_2xP = _forward(checkpoints.pop(), scores_KxV, labels_L, blank, came_Kx2xP)
        if place is None:
            place = states - 1
            kind = int(last_2xP[:, place].argmax())
        for k in reversed(range(len(scores_KxV))):
            path_S[start + k] = place - 1 if kind == _CHARACTER else -1
            came = came_Kx2xP[k, kind, place]
            place -= int(kind == _CHARACTER and came != _STAYED)
            kind = kind if came == _STAYED else came - 1
    return path_S


def _forward(
    states_2xP: np.ndarray,
    scores_SxV: np.ndarray,
    labels_L: np.ndarray,
    blank: bool,
    came_Sx2xP: np.ndarray | None = None,
) -> np.ndarray:
    """CTC's states after some more frames: the best score of the blank after p characters, and of the p-th character.

    Fills `came_Sx2xP` with each state's predecessor in each frame: itself, a blank, or another character.
    """
    blank_P, character_P = states_2xP.copy()
    # A direct step from one character to the next is possible only if they differ.
    skip_L = np.where(np.diff(labels_L, prepend=-1) == 0, -np.inf, 0.0)
    for s, scores_V in enumerate(np.asarray(scores_SxV, np.float64)):
        stay_L, enter_L, skipped_L = character_P[1:], blank_P[:-1], character_P[:-1] + skip_L
        best_L = np.maximum(stay_L, enter_L)
        if came_Sx2xP is not None:
            came_Sx2xP[s, _BLANK] = (character_P > blank_P) * (1 + _CHARACTER)
            came_Sx2xP[s, _CHARACTER, 1:] = (enter_L > stay_L) * (1 + _BLANK)
            came_Sx2xP[s, _CHARACTER, 1:][skipped_L > best_L] = 1 + _CHARACTER
        blank_P = np.maximum(blank_P, character_P) + (scores_V[BLANK] if blank else -np.inf)
        character_P[1:] = np.maximum(best_L, skipped_L) + scores_V[labels_L]
    return np.stack([blank_P, character_P])
