"""Cuts long recordings at quiet places: a stream of frames in parts of limited length."""

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

LONGEST_SECONDS = 35.0
"""The longest training utterance (§5); longer recordings are cut to this."""


def cut(
    pieces: Iterable[np.ndarray], longest: int, noise: Callable[[np.ndarray], np.ndarray], width: int
) -> Iterator[np.ndarray]:
    """Yields the frames of `pieces` [T, C], in order, in parts of at most `longest` frames.

    Cuts are where `noise` (frames [T, C] → one number each) is least in a frame and, on average, in about `width`
    frames around it; no part is shorter than half of `longest`. Never holds more than one piece and 1.5 · `longest`.
    """
    shortest = longest // 2
    weights = np.hanning(width + 2)[1:-1]
    weights /= weights.sum()
    rest_TxC = None
    for piece_TxC in itertools.chain(pieces, [None]):
        if piece_TxC is not None:
            rest_TxC = piece_TxC if rest_TxC is None else np.concatenate([rest_TxC, piece_TxC])
        # Until the end is known, keep enough for a last part that is not too short.
        kept = longest if piece_TxC is None else longest + shortest
        while rest_TxC is not None and len(rest_TxC) > kept:
            latest = min(longest, len(rest_TxC) - shortest)
            noise_T = noise(rest_TxC[: latest + shortest])
            disturbed_T = noise_T + np.convolve(noise_T, weights, mode="same")
            place = shortest + int(disturbed_T[shortest : latest + 1].argmin())
            yield rest_TxC[:place]
            rest_TxC = rest_TxC[place:]
    if rest_TxC is not None:
        yield rest_TxC
