"""Best-path decoding: the most probable label of every frame, repeats collapsed, blanks dropped."""

import numpy as np

from w2l_jax.alphabet import BLANK, Alphabet


def greedy(frames: np.ndarray, alphabet: Alphabet) -> str:
    """Returns the best path's transcript, words joined by single spaces as references are.

    Args:
      frames: logits or log-probabilities [S, V], or the winning labels [S] (integers), S of which are real frames.
      alphabet: the network's characters; V = alphabet.size.
    """
    ids_S = np.asarray(frames)
    if ids_S.ndim == 2:
        ids_S = ids_S.argmax(axis=1)
    new_S = np.diff(ids_S, prepend=BLANK) != 0
    return clean(alphabet.decode(ids_S[new_S & (ids_S != BLANK)]))


def clean(text: str) -> str:
    """Returns `text` without outer and repeated spaces: the words that were heard, as the references spell them."""
    return " ".join(text.split())
