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


def test_means_and_corpus_level_by_hand():
    pairs = [("ab", "ab"), ("abcd efgh", "abcd")]  # 0 of 2 letters; 5 of 9 letters, 1 of 2 words
    rates = metrics.rates(metrics.utterance_errors(*pair) for pair in pairs)
    assert (rates.utterances, rates.ler, rates.wer) == (2, pytest.approx(5 / 18), 0.25)
    assert (rates.corpus_ler, rates.corpus_wer) == (pytest.approx(5 / 11), pytest.approx(1 / 3))


def test_nothing_to_rate():
    assert np.isnan(metrics.rates([]).ler)
