"""In programs that enable float64 (`JAX_ENABLE_X64`) parameters, losses, features and their states stay float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from w2l_jax import features_jax, incremental, model, transfer
from w2l_jax.alphabet import Alphabet
from w2l_jax.dataset.batches import Batch
from w2l_jax.model import ModelConfig
from w2l_jax.training import augment
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import AugmentOptions, OptimizerOptions, TrainOptions
from w2l_jax.training.step import StepConfig, init_state, make_step

SMALL = ModelConfig(width=8, top_width=12)
ROOM = AugmentOptions(room=0.5, noise=0.5, microphone=6.0, frequency_masks=1, time_masks=1)
_INT32_B, _INT32_BxL = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((2,), (2, 3)))
BATCH = Batch(jax.ShapeDtypeStruct((2, 48, 6), jnp.float16), _INT32_B, _INT32_BxL, _INT32_B)


@pytest.fixture(autouse=True)
def _x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def types(tree):
    return jax.tree.map(lambda leaf: leaf.dtype, tree)


@pytest.mark.parametrize("repetitions", [0, 2], ids=["ctc", "asg"])
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_an_update_keeps_every_type(optimizer, repetitions):
    group = OptimizerOptions(name=optimizer, clip_norm=1.0, weight_decay=0.1, warmup_steps=2, decay="cosine")
    frozen = frozenset({1})
    optimizer = make_optimizer(TrainOptions(optimizer=group), frozen)
    config = StepConfig(SMALL, frozen, average_decay=0.9, augment=ROOM, max_microbatch_frames=48)

    def start():
        params = transfer.init(jax.random.key(0), SMALL, Alphabet("abcde", repetitions), 6)
        return init_state(params, optimizer, frozen, average=True)

    before = jax.eval_shape(start)
    after, metrics = jax.eval_shape(make_step(optimizer, config), before, BATCH)
    assert set(jax.tree.leaves(types(before))) == {jnp.dtype("float32"), jnp.dtype("int32")}
    assert types(after) == types(before)
    assert metrics["loss"].dtype == metrics["gradient_norm"].dtype == jnp.float32


def test_features_are_float32():
    changed = jax.eval_shape(lambda batch: augment.in_step(jax.random.key(0), batch, ROOM), BATCH)
    waveforms = jax.ShapeDtypeStruct((2, 4000), jnp.float32)
    computed, _ = jax.eval_shape(features_jax.spectrograms, waveforms, _INT32_B)
    assert changed.dtype == computed.dtype == jnp.float32


def test_a_network_in_steps_is_float32():
    network = incremental.Network(model.init(jax.random.key(0), SMALL, 7, 6), SMALL)
    assert network.rest(np.ones((20, 6), np.float16)).dtype == np.float32
