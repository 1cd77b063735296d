import numpy as np
import pytest

from w2l_jax.alphabet import Alphabet, preset
from w2l_jax.decoding.greedy import greedy

ALPHABET = Alphabet("ab '")  # blank 0, a 1, b 2, space 3, apostrophe 4


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([], ""),
        ([0, 0], ""),
        ([1], "a"),
        ([1, 1, 1], "a"),
        ([1, 0, 1], "aa"),
        ([0, 1, 1, 0, 2, 2, 0], "ab"),
        ([1, 3, 2], "a b"),
        ([1, 3, 0, 3, 2], "a b"),
        ([3, 1, 3, 3], "a"),
        ([3, 0, 3], ""),
        ([1, 4, 2], "a'b"),
    ],
)
def test_collapses_repeats_drops_blanks_and_cleans_spaces(labels, text):
    assert greedy(np.array(labels, np.int32), ALPHABET) == text
    assert greedy(np.eye(5, dtype=np.float32)[np.array(labels, int)], ALPHABET) == text


def test_any_float_type_and_shift_of_the_logits():
    logits_SxV = np.random.default_rng(0).normal(size=(40, 32)).astype(np.float32)
    text = greedy(logits_SxV, preset("de"))
    assert text
    assert greedy(logits_SxV.astype(np.float64) - 100, preset("de")) == text


def test_a_last_label_is_reached():
    last = preset("german").size - 1
    assert greedy(np.array([last, 0, last]), preset("german")) == "ßß"


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([2, 2, 3], "ab"),
        ([2, 0, 0, 3], "aab"),
        ([2, 2, 1, 4, 2], "aaa a"),
        ([0, 2], "a"),
        ([], ""),
        ([4, 2, 4, 0], "a"),
    ],
)
def test_asg_paths_have_no_blanks_and_repetitions_are_expanded(labels, text):
    assert greedy(np.array(labels, int), Alphabet("ab '", repetitions=2)) == text
