"""Freezing: which layers move, against the layer table and plain optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.test_transfer import CONFIG, asg_network, network
from w2l_jax import freezing, model
from w2l_jax.alphabet import Alphabet
from w2l_jax.errors import UserError


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("0", []),
        ("8", range(1, 9)),
        (10, range(1, 11)),
        ("1-3,9", [1, 2, 3, 9]),
        ((2, 9), [2, 9]),
        ("9,", [9]),
        ("2-2", [2]),
    ],
)
def test_layers_to_freeze(text, layers):
    assert freezing.parse_layers(text) == frozenset(layers)


@pytest.mark.parametrize("text", ["11", "12", "-1", "x", "0-3", "1-12", "1-11", "", "1,,2-"])
def test_invalid_layers(text):
    with pytest.raises(UserError, match="frozen layers"):
        freezing.parse_layers(text)


def test_only_a_contiguous_frozen_prefix_needs_no_gradient():
    assert freezing.frozen_prefix(frozenset([1, 2, 3, 9])) == 3
    assert freezing.frozen_prefix(frozenset([2])) == 0


def test_optimizer_state_exists_for_trained_leaves_only():
    params = network(0, 6)
    for k in (0, 8, 10):
        state = freezing.freeze(optax.adam(1e-4), frozenset(range(1, k + 1))).init(params)
        trained = sum(layer.parameters for layer in model.layers(CONFIG, 6, 3)[k:])
        assert sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim) == 2 * trained


def test_freezing_a_missing_layer_raises():
    with pytest.raises(ValueError, match="params must hold layer_01, which is to be frozen; they hold a, b"):
        freezing.freeze(optax.adam(1e-4), 8).init({"a": {}, "b": {}})


def test_freeze_moves_the_layers_above_as_the_optimizer_alone_would():
    params = network(0, 6)
    grads = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), params)
    for layers in (0, 8, "1-3,9", (11,)):
        frozen = freezing.parse_layers(layers)
        optimizer, plain = freezing.freeze(optax.adam(1e-2), layers), optax.adam(1e-2)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        expected, _ = plain.update(grads, plain.init(params), params)
        for number in range(1, 12):
            name = model.layer_name(number)
            for leaf in ("kernel", "bias"):
                expected_update = np.zeros_like(params[name][leaf]) if number in frozen else expected[name][leaf]
                np.testing.assert_array_equal(updates[name][leaf], expected_update)


def test_asg_transitions_are_always_trained():
    params = asg_network(Alphabet("ab", 2))
    for frozen in (frozenset(), frozenset(range(1, 11))):
        assert freezing.labels(params, frozen)["transitions"] == {"scores": "trained"}
        assert "transitions" in freezing.partition(params, frozen)[0]
        assert any(
            leaf.shape == (4, 4) for leaf in jax.tree.leaves(freezing.freeze(optax.adam(1.0), frozen).init(params))
        )
