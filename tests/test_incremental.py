"""The network run in steps gives the same result as for the whole recording."""

import jax
import numpy as np
import pytest

from w2l_jax import incremental, inference, model
from w2l_jax.model import ModelConfig

CONFIG = ModelConfig(width=4, top_width=5, activation="elu")


@pytest.fixture(scope="module")
def params():
    tree = jax.device_get(model.init(jax.random.key(0), CONFIG, 6, 16))
    # With biases: without them, frames outside of the recording would be 0 even without masks.
    rng = np.random.default_rng(1)
    return {name: leaf | {"bias": rng.standard_normal(leaf["bias"].shape, np.float32)} for name, leaf in tree.items()}


def split(features_TxM):
    return [features_TxM[i : i + incremental.FRAMES] for i in range(0, len(features_TxM), incremental.FRAMES)]


def in_steps(params, features_TxM):
    """The logits of each step, and finally the rest."""
    network = incremental.Network(params, CONFIG)
    *full, last_TxM = [*split(features_TxM), features_TxM[:0]]
    if full and len(full[-1]) < incremental.FRAMES:
        last_TxM = full.pop()
    return [*map(network.extend, full), network.rest(last_TxM)]


@pytest.mark.parametrize("frames", [1, 19, 20, 21, 98, 100, 117, 400, 1001])
def test_steps_give_the_logits_of_the_whole_recording(params, frames):
    features_TxM = np.random.default_rng(frames).standard_normal((frames, 16)).astype(np.float16)
    found = np.concatenate(in_steps(params, features_TxM))
    expected = inference.logits(params, features_TxM, CONFIG)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_no_frames_give_no_logits(params):
    assert incremental.Network(params, CONFIG).rest().shape == (0, 6)


def test_logits_follow_as_soon_as_their_receptive_field_is_complete(params):
    """Output frame s sees input frames up to 2·s + 98."""
    *steps, rest_SxV = in_steps(params, np.ones((400, 16), np.float16))
    known = np.cumsum([len(piece_SxV) for piece_SxV in steps])
    assert known.tolist() == [max(0, (taken - 98) // 2) for taken in range(20, 401, 20)]
    assert known[-1] + len(rest_SxV) == 200


def test_rest_does_not_change_the_state(params):
    """At any time, `rest` gives the logits of a recording that ends here, and later steps stay the same."""
    features_TxM = np.random.default_rng(0).standard_normal((240, 16)).astype(np.float16)
    network, known = incremental.Network(params, CONFIG), []
    for end in range(20, 241, 20):
        known.append(network.extend(features_TxM[end - 20 : end]))
        found = np.concatenate([*known, network.rest()])
        np.testing.assert_allclose(found, inference.logits(params, features_TxM[:end], CONFIG), atol=1e-4)


def test_one_program_for_every_length(params):
    before = incremental.step._cache_size()
    for frames in (7, 20, 333):
        in_steps(params, np.ones((frames, 16), np.float16))
    assert incremental.step._cache_size() <= max(before, 1)
