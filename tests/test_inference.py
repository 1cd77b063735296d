"""Logits of recordings longer than the network's window against a single pass."""

import types

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from w2l_jax import inference, model
from w2l_jax.model import ModelConfig

SMALL = ModelConfig(width=12, top_width=16)
PARAMS = jax.device_get(model.init(jax.random.key(1), SMALL, outputs=7, mels=10))
PARAMS = jax.tree.map(lambda x: x + 0.05 if x.ndim == 1 else x, PARAMS)  # biases reveal inserted zeros
APPLY = jax.jit(model.apply, static_argnums=3)


@given(
    st.integers(1, 1000),
    st.sampled_from([196, 214, 500]),
    st.lists(st.integers(1, 1000), max_size=4),
    st.integers(0, 2**31 - 1),
)
@settings(max_examples=40)
def test_long_equals_short(frames, window, cuts, seed):
    """Within 1e-5 · max(1, max|logit|); windows may be shorter than the context, and recordings shorter than both."""
    features_TxM = (3 * np.random.default_rng(seed).standard_normal((frames, 10))).astype(np.float16)
    pieces = np.split(features_TxM, sorted(cut for cut in cuts if cut < frames))
    with jax.default_matmul_precision("highest"):
        whole = np.asarray(
            APPLY(PARAMS, np.pad(features_TxM, ((0, 1000 - frames), (0, 0)))[None], np.array([frames]), SMALL)
        )
        found = list(inference.stream(PARAMS, pieces, SMALL, window))
    expected_SxV = whole[0, : model.output_frames(frames)]
    found_SxV = np.concatenate(found)
    assert found_SxV.shape == expected_SxV.shape and found_SxV.dtype == np.float32
    assert abs(found_SxV - expected_SxV).max() <= 1e-5 * max(1, abs(expected_SxV).max())
    assert all(len(logits_SxV) for logits_SxV in found)


def test_windows_of_a_recording_are_compiled_once(monkeypatch):
    shapes = []
    monkeypatch.setattr(inference, "_apply", lambda *args: shapes.append(args[1].shape) or APPLY(*args))
    features_TxM = np.zeros((3000, 10), np.float16)
    assert len(inference.logits(PARAMS, features_TxM[:300], SMALL)) == 150
    assert shapes == [(1, 512, 10)]
    shapes.clear()
    assert sum(map(len, inference.stream(PARAMS, np.split(features_TxM, 3), SMALL, 500))) == 1500
    assert len(shapes) > 9 and set(shapes) == {(1, 500, 10)}
    assert list(inference.stream(PARAMS, [], SMALL)) == []


def test_the_next_batch_is_computed_in_parallel(monkeypatch):
    """And no later one, since its activations would need memory."""
    batches, begun = {"a": (0, 1), "b": (2, 3), "c": (4,)}, []

    def forward(params, batch, *rest):
        begun.append(batch)
        rows = len(batches[batch])
        return np.zeros((rows, 9, 7)), np.zeros((rows, 9)), np.full(rows, ord(batch)), np.ones(rows)

    monkeypatch.setattr(inference, "forward", forward)
    dataset = types.SimpleNamespace(
        record=types.SimpleNamespace(layer=0), entries=[types.SimpleNamespace(frames=2 * i) for i in range(5)]
    )
    names = {indices: name for name, indices in batches.items()}
    source = types.SimpleNamespace(
        dataset=dataset, in_order_of_length=lambda size: batches.values(), batch=lambda indices, size: names[indices]
    )
    seen = []
    for prediction in inference.predict(None, source, SMALL, place=lambda batch: batch):
        seen.append((prediction.index, chr(int(prediction.loss)), len(prediction.logits_SxV), "".join(begun)))
    assert seen == [(0, "a", 0, "ab"), (1, "a", 1, "ab"), (2, "b", 2, "abc"), (3, "b", 3, "abc"), (4, "c", 4, "abc")]
