"""The vocabulary of the beam search as a prefix tree, with the best word score under each prefix."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from w2l_jax.alphabet import Alphabet
from w2l_jax.lm.compiled import compiled

OUTSIDE, ROOT = 0, 1  # not a prefix of any word; the empty prefix


class Tree(NamedTuple):
    """N prefixes, breadth first: node n's children are `first_N[n]` to `first_N[n + 1]`, ordered by label."""

    first_N: np.ndarray
    """One entry more than nodes."""
    label_N: np.ndarray
    """The prefix's last label."""
    word_N: np.ndarray
    """The number of the word that equals the prefix, else that of all words outside."""


def tree(words: Sequence[str], outside: int, alphabet: Alphabet) -> Tree:
    """The prefixes of the words (numbered in order) that the alphabet can spell.

    `words[outside]` is "" and stands for all other words.
    """
    table = {ord(char): chr(i + 1) for i, char in enumerate(alphabet.characters)}
    known = set(alphabet.characters)
    spelled = sorted((word.translate(table), i) for i, word in enumerate(words) if word and known.issuperset(word))
    letters = np.frombuffer("".join(word for word, _ in spelled).encode("utf-32-le"), np.uint32).astype(np.int32)
    ends_W = np.cumsum([len(word) for word, _ in spelled], dtype=np.int64)
    numbers_W = np.array([number for _, number in spelled], np.int32)
    return Tree(*_tree(letters, ends_W, numbers_W, outside))


@compiled
def _tree(letters, ends_W, numbers_W, outside):
    limit = len(letters) + 2
    first_N, label_N, word_N = np.empty(limit + 1, np.int32), np.empty(limit, np.int32), np.empty(limit, np.int32)
    low_N, high_N, depth_N = np.empty(limit, np.int32), np.empty(limit, np.int32), np.empty(limit, np.int32)
    label_N[:2], word_N[:2], depth_N[:2], low_N[:2] = 0, outside, 0, 0
    high_N[OUTSIDE], high_N[ROOT] = 0, len(ends_W)
    count, node = 2, 0
    while node < count:
        first_N[node] = count
        depth, low, high = depth_N[node], low_N[node], high_N[node]
        begin = ends_W[low - 1] if low else 0
        if node != ROOT and low < high and ends_W[low] - begin == depth:  # sorted, so the prefix itself comes first
            word_N[node] = numbers_W[low]
            low += 1
        while low < high:
            letter, child = letters[(ends_W[low - 1] if low else 0) + depth], count
            low_N[child], label_N[child], depth_N[child], word_N[child] = low, letter, depth + 1, outside
            while low < high and letters[(ends_W[low - 1] if low else 0) + depth] == letter:
                low += 1
            high_N[child] = low
            count += 1
        node += 1
    first_N[count] = count
    return first_N[: count + 1].copy(), label_N[:count].copy(), word_N[:count].copy()


@compiled
def bounds(first_N: np.ndarray, word_N: np.ndarray, score_W: np.ndarray, outside: int) -> np.ndarray:
    """Returns for each prefix the best score_W of the words that begin with it, those `outside` among them [N]."""
    bound_N = np.empty(len(word_N))
    for node in range(len(word_N) - 1, -1, -1):
        bound_N[node] = max(score_W[outside], score_W[word_N[node]])
        for child in range(first_N[node], first_N[node + 1]):
            bound_N[node] = max(bound_N[node], bound_N[child])
    return bound_N
