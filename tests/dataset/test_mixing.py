import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax.dataset.batches import CHUNK, Order
from w2l_jax.dataset.mixing import MixedOrder
from w2l_jax.dataset.prepare import PrepareConfig, prepare_cached

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=40)


@given(LENGTHS, LENGTHS, st.integers(1, 9), st.fractions(0, 1, max_denominator=12), st.integers(0, 5))
def test_shares_are_exact_and_every_utterance_comes_once_an_epoch_of_its_language(new, old, size, share, seed):
    order = MixedOrder(Order(tuple(new), size, seed), Order(tuple(old), size, seed), share)
    batches = [order.batch(step) for step in range(4 * CHUNK)]
    assert all(len(batch) == size for batch in batches)
    taken = np.cumsum([int((batch >= len(new)).sum()) for batch in batches])
    assert taken.tolist() == [int(share * size * n) for n in range(1, 4 * CHUNK + 1)]
    seen = np.bincount(np.concatenate(batches), minlength=len(new) + len(old))
    for part in (seen[: len(new)], seen[len(new) :]):
        assert part.max() - part.min() <= 1
    news = 4 * CHUNK * size - taken[-1]
    assert order.epoch(4 * CHUNK) == news // len(new)


def test_a_quarter_of_eight_is_two_and_a_tenth_is_made_up_for():
    orders = Order((5,) * 30, 8, 0), Order((5,) * 50, 8, 0)
    counts = {
        share: [int((MixedOrder(*orders, Fraction(share)).batch(step) >= 30).sum()) for step in range(10)]
        for share in ("0.25", "0.1")
    }
    assert counts == {"0.25": [2] * 10, "0.1": [0, 1, 1, 1, 1, 0, 1, 1, 1, 1]}


def test_any_step_can_be_resumed_at_and_lengths_go_together():
    rng = np.random.default_rng(0)
    new, old = rng.integers(100, 1000, 500), rng.integers(100, 1000, 2000)
    both = np.concatenate([new, old])

    def order(seed):
        parts = (Order(tuple(lengths.tolist()), 32, seed) for lengths in (new, old))
        return MixedOrder(*parts, Fraction(3, 10))

    first, again, other = order(1), order(1), order(2)
    batches = [first.batch(step) for step in range(64)]
    for step in (63, 0, 17, 16):
        np.testing.assert_array_equal(again.batch(step), batches[step])
    assert any((other.batch(step) != batches[step]).any() for step in range(5))
    real, padded = sum(both[b].sum() for b in batches), sum(32 * both[b].max() for b in batches)
    assert real / padded > 0.88  # random batches: 0.57


def test_no_old_utterances_is_the_plain_order():
    plain = Order(tuple(range(1, 60)), 8, 3)
    mixed = MixedOrder(plain, Order((7,), 8, 3), Fraction(0))
    for step in (0, 5, 40):
        np.testing.assert_array_equal(mixed.batch(step), plain.batch(step))


def test_two_datasets_as_one(tones, cache):
    english, german = (
        prepare_cached(tones / f"{name}.jsonl", cache, PrepareConfig(language=language), workers=1)
        for name, language in (("dev", "en"), ("german_dev", "de"))
    )
    both = english.followed_by(german)
    assert [entry.id for entry in both.entries] == [entry.id for entry in english.entries + german.entries]
    assert both.fingerprint not in (english.fingerprint, german.fingerprint, german.followed_by(english).fingerprint)
    wanted = [0, len(both) - 1, 3, len(english), 5]
    sides = [(english, i) if i < len(english) else (german, i - len(english)) for i in wanted]
    expected = [dataset.features_of([i])[0] for dataset, i in sides]
    for dataset in (both, pickle.loads(pickle.dumps(both)), both.select(range(len(both)))):
        for ours, theirs in zip(dataset.features_of(wanted), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert both.hours == pytest.approx(english.hours + german.hours)
