import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax.alphabet import preset
from w2l_jax.dataset.batches import Bucket, Order, Source, bucket_for, make_buckets, prefetch
from w2l_jax.dataset.prepare import PrepareConfig, prepare_cached
from w2l_jax.errors import UserError


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5), st.booleans())
def test_every_utterance_comes_once_an_epoch(lengths, batch_size, seed, sorted_first):
    order = Order(tuple(lengths), batch_size, seed, sorted_first)
    # Sixteen batches are sorted together, so look at whole chunks only, over at least three epochs.
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
    """The batch of `step` straight from the definition: whole epochs are permuted each time it is asked for."""

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
def test_the_order_is_that_of_its_definition(utterances, sorted_first):
    lengths = tuple(np.random.default_rng(utterances).integers(50, 90, utterances).tolist())
    order = Order(lengths, 8, 5, sorted_first)
    for step in [*range(200), *range(3000, 3020), 17, 500]:  # onwards, after a gap, and back
        np.testing.assert_array_equal(order.batch(step), plain_order(lengths, 8, 5, sorted_first, step))


def test_a_step_does_not_permute_the_epoch():
    """With LibriSpeech's 281,241 utterances; permuting them takes milliseconds."""
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


@given(
    st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 200)), min_size=1, max_size=50),
    st.integers(1, 8),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.1, 0.4]),
)
def test_every_utterance_fits_a_bucket_at_every_speed(pairs, count, rows, speed):
    frames, labels = zip(*pairs, strict=True)
    buckets = make_buckets(frames, labels, count, rows, speed)
    assert 1 <= len(buckets) <= count
    for f, n in pairs:
        slowest = round(f / (1 - speed))
        shape = bucket_for(buckets, slowest, n)
        assert shape in buckets and shape.frames >= slowest and shape.labels >= n


@given(st.lists(st.integers(1, 14), min_size=1, max_size=9), st.integers(1, 4))
def test_buckets_pad_as_little_as_any_choice_could(sizes, count):
    frames = [16 * size for size in sizes]

    def padding(edges):
        return sum(min(edge for edge in edges if edge >= f) for f in frames)

    shapes = sorted(set(frames))
    choices = [c for n in range(1, count + 1) for c in itertools.combinations(shapes, n) if c[-1] == shapes[-1]]
    found = [bucket.frames for bucket in make_buckets(frames, [1] * len(frames), count)]
    assert padding(found) == min(map(padding, choices))


def test_one_long_recording_does_not_widen_the_others_batches():
    # Of 1,601 recordings one is ten times as long: with quantiles as edges a sixth of all batches took its shape.
    frames = [*np.random.default_rng(0).integers(200, 600, 1600).tolist(), 6000]
    order, buckets = Order(tuple(frames), 16, seed=3), make_buckets(frames, [9] * 1601, 6, 16)
    padded = [bucket_for(buckets, max(frames[i] for i in order.batch(step)), 9).frames for step in range(100)]
    assert sum(p > 1000 for p in padded) <= 1
    assert np.mean([p for p in padded if p < 1000]) < 1.15 * np.mean(frames)


def test_beyond_the_largest_bucket_one_is_made():
    assert bucket_for([Bucket(160, 8)], 161, 9) == Bucket(176, 16)


@pytest.fixture(scope="module")
def source(tones, cache):
    data = prepare_cached(tones / "train.jsonl", cache, PrepareConfig(language="english"))
    return Source.create(data, preset("en"), 3)


def test_batches_hold_the_stored_utterances(source):
    batch = source.batch([3, 7], rows=4)
    assert batch.features_BxTxM.dtype == np.float16 and batch.features_BxTxM.shape[0] == 4
    for row, i in enumerate([3, 7]):
        stored = source.dataset.features_of([i])[0]
        assert batch.frames_B[row] == len(stored) == source.dataset.entries[i].frames
        np.testing.assert_array_equal(batch.features_BxTxM[row, : len(stored)], stored)
        assert not batch.features_BxTxM[row, len(stored) :].any()
        length = batch.label_lengths_B[row]
        assert preset("en").decode(batch.labels_BxL[row, :length]) == source.dataset.entries[i].transcript
    assert batch.frames_B[2:].tolist() == [0, 0] == batch.label_lengths_B[2:].tolist()


def test_a_part_of_a_batch_has_the_shape_of_all(source):
    by_length = np.argsort([entry.frames for entry in source.dataset.entries])
    indices = [by_length[0], by_length[1], by_length[-2], by_length[-1]]
    shape = source.shape(indices, [source.dataset.entries[i].frames for i in indices])
    whole, parts = source.batch(indices, 4), [source.batch(part, 2, shape=shape) for part in (indices[:2], indices[2:])]
    assert source.batch(indices[:2], 2).features_BxTxM.shape[1] < shape.frames
    for name in whole._fields:
        together = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(together, getattr(whole, name))


def test_evaluation_sees_every_utterance_once(source):
    seen = np.concatenate([indices for indices, _ in source.in_order_of_length(7)])
    assert sorted(seen.tolist()) == list(range(len(source.dataset.entries)))


def test_alphabet_that_cannot_write_the_transcripts(source):
    from w2l_jax.alphabet import Alphabet

    with pytest.raises(UserError, match=r"train_\d+.*not in the alphabet"):
        Source.create(source.dataset, Alphabet("xyz"), 3)


def test_no_data():
    with pytest.raises(UserError, match="no utterance"):
        Order((), 4, 0)


def test_prefetch_keeps_order_and_hands_errors_over():
    assert list(prefetch(range(20), lambda x: x + 1, depth=2)) == list(range(1, 21))

    def broken():
        yield 1
        raise ValueError("bad shard")

    items = prefetch(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="bad shard"):
        next(items)


def test_closing_prefetch_ends_its_thread():
    import threading

    def endless():
        while True:
            yield 0

    items = prefetch(endless())
    next(items)
    items.close()
    deadline = time.monotonic() + 5
    while any(thread.name == "prefetch" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
