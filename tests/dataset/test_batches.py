import dataclasses
import itertools
import json
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax.alphabet import preset
from w2l_jax.dataset.batches import Bucket, Source, bucket_for, make_buckets, prefetch
from w2l_jax.dataset.order import Order
from w2l_jax.dataset.prepare import PrepareConfig, prepare_cached
from w2l_jax.errors import UserError


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
def test_buckets_minimise_padding(sizes, count):
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


def test_a_batch_beyond_the_largest_bucket_gets_its_own():
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


def test_a_partial_batch_has_the_full_shape(source):
    by_length = np.argsort([entry.frames for entry in source.dataset.entries])
    indices = [by_length[0], by_length[1], by_length[-2], by_length[-1]]
    shape = source.shape(indices, [source.dataset.entries[i].frames for i in indices])
    full, parts = source.batch(indices, 4), [source.batch(part, 2, shape=shape) for part in (indices[:2], indices[2:])]
    assert source.batch(indices[:2], 2).features_BxTxM.shape[1] < shape.frames
    assert full.speed_B is None is full.recorded_B
    for name in full._fields[:4]:
        together = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(together, getattr(full, name))


def test_evaluation_sees_every_utterance_once(source):
    seen = np.concatenate(list(source.in_order_of_length(7)))
    assert sorted(seen.tolist()) == list(range(len(source.dataset.entries)))


def test_an_alphabet_that_lacks_characters_of_the_transcripts(source):
    from w2l_jax.alphabet import Alphabet

    with pytest.raises(UserError, match=r"train_\d+.*which the alphabet"):
        Source.create(source.dataset, Alphabet("xyz"), 3)


def test_prefetch_keeps_order_and_propagates_errors():
    assert list(prefetch(range(20), lambda x: x + 1, depth=2)) == list(range(1, 21))

    def read(number):
        time.sleep(0.01 * (5 - number))  # the first items finish last
        if number == 3:
            raise ValueError("bad shard")
        return number

    items = prefetch(range(5), read)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="bad shard"):
        next(items)


def test_closing_prefetch_ends_its_threads():
    items = prefetch(itertools.count(), lambda number: number)
    next(items)
    assert any(thread.name.startswith("prefetch") for thread in threading.enumerate())
    items.close()
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_batch_memory_is_reused_once_unreferenced(source):
    """Neither a view nor a JAX array, which shares the memory on a CPU, ever changes."""
    source = dataclasses.replace(source)  # with its own memory
    addresses, kept = set(), []
    for start in range(0, 40, 4):
        for indices in (range(start, start + 4), range(start, start + 2)):  # the previous content is longer
            features = source.batch(list(indices), 5).features_BxTxM
            addresses.add(features.ctypes.data)
            for row, index in enumerate(indices):
                (item,) = source.dataset.features_of([index])
                np.testing.assert_array_equal(features[row, : len(item)], item)
                assert not features[row, len(item) :].any()
            assert not features[len(indices) :].any()
            if start in (0, 20):
                kept += [(features[1:2], features.copy()[1:2]), (jax.device_put(features), features.copy())]
            del features
    assert len(addresses) <= 1 + 4 + 2  # two grew
    for array, copy in kept:
        np.testing.assert_array_equal(array, copy)


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults as Linux does")
def test_reading_allocates_no_new_pages(tmp_path):
    """New memory pages doubled the time per batch."""
    rng = np.random.default_rng(0)
    for i in range(8):
        soundfile.write(tmp_path / f"{i}.wav", rng.uniform(-0.5, 0.5, 12 * 16_000), 16_000)
    rows = [{"audio_filepath": f"{i}.wav", "text": "hello", "lang": "en"} for i in range(8)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = prepare_cached(tmp_path / "train.jsonl", tmp_path, PrepareConfig(language="english"), workers=1)
    program = """
import resource, sys
from w2l_jax.alphabet import preset
from w2l_jax.dataset.batches import Source
from w2l_jax.dataset.store import open_dataset

source = Source.create(open_dataset(sys.argv[1]), preset("en"), 1)
for _ in range(4):
    source.batch(range(8), 8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(16):
    source.batch(range(8), 8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", program, str(data.folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 16 * 8 * 75  # new bytes of an utterance are 75 pages, and 75 in the reader; 17,670 in all


def test_threads_share_the_memory_of_batches(source):
    source = dataclasses.replace(source)
    alone = [source.batch([i, i + 1], 2).features_BxTxM.copy() for i in range(40)]
    for _ in range(5):
        read = prefetch(range(40), lambda i: source.batch([i, i + 1], 2).features_BxTxM, depth=8)
        for i, features in enumerate(read):
            np.testing.assert_array_equal(features, alone[i])
