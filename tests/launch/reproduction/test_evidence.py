import numpy as np
import pytest

from pages import comparison
from reproduction.evidence import (
    CONFIRMED,
    REFUTED,
    UNDECIDED,
    WAITING,
    Evidence,
    difference,
    equivalence,
    every,
    gain,
    gain_difference,
    over_seeds,
    pooled,
    verdict,
)  # fmt: skip
from tests.launch.reproduction.conftest import decoded
from w2l_jax import metrics


@pytest.fixture
def decoded_seeds(tmp_path):
    def make(*seeds, speakers=1, losses=None):
        found = {}
        for seed, wrong in enumerate(seeds):
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
            decoded(path, wrong, wrong, losses or [10.0] * len(wrong), speakers)
            found[seed] = comparison.read_file(path, "run")
        return found

    return make


def test_a_difference_by_hand(decoded_seeds):
    ours, theirs = decoded_seeds([1, 2, 3, 0], [1, 2, 3, 2]), decoded_seeds([2, 3, 4, 1], [3, 4, 5, 4])
    found = difference(ours, theirs, "ler")
    # Ten letters: every utterance is one letter better with seed 0 and two with seed 1; the pairs do not vary.
    assert found.value == pytest.approx(-15) and found.seeds == pytest.approx((-10, -20))
    assert found.spans == {"utterances": pytest.approx((-15, -15))} and found.unit == "points of LER"
    # Every utterance has one word, wrong unless it has no wrong letter.
    assert difference(ours, theirs, "wer").seeds == pytest.approx((-25, 0))
    one = difference({1: ours[1]}, theirs, "ler")
    assert one.seeds == pytest.approx((-20,))
    assert difference(ours, {7: theirs[0]}, "ler") is None and difference({}, theirs, "ler") is None


def test_intervals_are_those_of_the_paired_bootstrap(decoded_seeds):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 10, 60), rng.integers(0, 10, 60)
    ours, theirs = decoded_seeds(a, speakers=12), decoded_seeds(b, speakers=12)
    found = difference(ours, theirs, "ler")
    assert list(found.spans) == ["utterances", "speakers"] and found.span == found.spans["speakers"]
    sides = [[side[0].errors["beam"][f"u{i:03d}"] for i in range(60)] for side in (ours, theirs)]
    for of, units in (("utterances", list(range(60))), ("speakers", [i % 12 for i in range(60)])):
        # Numbers of speakers sort as text: s0, s1, s10, s11, s2, …
        order = sorted({f"s{u}" for u in units}) if of == "speakers" else None
        units = [order.index(f"s{u}") for u in units] if order else units
        expected = metrics.difference_intervals(*sides, units)["ler"]
        assert found.spans[of] == pytest.approx([100 * x for x in expected])


def test_losses_exclude_infeasible_targets(decoded_seeds):
    ours, theirs = decoded_seeds([1, 1, 1], losses=[1.0, 2.0, None]), decoded_seeds([1, 1, 1], losses=[3.0, 5.0, 9.0])
    found = difference(ours, theirs, "loss")
    assert found.value == pytest.approx(-2.5) and found.unit == "nats per utterance"


def test_rates_of_pooled_seeds_are_means_of_rates(decoded_seeds):
    both = decoded_seeds([1, 2, 3], [3, 6, 0])
    assert metrics.rates(pooled(both, "beam").values()).ler == pytest.approx((0.2 + 0.3) / 2)
    assert pooled(both, "nothing") == {}


def test_gains_are_relative(decoded_seeds):
    evidence, draws = gain(decoded_seeds([1, 1, 2, 2] * 5), decoded_seeds([2, 2, 4, 4] * 5))
    assert evidence.value == pytest.approx(50) and evidence.span == pytest.approx((50, 50)) and len(draws) == 2000
    rng = np.random.default_rng(1)
    a, b = rng.integers(1, 5, 30), rng.integers(4, 9, 30)
    evidence, draws = gain(decoded_seeds(a), decoded_seeds(b))
    assert evidence.value == pytest.approx(100 * (1 - a.mean() / b.mean()))
    assert evidence.span[0] < evidence.value < evidence.span[1]
    assert not np.array_equal(draws, gain(decoded_seeds(a), decoded_seeds(b), seed=1)[1])
    half = gain(decoded_seeds([1] * 30), decoded_seeds([2] * 30))
    more = gain_difference(half, (evidence, draws), "utterances")
    assert more.value == pytest.approx(50 - evidence.value) and more.seeds == pytest.approx((50 - evidence.value,))
    several = gain_difference(
        gain(decoded_seeds([1] * 9, [2] * 9), decoded_seeds([4] * 9, [4] * 9)), half, "utterances"
    )
    assert several.seeds == pytest.approx((75 - 50, 50 - 50))
    # Half with certainty: the interval is that of the other gain, reversed.
    assert more.span == pytest.approx((50 - evidence.span[1], 50 - evidence.span[0]))


@pytest.mark.parametrize(
    ("span", "seeds", "expected"),
    [
        ((-3, -1), (-2, -1.5), CONFIRMED),
        ((1, 3), (2, 1), REFUTED),
        ((-3, 1), (-2, -1), UNDECIDED),
        ((-3, -1), (-4, 0.5), UNDECIDED),  # one seed disagrees
        ((1, 3), (-1, 4), UNDECIDED),
        ((-3, 0), (-2, -2), UNDECIDED),
    ],
)
def test_the_rule(span, seeds, expected):
    assert verdict(Evidence(float(np.mean(seeds)), {"utterances": span}, seeds, "")) == expected
    shifted = Evidence(0.0, {"utterances": tuple(x + 7 for x in span)}, tuple(x + 7 for x in seeds), "")
    assert verdict(shifted, border=7) == expected


def test_speakers_decide_if_there_are_enough():
    both = {"utterances": (-3.0, -1.0), "speakers": (-4.0, 0.5)}
    assert verdict(Evidence(-2, both, (-2,), "")) == UNDECIDED
    assert verdict(Evidence(-2, {"utterances": (-3.0, -1.0)}, (-2,), "")) == CONFIRMED
    assert Evidence(-2, both, (-2,), "points of LER").text() == (
        "-2.0 points of LER [-3.0, -1.0] over utterances, [-4.0, +0.5] over speakers"
    )


@pytest.mark.parametrize(
    ("span", "expected"),
    [((-1, 1), CONFIRMED), ((2.5, 4), REFUTED), ((-4, -2.5), REFUTED), ((1, 3), UNDECIDED), ((-3, 3), UNDECIDED)],
)
def test_about_equal(span, expected):
    middle = float(np.mean(span))
    assert equivalence(Evidence(middle, {"utterances": span}, (middle,), ""), 2) == expected
    # Seeds on both sides of the margin leave it undecided, however certain their mean is.
    assert equivalence(Evidence(middle, {"utterances": span}, (middle - 5, middle + 5), ""), 2) == UNDECIDED


def test_claims_of_several_parts():
    assert every([CONFIRMED, CONFIRMED]) == CONFIRMED
    assert every([CONFIRMED, UNDECIDED]) == UNDECIDED
    assert every([CONFIRMED, UNDECIDED, REFUTED]) == REFUTED
    assert every([]) == WAITING


def test_the_range_over_seeds_as_interval():
    found = over_seeds([0.2, 0.4], "of the work", ".2f")
    assert verdict(found, 0.5) == CONFIRMED and verdict(found, 0.3) == UNDECIDED and verdict(found, 0.1) == REFUTED
    assert found.text() == "0.30 of the work [0.20, 0.40] over seeds (by seed 0.20, 0.40)"
    assert over_seeds([-0.01, 0.04], "x", "+.1f").text() == "+0.0 x [+0.0, +0.0] over seeds (by seed +0.0, +0.0)"
    one = over_seeds([1.0], "x")
    assert "0 x (one seed: no interval, so undecided)" in one.text() and over_seeds([], "x") is None
    assert verdict(one, 5) == verdict(one, -5) == UNDECIDED
