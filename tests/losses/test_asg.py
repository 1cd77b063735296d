"""ASG against brute force over all paths and against float64 sums of logarithms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.forms import FORMS, forms, in_form
from tests.losses.test_ctc import certain_batch
from w2l_jax.losses import asg

S, L, V = 5, 4, 3


def total(emissions, transitions, *target):
    return asg.asg_loss(emissions, transitions, *target).sum()


differentiated = {form: in_form(form, jax.value_and_grad(total, argnums=(0, 1))) for form in FORMS}
per_utterance = {form: in_form(form, asg.asg_loss) for form in FORMS}
viterbi = jax.jit(asg.asg_viterbi)


def brute_force(emissions_SxV, transitions, labels):
    """Loss, gradients (expected counts over all paths minus those over the target's) and the best path."""
    frames, size = emissions_SxV.shape
    paths = list(itertools.product(range(size), repeat=frames))
    scores = np.array(
        [
            sum(emissions_SxV[s, i] for s, i in enumerate(path))
            + sum(transitions[i, j] for i, j in itertools.pairwise(path))
            for path in paths
        ]
    )
    mine = np.array([[label for label, _ in itertools.groupby(path)] == list(labels) for path in paths])
    full, of_target = np.logaddexp.reduce(scores), np.logaddexp.reduce(np.where(mine, scores, -np.inf))
    by_emission, by_transition = np.zeros((frames, size)), np.zeros((size, size))
    if mine.any():
        for path, weight in zip(paths, np.exp(scores - full) - mine * np.exp(scores - of_target), strict=True):
            np.add.at(by_emission, (range(frames), path), weight)
            np.add.at(by_transition, (path[:-1], path[1:]), weight)
    return full - of_target, by_emission, by_transition, paths[scores.argmax()], scores.max()


def float64_loss(emissions_SxV, transitions, labels):
    everything, target = emissions_SxV[0], np.full(len(labels), -np.inf)
    target[0] = emissions_SxV[0, labels[0]]
    stays, steps = transitions[labels, labels], np.r_[-np.inf, transitions[labels[:-1], labels[1:]]]
    for frame in emissions_SxV[1:]:
        everything = np.logaddexp.reduce(everything[:, None] + transitions, axis=0) + frame
        target = np.logaddexp(target + stays, np.r_[-np.inf, target[:-1]] + steps) + frame[labels]
    return np.logaddexp.reduce(everything) - target[-1]


@forms
@given(
    st.integers(1, S),
    st.lists(st.integers(0, V - 1), max_size=L),
    st.floats(0.1, 80),
    st.floats(0.1, 15),
    st.integers(0, 2**31 - 1),
)
@settings(max_examples=60, deadline=None)
def test_loss_gradients_and_best_path_equal_brute_force(form, frames, labels, scale, transition_scale, seed):
    rng = np.random.default_rng(seed)
    emissions = np.float32(rng.uniform(-1, 1, (frames, V)) * scale)
    transitions = np.float32(rng.uniform(-1, 1, (V, V)) * transition_scale)
    padded = np.full((1, S, V), np.nan, np.float32)
    padded[0, :frames] = emissions
    target = jnp.array([frames]), jnp.array([[*labels, -1, 99, 2, 1][:L]]), jnp.array([len(labels)])
    expected, by_emission, by_transition, path, score = brute_force(
        emissions.astype(np.float64), transitions.astype(np.float64), labels
    )
    possible = bool(asg.asg_feasible(padded, *target)[0])
    assert possible == np.isfinite(expected)
    value, (gradient, counts) = differentiated[form](padded, transitions, *target)
    assert float(value) == pytest.approx(expected if possible else 0.0, rel=1e-5, abs=1e-4)
    np.testing.assert_allclose(gradient[0, :frames], by_emission, atol=1e-4)
    np.testing.assert_allclose(counts, by_transition, atol=2e-4)
    assert not gradient[0, frames:].any()
    labels_1xS, score_1 = viterbi(padded, transitions, target[0])
    assert labels_1xS[0].tolist() == [*path, *[-1] * (S - frames)]
    assert float(score_1[0]) == pytest.approx(score, rel=1e-5, abs=1e-4)


@forms
@pytest.mark.parametrize("scale", [1.0, 80.0])
def test_long_utterances_lose_no_precision(form, scale):
    rng = np.random.default_rng(0)
    emissions = np.float32(rng.uniform(-1, 1, (300, 20)) * scale)
    transitions = np.float32(rng.standard_normal((20, 20)) * 2)
    labels = np.array([7 * i % 20 for i in range(60)])
    target = jnp.array([300]), jnp.array([labels]), jnp.array([60])
    value, (gradient, counts) = differentiated[form](emissions[None], transitions, *target)
    emissions, transitions = emissions.astype(np.float64), transitions.astype(np.float64)
    assert float(value) == pytest.approx(float64_loss(emissions, transitions, labels), rel=2e-5)
    # Each frame has one label and each step one transition, in all paths as in the target's.
    np.testing.assert_allclose(gradient[0].sum(axis=1), 0, atol=1e-4)
    assert float(counts.sum()) == pytest.approx(0, abs=1e-2)
    for _ in range(3):
        to, step = rng.standard_normal(emissions.shape), rng.standard_normal(transitions.shape)
        ends = [float64_loss(emissions + h * to, transitions + h * step, labels) for h in (1e-5, -1e-5)]
        slope = float((gradient[0] * to).sum() + (counts * step).sum())
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=2e-3)


@forms
def test_targets_without_a_path_have_zero_loss(form):
    labels = jnp.array([[1, 1, 0], [1, 2, 0], [1, 2, 0], [1, 0, 0], [1, 1, 1]])
    lengths, frames = jnp.array([2, 2, 2, 0, 1]), jnp.array([4, 4, 1, 4, 4])
    emissions = jnp.array(np.random.default_rng(0).standard_normal((5, 4, 3)), jnp.float32)
    possible = asg.asg_feasible(emissions, frames, labels, lengths)
    np.testing.assert_array_equal(possible, [False, True, False, False, True])
    loss = per_utterance[form](emissions, jnp.zeros((3, 3)), frames, labels, lengths)
    np.testing.assert_array_equal(np.asarray(loss) > 0, [False, True, False, False, True])
    gradient, _ = differentiated[form](emissions, jnp.zeros((3, 3)), frames, labels, lengths)[1]
    assert not gradient[jnp.array([0, 2, 3])].any() and gradient[1].any()


@forms
def test_forbidden_transitions_and_minus_infinity_stay_finite(form):
    emissions = jnp.zeros((1, S, V)).at[0, 2, 1].set(-jnp.inf).at[0, 3].set(-jnp.inf)
    transitions = jnp.zeros((V, V)).at[0, 1].set(-jnp.inf)
    target = jnp.array([S]), jnp.array([[0, 1, 0, 0]]), jnp.array([2])
    value, gradients = differentiated[form](emissions, transitions, *target)
    assert value > 9e4 and all(np.isfinite(g).all() for g in gradients)


@forms
def test_transitions_of_any_size(form):
    rng = np.random.default_rng(0)
    emissions, transitions = rng.standard_normal((1, S, V)), np.float32(rng.standard_normal((V, V)))
    target = jnp.array([S]), jnp.array([[0, 1, 2, 0]]), jnp.array([4])
    expected = per_utterance[form](emissions, transitions, *target)
    np.testing.assert_allclose(per_utterance[form](emissions, transitions + 200, *target), expected, rtol=1e-4)
    # The only path takes a step 200 nats below the highest, which counts as 70 below among all paths.
    forced = 1000 * np.eye(V)[None, [0, 1]]
    value, gradients = differentiated[form](
        forced, np.diag([0.0] * V) - 200 * (1 - np.eye(V)), jnp.array([2]), *target[1:2], jnp.array([2])
    )
    assert value == pytest.approx(130, abs=0.1) and all(np.isfinite(g).all() for g in gradients)


@forms
def test_rounding_never_makes_a_loss_negative(form):
    emissions, target = certain_batch(0, blank=None)
    transitions = np.random.default_rng(0).standard_normal((4, 4), np.float32)
    loss_B = np.asarray(per_utterance[form](emissions, transitions, *target))
    assert loss_B.min() == 0 and loss_B.max() < 1e-4


def test_vmap_and_bfloat16():
    rng = np.random.default_rng(0)
    emissions = jnp.array(rng.standard_normal((2, 2, S, V)), jnp.bfloat16)
    transitions = jnp.array(rng.standard_normal((V, V)), jnp.float32)
    target = jnp.full((2, 2), S), jnp.array([[[0, 1, 2, 0]] * 2] * 2), jnp.array([[3, 2]] * 2)
    mapped = jax.jit(jax.vmap(asg.asg_loss, in_axes=(0, None, 0, 0, 0)))(emissions, transitions, *target)
    for i in range(2):
        each = per_utterance[FORMS[0]](emissions[i].astype(jnp.float32), transitions, *(x[i] for x in target))
        np.testing.assert_allclose(mapped[i], each, rtol=1e-5)
