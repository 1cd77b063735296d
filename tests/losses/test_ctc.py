"""CTC against brute force (every path that collapses to the target), a float64 recursion and optax."""

import itertools
import os
import re
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.losses.forms import FORMS, forms, in_form
from w2l_jax import losses
from w2l_jax.losses import asg


def brute_force(logits_SxV, labels):
    logp = logits_SxV - np.logaddexp.reduce(logits_SxV, axis=1, keepdims=True)
    total = -np.inf
    for path in itertools.product(range(logits_SxV.shape[1]), repeat=len(logits_SxV)):
        collapsed = [label for label, _ in itertools.groupby(path) if label != 0]
        if collapsed == list(labels):
            total = np.logaddexp(total, sum(logp[s, label] for s, label in enumerate(path)))
    return -total


def total(logits, *target):
    return losses.ctc_loss(logits, *target).sum()


def optax_total(logits, frames, labels, lengths):
    frame_padding = (jnp.arange(logits.shape[1]) >= frames[:, None]).astype(jnp.float32)
    label_padding = (jnp.arange(labels.shape[1]) >= lengths[:, None]).astype(jnp.float32)
    return optax.ctc_loss(logits, frame_padding, labels, label_padding).sum()


optax_differentiated = jax.jit(jax.value_and_grad(optax_total))
loss_of = {form: in_form(form, losses.ctc_loss) for form in FORMS}
differentiated = {form: in_form(form, jax.value_and_grad(total)) for form in FORMS}


def value_and_gradient(*arguments, form=FORMS[0]):
    return jax.tree.map(np.asarray, differentiated[form](*arguments))


def float64_recursion(logits_SxV, labels):
    """Loss and gradient by forward and backward sums of logarithms (Graves et al. 2006, eq. 6 to 16)."""
    logp = logits_SxV.astype(np.float64)
    logp = logp - np.logaddexp.reduce(logp, axis=1, keepdims=True)
    states = np.zeros(2 * len(labels) + 1, int)
    states[1::2] = labels
    emit = logp[:, states]

    def sums(emit, states):
        skips = np.zeros(len(states), bool)
        skips[2:] = (states[2:] != 0) & (states[2:] != states[:-2])
        rows = [np.where(np.arange(len(states)) < 2, emit[0], -np.inf)]
        for frame in emit[1:]:
            one, two = np.r_[-np.inf, rows[-1]][: len(states)], np.r_[-np.inf, -np.inf, rows[-1]][: len(states)]
            two = np.where(skips, two, -np.inf)
            rows.append(np.logaddexp(np.logaddexp(rows[-1], one), two) + frame)
        return np.array(rows)

    alpha, beta = sums(emit, states), sums(emit[::-1, ::-1], states[::-1])[::-1, ::-1]
    total = np.logaddexp.reduce(alpha[-1, -2:])
    occupancy = np.exp(alpha + beta - emit - total)
    return -total, np.exp(logp) - occupancy @ np.eye(logits_SxV.shape[1])[states]


def random_case(seed, frames, length, size, scale):
    rng = np.random.default_rng(seed)
    logits = np.float32(rng.standard_normal((frames, size)) * scale)
    return np.clip(logits, -80, 80), rng.integers(1, size, length)


def batch_of_one(logits_SxV, labels):
    return jnp.array(logits_SxV)[None], jnp.array([len(logits_SxV)]), jnp.array([labels], int), jnp.array([len(labels)])


@forms
@given(st.integers(1, 5), st.lists(st.integers(1, 3), max_size=4), st.integers(0, 2**31 - 1), st.floats(0.1, 20))
@settings(max_examples=60, deadline=None)
def test_equals_brute_force(form, frames, labels, seed, scale):
    logits = np.random.default_rng(seed).standard_normal((frames, 4)) * scale
    expected = brute_force(logits, labels)
    # Padded with other numbers, which must not matter.
    padded = np.full((1, 6, 4), 3.0, np.float32)
    padded[0, :frames] = logits
    target = np.array([labels + [2] * (5 - len(labels))])
    arguments = jnp.array(padded), jnp.array([frames]), jnp.array(target), jnp.array([len(labels)])
    possible = bool(losses.feasible(*arguments)[0])
    assert possible == np.isfinite(expected)
    loss, _ = value_and_gradient(*arguments, form=form)
    assert loss == pytest.approx(expected if possible else 0.0, rel=1e-4, abs=2e-4)


@forms
@given(st.integers(1, 12), st.integers(0, 6), st.floats(0.1, 160), st.integers(0, 2**31 - 1))
@settings(max_examples=100, deadline=None)
def test_loss_and_gradient_equal_float64(form, frames, length, scale, seed):
    logits, labels = random_case(seed, frames, length, 4, scale)
    # Padded with numbers that must not matter, some of them not labels.
    padded = np.full((1, 12, 4), np.nan, np.float32)
    padded[0, :frames] = logits
    target = jnp.array([frames]), jnp.array([[*labels, -1, 99, 2, 2, 0, 1, 3][:7]]), jnp.array([length])
    value, gradient = value_and_gradient(padded, *target, form=form)
    expected, expected_gradient = 0.0, np.zeros_like(logits)
    if losses.feasible(padded, *target)[0]:
        expected, expected_gradient = float64_recursion(logits, labels)
    assert value == pytest.approx(expected, rel=1e-5, abs=2e-5)
    np.testing.assert_allclose(gradient[0, :frames], expected_gradient, atol=1e-5)
    assert not gradient[0, frames:].any()


@pytest.mark.parametrize("rows", [16, 17])
def test_a_batch_in_two_halves_equals_single_utterances(rows):
    rng = np.random.default_rng(rows)
    frames, lengths = rng.integers(0, 13, rows), rng.integers(0, 6, rows)
    logits, labels = np.float32(3 * rng.standard_normal((rows, 12, 5))), rng.integers(1, 5, (rows, 5))
    target = tuple(map(jnp.array, (frames, labels, lengths)))
    loss = jax.jit(losses.ctc_loss)(logits, *target)
    gradient = np.asarray(jax.jit(jax.grad(lambda x: losses.ctc_loss(x, *target).sum()))(logits))
    possible = np.asarray(losses.feasible(logits, *target))
    assert 4 < possible.sum() < rows
    for row in range(rows):
        expected, expected_gradient = 0.0, np.zeros((frames[row], 5))
        if possible[row]:
            expected, expected_gradient = float64_recursion(logits[row, : frames[row]], labels[row, : lengths[row]])
        assert loss[row] == pytest.approx(expected, rel=1e-5, abs=2e-5)
        np.testing.assert_allclose(gradient[row, : frames[row]], expected_gradient, atol=1e-5)
        assert not gradient[row, frames[row] :].any()


@pytest.mark.parametrize("certainty", [0.0, 12.0, 80.0])
def test_long_utterances_lose_no_precision(certainty):
    # A network that predicts blank almost everywhere: the target's paths have e^-1300 of the best state's weight.
    logits, labels = random_case(1, 600, 120, 33, 2.0)
    logits[:, 0] += certainty
    expected, expected_gradient = float64_recursion(logits, labels)

    def error(value, gradient):
        assert value == pytest.approx(expected, rel=1e-5)
        return np.abs(np.asarray(gradient)[0] - expected_gradient).max()

    case = batch_of_one(logits, labels)
    of_optax = error(*optax_differentiated(*case))
    # Where float64 is the default, optax computes in it, and is no measure.
    limit = 1e-5 if jax.config.jax_enable_x64 else min(1e-5, of_optax / 20)
    for form in FORMS:
        assert error(*differentiated[form](*case)) < limit


def test_memory_is_below_optaxs():
    shapes = [((64, 750, 33), jnp.float32), ((64,), jnp.int32), ((64, 150), jnp.int32), ((64,), jnp.int32)]
    arguments = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    ours, theirs = (
        jax.jit(jax.value_and_grad(f)).lower(*arguments).compile().memory_analysis().temp_size_in_bytes
        for f in (total, optax_total)
    )
    assert ours < 0.2 * theirs


def test_vmap_and_bfloat16():
    rng = np.random.default_rng(0)
    logits = jnp.array(rng.standard_normal((3, 2, 9, 4)), jnp.bfloat16)
    target = jnp.array([[9, 6]] * 3), jnp.array(rng.integers(1, 4, (3, 2, 4))), jnp.array([[3, 2]] * 3)
    mapped = jax.jit(jax.vmap(jax.value_and_grad(total)))(logits, *target)
    assert mapped[1].dtype == jnp.bfloat16
    for i in range(3):
        value, each = value_and_gradient(logits[i].astype(jnp.float32), *(x[i] for x in target))
        assert mapped[0][i] == pytest.approx(float(value), rel=1e-5)
        np.testing.assert_allclose(mapped[1][i].astype(jnp.float32), each, rtol=1e-2, atol=1e-5)


@forms
def test_nan_is_propagated(form):
    value, gradient = value_and_gradient(*batch_of_one(np.float32([[0, 1], [0, np.nan]]), [1]), form=form)
    assert np.isnan(value) and np.isnan(gradient).any()
    logits = np.random.default_rng(0).standard_normal((4, 88, 29)).astype(np.float32)
    logits[0, :51] = np.nan
    target = np.full(4, 88), np.ones((4, 5), np.int32), np.full(4, 5)
    loss_B = loss_of[form](jnp.array(logits), *target)
    assert np.isnan(loss_B).tolist() == [True, False, False, False]


def test_hand_computed():
    # Two frames, uniform over blank and 'a': aa, a-, -a give 'a' with probability 3/4.
    loss, _ = value_and_gradient(jnp.zeros((1, 2, 2)), jnp.array([2]), jnp.array([[1]]), jnp.array([1]))
    assert loss == pytest.approx(-np.log(3 / 4), rel=1e-5)


@forms
def test_infeasible_targets_have_zero_loss_and_are_counted(form):
    labels = jnp.array([[1, 1, 0], [1, 2, 0], [1, 2, 3], [0, 0, 0]])
    lengths, frames = jnp.array([2, 2, 3, 0]), jnp.array([2, 2, 2, 0])
    np.testing.assert_array_equal(losses.required_frames(labels, lengths), [3, 2, 3, 0])
    logits = jnp.array(np.random.default_rng(0).standard_normal((4, 2, 4)), jnp.float32)
    np.testing.assert_array_equal(losses.feasible(logits, frames, labels, lengths), [False, True, False, False])
    loss = loss_of[form](logits, frames, labels, lengths)
    np.testing.assert_array_equal(np.asarray(loss) > 0, [False, True, False, False])
    _, gradient = value_and_gradient(logits, frames, labels, lengths, form=form)
    assert not gradient[jnp.array([0, 2, 3])].any() and gradient[1].any()


@forms
def test_no_gradient_reaches_padding(form):
    logits = jnp.array(np.random.default_rng(0).standard_normal((1, 9, 4)), jnp.float32)
    arguments = jnp.array([5]), jnp.array([[1, 2, 3]]), jnp.array([2])
    _, gradient = value_and_gradient(logits, *arguments, form=form)
    assert not gradient[0, 5:].any()
    # Over each valid frame softmax minus occupation sums to 0 (Graves et al. 2006, eq. 16).
    np.testing.assert_allclose(gradient[0, :5].sum(axis=-1), 0, atol=1e-5)


@forms
def test_minus_infinity_and_huge_logits_stay_finite(form):
    logits = jnp.zeros((1, 4, 3)).at[0, 1, 2].set(-jnp.inf).at[0, 2, 1].set(80.0)
    arguments = jnp.array([4]), jnp.array([[1]]), jnp.array([1])
    value, gradient = value_and_gradient(logits, *arguments, form=form)
    assert np.isfinite(value) and value >= 0 and np.isfinite(gradient).all()


@forms
def test_a_target_ruled_out_by_minus_infinity_stays_finite(form):
    logits = jnp.zeros((1, 4, 3)).at[0, :, 1].set(-jnp.inf)
    value, gradient = value_and_gradient(logits, jnp.array([4]), jnp.array([[1]]), jnp.array([1]), form=form)
    assert value > 9e4 and np.isfinite(gradient).all()


@forms
def test_certain_target_is_never_negative(form):
    logits = jnp.full((1, 3, 3), -80.0).at[0, jnp.arange(3), jnp.array([1, 0, 2])].set(80.0)
    arguments = jnp.array([3]), jnp.array([[1, 2]]), jnp.array([2])
    assert 0 <= value_and_gradient(logits, *arguments, form=form)[0] < 1e-3


def certain_batch(seed, blank):
    """256 random paths of 30 frames whose logits stand out by 20 nats, and what they spell."""
    rng = np.random.default_rng(seed)
    path = rng.integers(0, 4, (256, 30))
    logits = np.where(path[:, :, None] == np.arange(4), 10, -10 + rng.uniform(-3, 3, (256, 30, 4)))
    spelt = [[label for label, _ in itertools.groupby(row) if label != blank] for row in path.tolist()]
    labels = [row + [0] * (30 - len(row)) for row in spelt]
    return np.float32(logits), (np.full(256, 30), np.array(labels), np.array(list(map(len, spelt))))


@forms
def test_rounding_never_makes_a_loss_negative(form):
    # The loss is the difference of two sums; rounding would order some of them wrongly.
    logits, target = certain_batch(0, blank=0)
    loss_B = np.asarray(loss_of[form](logits, *target))
    assert loss_B.min() == 0 and loss_B.max() < 1e-5


@pytest.mark.parametrize("x64", ["0", "1"])
def test_a_batch_spread_over_devices_needs_no_communication(x64):
    script = """if True:
        import jax, jax.numpy as jnp, numpy as np
        from w2l_jax import losses, model
        from w2l_jax.losses import asg
        rng = np.random.default_rng(0)
        target = np.array([9, 7, 5, 9]), rng.integers(1, 5, (4, 3)), np.ones(4, int)
        arrays = rng.standard_normal((4, 9, 5), np.float32), *target
        transitions = rng.standard_normal((5, 5), np.float32)
        mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
        spread = jax.device_put(arrays, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch")))
        for loss in losses.ctc_loss, lambda x, *target: asg.asg_loss(x, transitions, *target):
            gradient = jax.jit(lambda x, *target: jax.grad(lambda x: loss(x, *target).sum())(x))
            np.testing.assert_allclose(gradient(*spread), gradient(*arrays), atol=1e-6)
            text = gradient.lower(*spread).compile().as_text()
            exchanges = ("all-gather", "all-reduce", "permute", "all-to-all")
            print(jax.device_count(), any(word in text for word in exchanges))
        config, P = model.ModelConfig(width=8, top_width=12), jax.sharding.PartitionSpec
        params = model.init(jax.random.key(0), config, 5, 6)
        x, target = np.ones((4, 18, 6), np.float32), tuple(target)
        def gradients(params, transitions, x, frames, *target):
            def total(params, transitions):
                logits = model.apply(params, x, 2 * frames, config, precision="highest")
                asg_B = asg.asg_loss(logits, transitions, frames, *target)
                return (losses.ctc_loss(logits, frames, *target) + asg_B).sum()
            return jax.grad(total, argnums=(0, 1))(params, transitions)
        specs = (P(), P(), *[P("batch")] * 4)
        shared = jax.jit(jax.shard_map(gradients, mesh=mesh, in_specs=specs, out_specs=P()))
        both = (jax.tree.leaves(f(params, transitions, x, *target)) for f in (shared, jax.jit(gradients)))
        for a, b in zip(*both, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5 * max(1, abs(b).max()))
    """
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    environment["JAX_ENABLE_X64"] = x64
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.stdout.split() == ["2", "False"] * 2, done.stderr


def float64_hessian(logits_SxV, labels):
    logits_SxV = logits_SxV.astype(np.float64)

    def slope(i, h):
        moved = logits_SxV.copy()
        moved.flat[i] += h
        return float64_recursion(moved, labels)[1].ravel()

    return np.array([(slope(i, 1e-5) - slope(i, -1e-5)) / 2e-5 for i in range(logits_SxV.size)])


@forms
def test_second_derivatives_equal_float64(form):
    logits, _ = random_case(0, 6, 3, 4, 2.0)
    labels = [1, 2, 2]
    expected = float64_hessian(logits, labels)
    assert abs(expected).max() > 0.2
    target = batch_of_one(logits, labels)[1:]
    gradient = jax.grad(lambda x: total(x, *target))
    for hessian in (jax.jacrev(gradient), jax.jacfwd(gradient)):
        np.testing.assert_allclose(in_form(form, hessian)(logits[None]).reshape(24, 24), expected, atol=2e-6)


@forms
def test_forward_mode_is_the_gradient(form):
    logits, labels = random_case(3, 9, 3, 4, 2.0)
    case = batch_of_one(logits, labels)
    direction = np.random.default_rng(1).standard_normal(case[0].shape).astype(np.float32)
    slope = in_form(form, lambda x, t, *target: jax.jvp(lambda x: total(x, *target), (x,), (t,))[1])
    _, gradient = value_and_gradient(*case, form=form)
    assert float(slope(case[0], direction, *case[1:])) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


@pytest.mark.parametrize("shape", [(0, 6, 4), (2, 0, 4)])
def test_empty_batches(shape):
    zeros = jnp.zeros(shape[0], int)
    value, gradient = jax.value_and_grad(total)(jnp.ones(shape), zeros, jnp.zeros((shape[0], 3), int), zeros)
    assert value == 0 and gradient.shape == shape and not gradient.any()


LOGITS, FRAMES, LABELS, LENGTHS = (
    jnp.zeros((2, 6, 4), jnp.float32),
    jnp.array([6, 5], jnp.int32),
    jnp.array([[1, 2], [3, 0]]),
    jnp.array([2, 1]),
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LOGITS[0], FRAMES, LABELS, LENGTHS), r"logits_BxSxV .* \[B, S, V\], not float32 \[6, 4\]"),
        ((LOGITS, [6, 5], LABELS, LENGTHS), r"frames_B .* \[B\] with B = 2, not a list"),
        ((LOGITS, FRAMES[:1], LABELS, LENGTHS), "frames_B .* B = 2, not int32"),
        ((LOGITS, FRAMES, LABELS[0], LENGTHS), "labels_BxL"),
        ((LOGITS, FRAMES, LABELS * 1.0, LENGTHS), "labels_BxL .* integer"),
        ((LOGITS, FRAMES, LABELS, LENGTHS[:, None]), "label_lengths_B"),
    ],
)
def test_wrong_shapes(arguments, message):
    for call in (losses.ctc_loss, jax.jit(losses.ctc_loss)):
        if isinstance(arguments[1], list) and call is not losses.ctc_loss:
            continue
        with pytest.raises(ValueError, match=message):
            call(*arguments)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("frames", [12, 5], "frames_B must be in 0 … 6 .*output_frames.*, not 12"),
        ("labels", [[1, 4], [3, 0]], "labels_BxL must be in 1 … 3 .*, not 4"),
        ("labels", [[0, 2], [3, 0]], "labels_BxL must be in 1 … 3 .*, not 0"),
        ("lengths", [3, 1], "label_lengths_B must be in 0 … 2 .*, not 3"),
        ("lengths", [-1, 1], "label_lengths_B must be in 0 … 2 .*, not -1"),
    ],
)
def test_wrong_values_are_refused_or_counted(name, wrong, message):
    target = {"frames": FRAMES, "labels": LABELS, "lengths": LENGTHS} | {name: jnp.array(wrong)}
    with pytest.raises(ValueError, match=message):
        losses.ctc_loss(LOGITS, *target.values())
    value, gradient = jax.jit(jax.value_and_grad(total))(LOGITS, *target.values())
    right, _ = value_and_gradient(LOGITS[1:], FRAMES[1:], LABELS[1:], LENGTHS[1:])
    assert float(value) == pytest.approx(float(right), rel=1e-6) and not gradient[0].any()
    assert losses.feasible(LOGITS, *target.values()).tolist() == [False, True]


def bodies(text):
    """The text of every loop of a StableHLO module with the functions that it calls, directly or not."""
    functions = dict(re.findall(r"func\.func private @(\w+)(.*?)\n  }", text, re.DOTALL))

    def whole(part):
        return part + "".join(whole(functions[name]) for name in set(re.findall(r"call @(\w+)", part)))

    return [
        whole(part)
        for part in re.findall(r"stablehlo\.while.*?\n      }\n|stablehlo\.while.*?\n    }\n", text, re.DOTALL)
    ]


@pytest.mark.parametrize(("of", "loops"), [("ctc", 1), ("asg", 2)])
def test_accelerators_get_one_loop_of_elementwise_steps(of, loops):
    array = jax.ShapeDtypeStruct
    target = array((4,), jnp.int32), array((4, 9), jnp.int32), array((4,), jnp.int32)
    logits, transitions = array((4, 50, 11), jnp.float32), array((11, 11), jnp.float32)
    function = {
        "ctc": lambda x, w, *target: losses.ctc_loss(x, *target),
        "asg": asg.asg_loss,
    }[of]

    def lowered(f):
        return jax.jit(f).trace(logits, transitions, *target).lower(lowering_platforms=("cuda",)).as_text()

    trained = lowered(jax.value_and_grad(lambda *a: function(*a).sum(), argnums=(0, 1)))
    for text, trips in ((trained, 50), (lowered(function), 25)):
        found = bodies(text)
        assert len(found) == text.count("stablehlo.while") == loops
        for body in found:
            assert re.search(rf"dense<{trips}> : tensor<i(32|64)>", body.split("do {")[0])
            assert "exponential" in body
            assert not re.search(r"stablehlo\.(gather|scatter|sort|dot)|dot_general", body)


def test_an_export_for_two_platforms():
    case = batch_of_one(*random_case(0, 9, 3, 4, 1.0))
    exported = jax.export.export(jax.jit(jax.value_and_grad(total)), platforms=("cpu", "cuda"))(*case)
    value, gradient = exported.call(*case)
    expected, expected_gradient = value_and_gradient(*case)
    assert value == pytest.approx(float(expected)) and np.allclose(gradient, expected_gradient)
