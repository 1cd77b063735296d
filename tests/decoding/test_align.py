"""Forced alignment against enumeration of all paths, and against spans planted in the logits."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.decoding.conftest import log_softmax
from w2l_jax import model
from w2l_jax.alphabet import BLANK, Alphabet
from w2l_jax.decoding import align
from w2l_jax.decoding.align import WordSpan, best_path
from w2l_jax.errors import UserError

ALPHABET = Alphabet("ab ")


def best_by_enumeration(scores_SxV, labels):
    """The highest score among all V^S paths that collapse to the labels."""
    frames, size = scores_SxV.shape
    found = -np.inf
    for path in itertools.product(range(size), repeat=frames):
        if [label for label, _ in itertools.groupby(path) if label != BLANK] == labels:
            found = max(found, scores_SxV[np.arange(frames), path].sum())
    return found


@given(st.integers(1, 6), st.lists(st.integers(1, 3), max_size=4), st.integers(0, 2**31 - 1), st.booleans())
@settings(max_examples=60)
def test_the_alignment_is_the_best_path(frames, labels, seed, ties):
    repeats = sum(a == b for a, b in itertools.pairwise(labels))
    assume(len(labels) + repeats <= frames)
    rng = np.random.default_rng(seed)
    scores_SxV = rng.integers(-2, 1, (frames, 4)) * 1.0 if ties else log_softmax(3 * rng.standard_normal((frames, 4)))
    path_S = best_path(scores_SxV, np.array(labels, np.int32))
    emitted = [labels[place] if place >= 0 else BLANK for place in path_S]
    assert [label for label, _ in itertools.groupby(emitted) if label != BLANK] == labels
    places = [place for place in path_S if place >= 0]
    assert places == sorted(places) and set(places) == set(range(len(labels)))
    score = scores_SxV[np.arange(frames), emitted].sum()
    assert score == pytest.approx(best_by_enumeration(scores_SxV, labels), abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 40), st.integers(1, 60)), min_size=1, max_size=12))
@settings(max_examples=30)
def test_words_are_aligned_with_their_frames(words):
    """Each word is a letter for some frames, then blanks and a space; it begins 80 ms earlier, or when the last word
    ends.
    """
    labels, expected, end = [], [], 0
    for letter, length, pause in words:
        start = max(end, len(labels) - 5)
        labels += [ALPHABET.characters.index(letter) + 1] * length
        end = len(labels)
        expected.append(WordSpan(letter, round(start * 0.016, 3), round(end * 0.016, 3)))
        labels += [BLANK] * (pause - 1) + [3]
    logits_SxV = 5 * np.eye(4)[labels[:-1]] + np.random.default_rng(0).normal(0, 0.1, (len(labels) - 1, 4))
    text = " ".join(letter for letter, _, _ in words)
    assert align.align(logits_SxV, text, ALPHABET) == expected
    assert align.align(log_softmax(logits_SxV).astype(np.float32), f" {text}  ", ALPHABET) == expected


def test_search_in_blocks_equals_one_search(monkeypatch):
    """The path is the same whether backpointers are stored for all frames or for a few at a time."""
    rng = np.random.default_rng(0)
    scores_SxV, labels_L = rng.standard_normal((700, 4)), rng.integers(1, 4, 200)
    paths = []
    for block in (1, 9, 700):
        monkeypatch.setattr(align.math, "isqrt", lambda _, block=block: block)
        paths.append(best_path(scores_SxV, labels_L).tolist())
    assert paths[0] == paths[1] == paths[2]


def test_times_are_multiples_of_the_output_frame():
    assert pytest.approx(model.STRIDE * 0.008) == align.OUTPUT_SECONDS
    logits_SxV = 9.0 * np.eye(4)[[0, 0, 0, 0, 0, 0, 1, 2, 2, 0, 3, 0, 1, 0]]
    assert align.align(logits_SxV, "ab a", ALPHABET) == [("ab", 0.016, 0.144), ("a", 0.144, 0.208)]


def test_without_a_blank():
    """ASG: double letters are a letter and a repetition symbol, and every frame emits something."""
    alphabet = Alphabet("ab ", repetitions=2)
    assert alphabet.encode("abb bbba").tolist() == [2, 3, 0, 4, 3, 1, 2]
    logits_SxV = 9.0 * np.eye(5)[[4, 4, 4, 4, 4, 4, 2, 2, 3, 0, 0, 4, 4, 3, 1, 2, 2, 4, 4]]
    found = align.align(logits_SxV, "abb bbba", alphabet)
    assert [span.word for span in found] == ["abb", "bbba"]
    # Silences around the words are not in the text, so they are assigned to the outer letters.
    assert [span[1:] for span in found] == [(0.0, 0.176), (0.176, 0.304)]
    scores_SxV = np.random.default_rng(0).standard_normal((7, 5))
    state_paths = [np.repeat([2, 3, 0, 4], np.diff([0, *cuts, 7])) for cuts in itertools.combinations(range(1, 7), 3)]
    path_S = best_path(scores_SxV, np.array([2, 3, 0, 4]), blank=False)
    score = scores_SxV[np.arange(7), np.array([2, 3, 0, 4])[path_S]].sum()
    assert score == pytest.approx(max(scores_SxV[np.arange(7), path].sum() for path in state_paths))


def test_errors_say_why_alignment_is_impossible():
    logits_SxV = np.zeros((4, 4))
    assert align.align(logits_SxV, " ", ALPHABET) == []
    assert len(align.align(logits_SxV, "a b", ALPHABET)) == 2
    for text, message in {
        "abab ab": "of 7 letters needs at least 0.112 s",
        "aab b": "the right transcript",
        "ax": "'x'",
    }.items():
        with pytest.raises(UserError, match=message):
            align.align(logits_SxV, text, ALPHABET)
    with pytest.raises(UserError, match="3 letters needs"):
        align.align(logits_SxV, "aaa", ALPHABET)
    with pytest.raises(UserError, match="not finite"):
        align.align(np.full((4, 4), np.nan), "a", ALPHABET)
