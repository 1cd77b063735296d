import math

import numpy as np
import pytest

import calibration
from tests.decoding.test_confidence import listed


@pytest.mark.parametrize(("temperature", "coverage"), [(0.5, 1.0), (3.0, 0.6)])
def test_fitting_recovers_simulated_parameters(temperature, coverage):
    """The truth is drawn from the list by its posterior, or lies outside it as often as the coverage implies."""
    rng = np.random.default_rng(0)
    nbests, expected = [], []
    for _ in range(2000):
        scores = np.sort(rng.normal(0, 8, 5))[::-1]
        share = np.exp((scores - scores[0]) / temperature)
        nbests.append(listed(*zip("abcde", scores, strict=True)))
        expected.append("abcde"[rng.choice(5, p=share / share.sum())] if rng.random() < coverage else "x")
    found = calibration.fit(nbests, expected)
    assert found == (pytest.approx(temperature, rel=0.1), pytest.approx(coverage, abs=0.03))
    errors = [
        calibration.calibration_error(calibration.reliability(*calibration.words(nbests, expected, *values)))
        for values in (found, (4 * temperature, coverage), (temperature, coverage / 2))
    ]
    assert errors[0] < 0.04 < 0.08 < min(errors[1:])


def test_fitting_handles_words_that_all_hypotheses_miss():
    nbests = [listed(("a b", 0.0), ("a c", -1.0)), listed(("", 0.0))]
    temperature, coverage = calibration.fit(nbests, ["x b", "y"])
    assert 0.1 <= temperature <= 100 and coverage < 1
    assert calibration.fit([listed(("", 0.0))], ["y"]) == (1.0, 1.0)


def test_reliability_by_hand():
    bins = calibration.reliability([0.05, 0.95, 1.0, 0.91], [False, True, True, False])
    assert [(b.words, b.right) for b in bins] == [(1, 0.0), (3, pytest.approx(2 / 3))]
    assert bins[1].confidence == pytest.approx(2.86 / 3)
    assert calibration.calibration_error(bins) == pytest.approx((0.05 + 2.86 - 2) / 4)
    assert math.isnan(calibration.calibration_error([]))
