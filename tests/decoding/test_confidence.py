import math

import numpy as np
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


def test_a_word_counts_where_it_stands_not_wherever_it_occurs():
    assert confidence.confidences(listed(("ja nein", 0.0), ("nein", 0.0)), 1.0) == pytest.approx([0.5, 1.0])
    assert confidence.right("der hund bellt", "hund bellte bellt") == [True, False, True]


def test_differences_of_scores_may_be_huge():
    nbest = listed(("a", -1e4), ("b", -3e4))
    assert confidence.confidences(nbest, 0.1) == [1.0]


@pytest.mark.parametrize(("temperature", "coverage"), [(0.5, 1.0), (3.0, 0.6)])
def test_fitting_recovers_what_lists_were_simulated_with(temperature, coverage):
    """The truth is drawn from the list by its posterior, or, as often as the coverage says, is something else."""
    rng = np.random.default_rng(0)
    nbests, expected = [], []
    for _ in range(2000):
        scores = np.sort(rng.normal(0, 8, 5))[::-1]
        share = np.exp((scores - scores[0]) / temperature)
        nbests.append(listed(*zip("abcde", scores, strict=True)))
        expected.append("abcde"[rng.choice(5, p=share / share.sum())] if rng.random() < coverage else "x")
    found = confidence.fit(nbests, expected)
    assert found == (pytest.approx(temperature, rel=0.1), pytest.approx(coverage, abs=0.03))
    errors = [
        confidence.calibration_error(confidence.reliability(*confidence.words(nbests, expected, *values)))
        for values in (found, (4 * temperature, coverage), (temperature, coverage / 2))
    ]
    assert errors[0] < 0.04 < 0.08 < min(errors[1:])


def test_fitting_survives_words_in_which_the_whole_list_errs():
    nbests = [listed(("a b", 0.0), ("a c", -1.0)), listed(("", 0.0))]
    temperature, coverage = confidence.fit(nbests, ["x b", "y"])
    assert 0.1 <= temperature <= 100 and coverage < 1
    assert confidence.fit([listed(("", 0.0))], ["y"]) == (1.0, 1.0)


def test_reliability_by_hand():
    bins = confidence.reliability([0.05, 0.95, 1.0, 0.91], [False, True, True, False])
    assert [(b.words, b.right) for b in bins] == [(1, 0.0), (3, pytest.approx(2 / 3))]
    assert bins[1].confidence == pytest.approx(2.86 / 3)
    assert confidence.calibration_error(bins) == pytest.approx((0.05 + 2.86 - 2) / 4)
    assert math.isnan(confidence.calibration_error([]))
