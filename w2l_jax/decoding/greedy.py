"""Best-path decoding: the most probable label of every frame, repeats collapsed, blanks dropped (ASG has none)."""

import numpy as np

from w2l_jax.alphabet import BLANK, Alphabet


def greedy(frames: np.ndarray, alphabet: Alphabet) -> str:
    """Returns the best path's transcript, words separated by single spaces, as in references.

    Args:
      frames: logits or log-probabilities [S, V] of CTC, or the best path's labels [S] (integers), all of real frames.
      alphabet: the network's characters; V = alphabet.size.
    """
    ids_S = np.asarray(frames)
    if ids_S.ndim == 2:
        ids_S = ids_S.argmax(axis=1)
    said_S = np.diff(ids_S, prepend=-1) != 0
    if not alphabet.repetitions:
        said_S &= ids_S != BLANK
    return clean(alphabet.decode(ids_S[said_S]))


def clean(text: str) -> str:
    """Returns `text` without outer and repeated spaces: the form of the references."""
    return " ".join(text.split())
