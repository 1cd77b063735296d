import pytest

from lm_building import card


def test_perplexity_by_hand(hand_lm):
    """log10 P of `a ba </s>`: -0.3 - 0.4 - (0.1 + 0.7); of `ab <unk> </s>`: -(0.3 + 0.9) - (0.4 + 1.5) - 0.7."""
    found = card.measure(hand_lm / "lm.bin", ["a ba", "ab xx"])
    assert {name: found[name] for name in ("sentences", "words", "unknown_words")} == {
        "sentences": 2,
        "words": 4,
        "unknown_words": 1,
    }
    assert found["unknown_rate"] == 0.25
    assert found["perplexity"] == pytest.approx(10 ** (5.3 / 6), rel=1e-6)
    assert found["perplexity_of_known_words"] == pytest.approx(10 ** (3.4 / 5), rel=1e-6)


def test_perplexity_of_few_words(hand_lm):
    assert card.measure(hand_lm / "lm.bin", []) == {"sentences": 0, "words": 0}
    found = card.measure(hand_lm / "lm.bin", ["xx"])
    assert found["unknown_rate"] == 1
    assert found["perplexity_of_known_words"] == pytest.approx(10**0.7)
