"""The network in steps gives what it gives for the whole."""

import jax
import numpy as np
import pytest

from w2l_jax import incremental, inference, model
from w2l_jax.model import ModelConfig

CONFIG = ModelConfig(width=4, top_width=5, activation="elu")


@pytest.fixture(scope="module")
def params():
    tree = jax.device_get(model.init(jax.random.key(0), CONFIG, 6, 16))
    # Biases, without which frames outside of the recording would be 0 without masks as well.
    rng = np.random.default_rng(1)
    return {name: leaf | {"bias": rng.standard_normal(leaf["bias"].shape, np.float32)} for name, leaf in tree.items()}


def split(features_TxM):
    return [features_TxM[i : i + incremental.FRAMES] for i in range(0, len(features_TxM), incremental.FRAMES)]


@pytest.mark.parametrize("frames", [1, 19, 20, 21, 98, 100, 117, 400, 1001])
def test_steps_give_the_logits_of_the_whole(params, frames):
    features_TxM = np.random.default_rng(frames).standard_normal((frames, 16)).astype(np.float16)
    found = np.concatenate(list(incremental.stream(params, split(features_TxM), CONFIG)))
    expected = inference.logits(params, features_TxM, CONFIG)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_nothing_comes_of_nothing(params):
    assert list(incremental.stream(params, [], CONFIG)) == []


def test_logits_come_as_soon_as_what_they_see(params):
    """Output frame s sees input frames up to 2·s + 98."""
    taken = 0

    def pieces():
        nonlocal taken
        for piece_TxM in split(np.ones((400, 16), np.float16)):
            taken += len(piece_TxM)
            yield piece_TxM

    known = 0
    for piece_SxV in incremental.stream(params, pieces(), CONFIG):
        known += len(piece_SxV)
        if taken < 400:
            assert known == max(0, (taken - 98) // 2)
    assert known == 200


def test_one_program_for_every_length(params):
    before = incremental.step._cache_size()
    for frames in (7, 20, 333):
        list(incremental.stream(params, split(np.ones((frames, 16), np.float16)), CONFIG))
    assert incremental.step._cache_size() <= max(before, 1)
