import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax import metrics

TEXT = st.text(alphabet="ab c", max_size=12)


def test_the_papers_example():
    # §6.6: LER 47 %, WER 300 %.
    errors = metrics.utterance_errors("sechsundneunzig", "sechs un nmeunsche")
    assert errors.wer == 3.0
    assert round(errors.ler, 2) == 0.47


@given(TEXT.filter(str.split), TEXT)
def test_equals_jiwer(reference, hypothesis):
    errors = metrics.utterance_errors(reference, hypothesis)
    reference, hypothesis = " ".join(reference.split()), " ".join(hypothesis.split())
    assert errors.wer == pytest.approx(jiwer.wer(reference, hypothesis))
    assert errors.ler == pytest.approx(jiwer.cer(reference, hypothesis))


@given(TEXT, TEXT)
def test_an_alignment_covers_both_texts_at_minimum_cost(reference, hypothesis):
    pairs = metrics.alignment(reference, hypothesis)
    assert [i for i, _ in pairs if i is not None] == list(range(len(reference)))
    assert [j for _, j in pairs if j is not None] == list(range(len(hypothesis)))
    wrong = sum(i is None or j is None or reference[i] != hypothesis[j] for i, j in pairs)
    assert wrong == metrics.edit_distance(reference, hypothesis)


def test_scripts_without_spaces_are_counted_by_character():
    errors = metrics.utterance_errors("春 天 来 了", "春 天 了")
    assert errors == metrics.Errors(letter_edits=1, letters=4, word_edits=1, words=4)


def test_means_and_corpus_level_by_hand():
    pairs = [("ab", "ab"), ("abcd efgh", "abcd")]  # 0 of 2 letters; 5 of 9 letters, 1 of 2 words
    rates = metrics.rates(metrics.utterance_errors(*pair) for pair in pairs)
    assert (rates.utterances, rates.ler, rates.wer) == (2, pytest.approx(5 / 18), 0.25)
    assert (rates.corpus_ler, rates.corpus_wer) == (pytest.approx(5 / 11), pytest.approx(1 / 3))


def test_rates_of_nothing():
    assert np.isnan(metrics.rates([]).ler)


def test_resampling_units_of_a_bootstrap():
    assert metrics.resampling_units(["b", "a", "b"]) == ([0, 1, 2], "utterances")  # too few speakers
    ten = [f"s{i}" for i in range(10)]
    assert metrics.resampling_units([*ten, "s3"]) == ([*range(10), 3], "speakers")
    assert metrics.resampling_units([*ten, ""])[1] == "utterances"  # unknown speakers cannot be resampled


def some_errors(count, rate, seed=0):
    rng = np.random.default_rng(seed)
    return [metrics.Errors(int(rng.binomial(20, rate)), 20, int(rng.binomial(4, rate)), 4) for _ in range(count)]


def test_intervals_have_the_theoretical_width():
    errors = some_errors(400, 0.3)
    low, high = metrics.intervals(errors, range(400))["ler"]
    rates = [e.ler for e in errors]
    half = 1.96 * np.std(rates) / np.sqrt(400)
    assert low == pytest.approx(np.mean(rates) - half, abs=0.1 * half)
    assert high == pytest.approx(np.mean(rates) + half, abs=0.1 * half)


def test_intervals_equal_a_plain_bootstrap_over_speakers():
    errors, units = some_errors(60, 0.4, seed=1), [i % 12 for i in range(60)]
    rng = np.random.default_rng(5)
    plain = []
    for _ in range(4000):
        drawn = [e for unit in rng.integers(0, 12, 12) for e, u in zip(errors, units, strict=True) if u == unit]
        plain.append(metrics.rates(drawn).corpus_wer)
    found = metrics.intervals(errors, units, samples=4000)["corpus_wer"]
    assert found == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.01)


def test_identical_units_have_no_spread():
    same = [metrics.Errors(1, 10, 1, 2)] * 30
    assert metrics.intervals(same, range(30))["corpus_wer"] == pytest.approx((0.5, 0.5))


def test_differences_are_paired():
    worse = some_errors(200, 0.5, seed=2)
    # Each utterance is better by exactly one letter in twenty: the paired difference is certain, though both vary.
    better = [metrics.Errors(e.letter_edits - 1, e.letters, e.word_edits, e.words) for e in worse]
    found = metrics.difference_intervals(better, worse, range(200))
    assert found["ler"] == pytest.approx((-0.05, -0.05)) and found["wer"] == (0.0, 0.0)
    low, high = metrics.intervals(worse, range(200))["ler"]
    assert high - low > 0.02
    with pytest.raises(ValueError, match="same ones"):
        metrics.difference_intervals(better[1:], worse, range(200))
