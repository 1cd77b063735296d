import math

import pytest

from w2l_jax.decoding import confidence
from w2l_jax.decoding.beam import Transcript


def listed(*pairs: tuple[str, float]) -> list[Transcript]:
    return [Transcript(text, score, score, 0.0, 0) for text, score in pairs]


def test_confidences_by_hand():
    nbest = listed(("a b c", math.log(4)), ("a x c", math.log(2)), ("a b", 0.0))
    assert confidence.confidences(nbest, 1.0) == pytest.approx([7 / 7, 5 / 7, 6 / 7])
    total = 2 + math.sqrt(2) + 1  # at temperature 2 the shares are square roots
    assert confidence.confidences(nbest, 2.0) == pytest.approx([1, 3 / total, (2 + math.sqrt(2)) / total])
    assert confidence.confidences(nbest, 1.0, 0.5) == pytest.approx([1 / 2, 5 / 14, 3 / 7])
    assert confidence.confidences(listed(("", 0.0), ("a", -1.0)), 1.0) == []


def test_a_word_counts_only_at_its_own_position():
    assert confidence.confidences(listed(("ja nein", 0.0), ("nein", 0.0)), 1.0) == pytest.approx([0.5, 1.0])
    assert confidence.right("der hund bellt", "hund bellte bellt") == [True, False, True]


def test_huge_score_differences_do_not_overflow():
    nbest = listed(("a", -1e4), ("b", -3e4))
    assert confidence.confidences(nbest, 0.1) == [1.0]
