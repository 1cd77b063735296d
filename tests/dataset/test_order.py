import pickle
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax.dataset.order import CHUNK, MixedOrder, Order
from w2l_jax.dataset.prepare import PrepareConfig, prepare_cached
from w2l_jax.errors import UserError

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=40)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5), st.booleans())
def test_every_utterance_occurs_once_per_epoch(lengths, batch_size, seed, sorted_first):
    order = Order(tuple(lengths), batch_size, seed, sorted_first)
    # Sixteen batches are sorted together, so check only complete chunks, over at least three epochs.
    head = -(-len(lengths) // batch_size) if sorted_first else 0
    chunks = -(-3 * len(lengths) // (16 * batch_size)) + 1
    batches = [order.batch(step) for step in range(head + 16 * chunks)]
    assert all(len(batch) == batch_size for batch in batches)
    seen = np.bincount(np.concatenate(batches), minlength=len(lengths))
    assert seen.max() - seen.min() <= 1
    assert order.epoch(len(lengths) // batch_size + 1) >= 1


def test_order_is_a_function_of_seed_and_step():
    lengths = tuple(np.random.default_rng(0).integers(50, 900, 333).tolist())
    first, again = Order(lengths, 8, seed=1), Order(lengths, 8, seed=1)
    other = Order(lengths, 8, seed=2)
    for step in (0, 41, 42, 400):
        np.testing.assert_array_equal(first.batch(step), again.batch(step))
    assert any((first.batch(step) != other.batch(step)).any() for step in range(5))
    assert any((first.batch(step) != first.batch(step + 333)).any() for step in range(5))


def plain_order(lengths, size, seed, sorted_first, step):
    """The batch of `step` by the definition: permutes entire epochs at every call."""

    def stream(start, stop):
        parts = []
        for epoch in range(start // len(lengths), (stop - 1) // len(lengths) + 1):
            order = np.random.default_rng((seed, 0, epoch)).permutation(len(lengths))
            if epoch == 0 and sorted_first:
                order = np.array(sorted(range(len(lengths)), key=lambda i: lengths[i]))
            low = epoch * len(lengths)
            parts.append(order[max(start - low, 0) : max(stop - low, 0)])
        return np.concatenate(parts)

    head = -(-len(lengths) // size) if sorted_first else 0
    if step < head:
        return stream(step * size, (step + 1) * size)
    chunk, position = divmod(step - head, 16)
    indices = stream((head + 16 * chunk) * size, (head + 16 * chunk + 16) * size)
    by_length = np.array(sorted(indices, key=lambda i: lengths[i]))  # stable
    rank = np.random.default_rng((seed, 1, chunk)).permutation(16)[position]
    return by_length[rank * size : (rank + 1) * size]


@pytest.mark.parametrize("sorted_first", [False, True])
@pytest.mark.parametrize("utterances", [7, 97, 1000])
def test_the_order_matches_its_definition(utterances, sorted_first):
    lengths = tuple(np.random.default_rng(utterances).integers(50, 90, utterances).tolist())
    order = Order(lengths, 8, 5, sorted_first)
    for step in [*range(200), *range(3000, 3020), 17, 500]:  # forwards, after a gap, and backwards
        np.testing.assert_array_equal(order.batch(step), plain_order(lengths, 8, 5, sorted_first, step))


def test_an_epoch_is_permuted_once():
    """With LibriSpeech's 281,241 utterances, whose permutation takes milliseconds."""
    order, seconds = Order(tuple(np.random.default_rng(0).integers(100, 2000, 281_241).tolist()), 64, 0), []
    for step in range(100):
        started = time.perf_counter()
        order.batch(step)
        seconds.append(time.perf_counter() - started)
    assert np.median(seconds) < 0.3e-3


def test_sorting_within_chunks_saves_most_of_the_padding():
    lengths = np.random.default_rng(0).integers(100, 1000, 2000)
    order = Order(tuple(lengths.tolist()), 32, seed=0)
    padded = sum(32 * lengths[order.batch(step)].max() for step in range(160))
    real = sum(lengths[order.batch(step)].sum() for step in range(160))
    assert real / padded > 0.93  # random batches: 0.57


def test_sorted_first_epoch():
    lengths = tuple(np.random.default_rng(0).integers(100, 1000, 100).tolist())
    order = Order(lengths, 10, seed=0, sorted_first=True)
    first = np.array(lengths)[np.concatenate([order.batch(step) for step in range(10)])]
    assert (np.diff(first) >= 0).all()
    second = np.array(lengths)[np.concatenate([order.batch(step) for step in range(10, 20)])]
    assert (np.diff(second) < 0).any()


def test_no_data():
    with pytest.raises(UserError, match="no utterance"):
        Order((), 4, 0)


@given(LENGTHS, LENGTHS, st.integers(1, 9), st.fractions(0, 1, max_denominator=12), st.integers(0, 5))
def test_shares_are_exact_and_utterances_occur_once_per_epoch_of_their_language(new, old, size, share, seed):
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


def test_fractional_shares_average_out_over_batches():
    orders = Order((5,) * 30, 8, 0), Order((5,) * 50, 8, 0)
    counts = {
        share: [int((MixedOrder(*orders, Fraction(share)).batch(step) >= 30).sum()) for step in range(10)]
        for share in ("0.25", "0.1")
    }
    assert counts == {"0.25": [2] * 10, "0.1": [0, 1, 1, 1, 1, 0, 1, 1, 1, 1]}


def test_mixing_resumes_at_any_step_and_groups_lengths():
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


def test_without_old_utterances_the_order_is_plain():
    plain = Order(tuple(range(1, 60)), 8, 3)
    mixed = MixedOrder(plain, Order((7,), 8, 3), Fraction(0))
    for step in (0, 5, 40):
        np.testing.assert_array_equal(mixed.batch(step), plain.batch(step))


def test_two_datasets_are_read_as_one(tones, cache):
    english, german = (
        prepare_cached(tones / f"{name}.jsonl", cache, PrepareConfig(language=language), workers=1)
        for name, language in (("dev", "en"), ("german_dev", "de"))
    )
    both = english.followed_by(german)
    assert [entry.id for entry in both.entries] == [entry.id for entry in english.entries + german.entries]
    assert both.fingerprint not in (english.fingerprint, german.fingerprint, german.followed_by(english).fingerprint)
    indices = [0, len(both) - 1, 3, len(english), 5]
    sides = [(english, i) if i < len(english) else (german, i - len(english)) for i in indices]
    expected = [dataset.features_of([i])[0] for dataset, i in sides]
    for dataset in (both, pickle.loads(pickle.dumps(both)), both.select(range(len(both)))):
        for ours, theirs in zip(dataset.features_of(indices), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert both.hours == pytest.approx(english.hours + german.hours)
