"""CTC against brute force: the sum of the probabilities of every path that collapses to the target."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2l_jax import losses


def brute_force(logits_SxV, labels):
    logp = logits_SxV - np.logaddexp.reduce(logits_SxV, axis=1, keepdims=True)
    total = -np.inf
    for path in itertools.product(range(logits_SxV.shape[1]), repeat=len(logits_SxV)):
        collapsed = [label for label, _ in itertools.groupby(path) if label != 0]
        if collapsed == list(labels):
            total = np.logaddexp(total, sum(logp[s, label] for s, label in enumerate(path)))
    return -total


@given(st.integers(1, 5), st.lists(st.integers(1, 3), max_size=4), st.integers(0, 2**31 - 1), st.floats(0.1, 20))
@settings(max_examples=60, deadline=None)
def test_equals_brute_force(frames, labels, seed, scale):
    logits = np.random.default_rng(seed).standard_normal((frames, 4)) * scale
    expected = brute_force(logits, labels)
    # Padded by other numbers, which must not matter.
    padded = np.full((1, 6, 4), 3.0, np.float32)
    padded[0, :frames] = logits
    target = np.array([labels + [2] * (5 - len(labels))])
    arguments = jnp.array(padded), jnp.array([frames]), jnp.array(target), jnp.array([len(labels)])
    possible = bool(losses.feasible(*arguments[1:])[0])
    assert possible == np.isfinite(expected)
    loss = float(losses.ctc_loss(*arguments)[0])
    assert loss == pytest.approx(expected if possible else 0.0, rel=1e-4, abs=2e-4)


def test_hand_computed():
    # Two frames, uniform over blank and 'a': aa, a-, -a give 'a' with probability 3/4.
    loss = losses.ctc_loss(jnp.zeros((1, 2, 2)), jnp.array([2]), jnp.array([[1]]), jnp.array([1]))
    assert float(loss[0]) == pytest.approx(-np.log(3 / 4), rel=1e-5)


def test_infeasible_targets_cost_nothing_and_are_counted():
    labels = jnp.array([[1, 1, 0], [1, 2, 0], [1, 2, 3], [0, 0, 0]])
    lengths, frames = jnp.array([2, 2, 3, 0]), jnp.array([2, 2, 2, 0])
    np.testing.assert_array_equal(losses.required_frames(labels, lengths), [3, 2, 3, 0])
    np.testing.assert_array_equal(losses.feasible(frames, labels, lengths), [False, True, False, False])
    logits = jnp.array(np.random.default_rng(0).standard_normal((4, 2, 4)), jnp.float32)
    loss = losses.ctc_loss(logits, frames, labels, lengths)
    np.testing.assert_array_equal(np.asarray(loss) > 0, [False, True, False, False])
    gradient = jax.grad(lambda x: losses.ctc_loss(x, frames, labels, lengths).sum())(logits)
    assert not gradient[jnp.array([0, 2, 3])].any() and gradient[1].any()


def test_no_gradient_reaches_padding():
    logits = jnp.array(np.random.default_rng(0).standard_normal((1, 9, 4)), jnp.float32)
    arguments = jnp.array([5]), jnp.array([[1, 2, 3]]), jnp.array([2])
    gradient = jax.grad(lambda x: losses.ctc_loss(x, *arguments).sum())(logits)
    assert not gradient[0, 5:].any()
    # Over each valid frame softmax minus occupation sums to 0 (Graves et al. 2006, eq. 16).
    np.testing.assert_allclose(gradient[0, :5].sum(axis=-1), 0, atol=1e-5)


def test_minus_infinity_and_huge_logits_stay_finite():
    logits = jnp.zeros((1, 4, 3)).at[0, 1, 2].set(-jnp.inf).at[0, 2, 1].set(80.0)
    arguments = jnp.array([4]), jnp.array([[1]]), jnp.array([1])
    value, gradient = jax.value_and_grad(lambda x: losses.ctc_loss(x, *arguments).sum())(logits)
    assert np.isfinite(value) and value >= 0 and np.isfinite(gradient).all()


def test_certain_target_is_never_negative():
    logits = jnp.full((1, 3, 3), -80.0).at[0, jnp.arange(3), jnp.array([1, 0, 2])].set(80.0)
    assert 0 <= float(losses.ctc_loss(logits, jnp.array([3]), jnp.array([[1, 2]]), jnp.array([2]))[0]) < 1e-3
