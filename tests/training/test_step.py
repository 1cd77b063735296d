"""The update: freezing keeps weights and saves work; microbatches change nothing."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.training_options import train_options
from w2l_jax import freezing, model
from w2l_jax.dataset.batches import Batch
from w2l_jax.model import ModelConfig
from w2l_jax.training import muon
from w2l_jax.training.optimizer import learning_rate_schedule, make_optimizer
from w2l_jax.training.options import AugmentOptions, TrainOptions
from w2l_jax.training.step import StepConfig, init_state, make_step, microbatches, remat_chunks, unfrozen

SMALL = ModelConfig(width=8, top_width=12)
MELS = 6


def random_batch(rows=4, frames=48, labels=5, seed=0):
    rng = np.random.default_rng(seed)
    return Batch(
        jnp.asarray(rng.standard_normal((rows, frames, MELS)), jnp.float16),
        jnp.asarray(rng.integers(frames // 2, frames + 1, rows), jnp.int32),
        jnp.asarray(rng.integers(1, 7, (rows, labels)), jnp.int32),
        jnp.asarray(rng.integers(0, labels + 1, rows), jnp.int32),
    )


def setup(k=0, optimizer=None, **config):
    frozen = frozenset(range(1, k + 1))
    params = model.init(jax.random.key(0), SMALL, 7, MELS)
    before = jax.device_get(params)
    optimizer = optimizer or make_optimizer(TrainOptions(learning_rate=1e-2), frozen)
    step = make_step(optimizer, StepConfig(SMALL, frozen, **config))
    return before, init_state(params, optimizer, frozen), step


@pytest.mark.parametrize("k", [0, 6, 8, 9, 10])
def test_frozen_layers_are_bit_identical_after_20_steps(k):
    before, state, step = setup(k)
    for i in range(20):
        state, _ = step(state, random_batch(seed=i))
    for number in range(1, 12):
        name = model.layer_name(number)
        for leaf in ("kernel", "bias"):
            same = np.asarray(state.params[name][leaf]).tobytes() == before[name][leaf].tobytes()
            assert same == (number <= k), (name, leaf)


def test_a_list_freezes_only_the_listed_layers():
    params = model.init(jax.random.key(0), SMALL, 7, MELS)
    before = jax.device_get(params)
    frozen = freezing.parse_layers("2-3,9")
    optimizer = make_optimizer(TrainOptions(learning_rate=1e-2), frozen)
    state, _ = make_step(optimizer, StepConfig(SMALL, frozen))(init_state(params, optimizer, frozen), random_batch())
    changed = {
        n
        for n in range(1, 12)
        if (before[model.layer_name(n)]["kernel"] != state.params[model.layer_name(n)]["kernel"]).any()
    }
    assert changed == set(range(1, 12)) - {2, 3, 9}


def test_negative_zero_survives_freezing():
    before, state, step = setup(10)
    kernel = jnp.asarray(before["layer_01"]["kernel"]).at[0, 0, 0].set(-0.0)
    state = state.replace(params={**state.params, "layer_01": {**state.params["layer_01"], "kernel": kernel}})
    state, _ = step(state, random_batch())
    assert np.signbit(np.asarray(state.params["layer_01"]["kernel"])[0, 0, 0])


@pytest.mark.parametrize("k", [0, 8])
def test_microbatches_give_the_same_update(k):
    sgd = optax.sgd(1.0)  # the update is the gradient itself; Adam would amplify rounding
    batch = random_batch(rows=8)._replace(label_lengths_B=jnp.array([5, 0, 3, 1, 4, 2, 5, 5]))
    batch = batch._replace(frames_B=batch.frames_B.at[3].set(0))  # infeasible: counted over the whole batch
    _, full, step = setup(k, sgd)
    _, cut, cut_step = setup(k, sgd, max_microbatch_frames=2 * 48)
    full, metrics = step(full, batch)
    cut, cut_metrics = cut_step(cut, batch)
    assert float(metrics["loss"]) == pytest.approx(float(cut_metrics["loss"]), rel=1e-5)
    assert int(metrics["infeasible"]) == int(cut_metrics["infeasible"]) == 1
    assert float(metrics["gradient_norm"]) == pytest.approx(float(cut_metrics["gradient_norm"]), rel=1e-5)
    for a, b in zip(jax.tree.leaves(full.params), jax.tree.leaves(cut.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("k", "limit"), [(0, 0), (9, 0), (3, 2 * 48)])
def test_remat_gives_the_same_update(k, limit):
    sgd = optax.sgd(1.0)
    batch = random_batch(rows=8)._replace(label_lengths_B=jnp.array([5, 0, 3, 1, 4, 2, 5, 5]))
    gradients = []
    for settings in ({}, {"remat": True, "max_microbatch_frames": limit}):
        before, state, step = setup(k, sgd, **settings)
        state, metrics = step(state, batch)
        gradients.append((metrics["loss"], jax.tree.map(lambda a, b: a - b, before, jax.device_get(state.params))))
    (loss, full), (remat_loss, remat) = gradients
    assert float(remat_loss) == pytest.approx(float(loss), rel=1e-5)
    difference = optax.tree.norm(jax.tree.map(lambda a, b: a - b, full, remat))
    assert float(difference) < 1e-5 * float(optax.tree.norm(full))


def test_number_of_chunks_of_remat():
    assert [remat_chunks(rows) for rows in (1, 2, 7, 8, 12, 18, 22, 64)] == [1, 2, 7, 8, 12, 9, 11, 8]


def test_weight_decay_applies_only_to_trained_kernels():
    after = []
    for weight_decay in (0.0, 0.1):
        options = train_options(learning_rate=1e-2, weight_decay=weight_decay)
        before, state, step = setup(8, make_optimizer(options, frozenset(range(1, 9))))
        after.append(jax.device_get(step(state, random_batch())[0].params))
    for name, layer in before.items():
        share = 1e-2 * 0.1 if name in ("layer_09", "layer_10", "layer_11") else 0.0
        plain, decayed = after[0][name], after[1][name]
        np.testing.assert_allclose(plain["kernel"] - decayed["kernel"], share * layer["kernel"], atol=2e-7)
        np.testing.assert_array_equal(plain["bias"], decayed["bias"])


def test_number_of_microbatches():
    assert microbatches(64, 500, 0) == 1
    assert microbatches(64, 500, 64 * 500) == 1
    assert microbatches(64, 500, 64 * 500 - 1) == 2
    assert microbatches(6, 500, 1000) == 3
    assert microbatches(64, 500, 3) == 64


def test_first_update_is_adams():
    """With Adam, the first update is −α · g / (|g| + ε) for each weight of the trained layers only."""
    before, state, step = setup(0, optax.sgd(1.0))
    after, _ = step(state, random_batch())
    gradient = {n: before[n]["kernel"] - np.asarray(after.params[n]["kernel"]) for n in before}
    _, state, step = setup(10, make_optimizer(TrainOptions(), frozenset(range(1, 11))))
    after, _ = step(state, random_batch())
    moved = np.asarray(after.params["layer_11"]["kernel"]) - before["layer_11"]["kernel"]
    g = gradient["layer_11"]
    large = abs(g) > 1e-3
    np.testing.assert_allclose(moved[large], (-1e-4 * g / (abs(g) + 1e-8))[large], rtol=1e-2)


def test_the_optimizer_is_clipping_then_adam_on_the_trained_leaves():
    """Bit for bit the result of optax's own transformations, chained."""
    options = train_options(learning_rate=1e-2, steps=20, decay="cosine", clip_norm=0.5)
    frozen = frozenset(range(1, 9))
    adam = optax.adam(
        learning_rate_schedule(options), options.optimizer.beta1, options.optimizer.beta2, options.optimizer.epsilon
    )
    plain = optax.multi_transform(
        {"frozen": optax.set_to_zero(), "trained": optax.chain(optax.clip_by_global_norm(0.5), adam)},
        lambda params: freezing.labels(params, frozen),
    )
    states = []
    for optimizer in (plain, make_optimizer(options, frozen)):
        _, state, step = setup(8, optimizer)
        for i in range(5):
            state, _ = step(state, random_batch(seed=i))
        states.append(jax.tree.leaves(jax.device_get((state.params, state.opt_state))))
    assert len(states[0]) == len(states[1]) == 22 + 1 + 12 + 1
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*states, strict=True))


def test_muon_orthogonalises_the_update_of_a_kernel():
    """The update has the gradient's singular vectors [K C, D] by NumPy; everything else is Adam's."""
    frozen = frozenset(range(1, 9))
    before, state, step = setup(8, optax.sgd(1.0))
    after, _ = step(state, random_batch())
    found = {}
    for optimizer in ("muon", "adam"):
        options = train_options(learning_rate=1e-2, **{"optimizer.name": optimizer})
        _, state, step = setup(8, make_optimizer(options, frozen))
        found[optimizer] = state, step(state, random_batch())[0]
    for name in ("layer_09", "layer_10"):
        gradient, moved = (
            np.asarray(before[name]["kernel"] - np.asarray(x.params[name]["kernel"]), np.float64)
            for x in (after, found["muon"][1])
        )
        gradient, moved = (x.reshape(-1, x.shape[-1]) for x in (gradient, moved))
        left, values, right = np.linalg.svd(gradient, full_matrices=False)
        between = left.T @ moved @ right.T / (1e-2 * 0.2 * max(moved.shape) ** 0.5)
        large = values > 0.02 * np.linalg.norm(values)
        assert large.sum() >= 4 and values[large].max() > 4 * values[large].min()
        evened = between[np.ix_(large, large)]
        np.testing.assert_allclose(np.diag(evened), 0.9, atol=0.3)  # five steps of Newton and Schulz: 0.68 to 1.13
        np.testing.assert_allclose(evened, np.diag(np.diag(evened)), atol=0.02)
    for name, leaf in [("layer_09", "bias"), ("layer_10", "bias"), ("layer_11", "kernel"), ("layer_11", "bias")]:
        muon, adam = (np.asarray(state.params[name][leaf]) for _, state in found.values())
        np.testing.assert_allclose(muon, adam, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(48, 6, 8), (7, 8, 8), (3, 4, 24), (1, 8, 12), (1, 1, 5), (5, 3, 1)])
@pytest.mark.parametrize("decay", [0, 1, 2])
def test_orthogonal_equals_optaxs(shape, decay):
    """Whatever the singular values: about equal, 1/i or 1/i²."""
    normal = np.random.default_rng(0).standard_normal((shape[0] * shape[1], shape[2]))
    left, values, right = np.linalg.svd(normal, full_matrices=False)
    values *= np.arange(1.0, len(values) + 1) ** -decay
    x = jnp.asarray((left * values @ right).reshape(shape), jnp.float32)
    numbers = optax.contrib.MuonDimensionNumbers((0, 1), 2)
    library = optax.contrib.scale_by_muon(beta=0.0, nesterov=False, weight_dimension_numbers=numbers)
    # For small values, rounding of the Gram matrix (1e-7 of its norm) grows by 3.44² in each of four steps.
    np.testing.assert_allclose(muon.orthogonal(x), library.update(x, library.init(x))[0], atol=1e-3)
    assert not muon.orthogonal(jnp.zeros(shape)).any()


def test_orthogonal_uses_full_precision_products():
    """With the default precision of a GPU or TPU, small singular values would grow without bound."""
    highest = jax.lax.Precision.HIGHEST
    found = [e.params["precision"] for e in all_equations(jax.make_jaxpr(muon.orthogonal)(jnp.ones((7, 8, 8))))]
    assert found and set(found) == {(highest, highest)}


def all_equations(jaxpr):
    """The matrix products, also within jitted functions."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for inner in equation.params.values():
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from all_equations(getattr(inner, "jaxpr", inner))


def test_muons_flops_match_the_compilers_count():
    table = model.layers(ModelConfig(width=40, top_width=60), 7, 30)
    compiled = 0.0
    for layer in table[3:10]:
        kernel = jax.ShapeDtypeStruct((layer.kernel, layer.channels_in, layer.channels_out), jnp.float32)
        cost = jax.jit(muon.orthogonal).lower(kernel).compile().cost_analysis()
        compiled += (cost[0] if isinstance(cost, list) else cost)["flops"]
    assert muon.flops(table, frozenset({1, 2, 3})) == pytest.approx(compiled, rel=0.03)
    assert muon.flops(table, frozenset(range(1, 11))) == 0


def test_muon_stores_one_moment_per_kernel_and_survives_unfreezing():
    options, frozen, none = (
        train_options(learning_rate=1e-2, **{"optimizer.name": "muon"}),
        frozenset(range(1, 9)),
        frozenset(),
    )
    before, state, step = setup(8, make_optimizer(options, frozen))
    sizes = {name: {leaf: x.size for leaf, x in layer.items()} for name, layer in before.items()}
    kept = [sizes[f"layer_{n:02}"]["kernel"] for n in (9, 10)] + [2 * sizes[f"layer_{n:02}"]["bias"] for n in (9, 10)]
    assert sum(x.size for x in jax.tree.leaves(state.opt_state) if x.size > 3) == sum(kept) + 2 * sum(
        sizes["layer_11"].values()
    )
    for i in range(3):
        state, _ = step(state, random_batch(seed=i))
    old = jax.device_get(state.opt_state[1].inner_states["trained"])
    second = make_optimizer(options, none, frozen)
    state = unfrozen(state, second)
    jax.tree.map(np.testing.assert_array_equal, old, jax.device_get(state.opt_state[1].inner_states["trained"]))
    params = jax.device_get(state.params)
    state, _ = make_step(second, StepConfig(SMALL, none))(state, random_batch(seed=3))
    for name, layer in params.items():
        moved = np.abs(np.asarray(state.params[name]["kernel"]) - layer["kernel"])
        assert 1e-4 < np.sqrt(np.mean(moved**2)) < 1.01e-2, name


def test_muon_with_asg_and_weight_decay():
    """Transitions get Adam's updates without decay, kernels Muon's with decay, frozen layers none."""
    params = {**model.init(jax.random.key(0), SMALL, 7, MELS), "transitions": {"scores": jnp.ones((7, 7))}}
    gradient = jax.tree.map(lambda x: jax.random.normal(jax.random.key(1), x.shape), params)

    def updates(**changes):
        optimizer = make_optimizer(train_options(learning_rate=1e-2, loss="asg", **changes), frozenset(range(1, 9)))
        return optimizer.update(gradient, optimizer.init(params), params)[0]

    adam, plain, decayed = updates(), updates(name="muon"), updates(name="muon", weight_decay=0.1)
    for found in (plain, decayed):
        np.testing.assert_allclose(found["transitions"]["scores"], adam["transitions"]["scores"], rtol=1e-6)
        assert not any(np.any(found[f"layer_{n:02}"]["kernel"]) for n in range(1, 9))
    share = plain["layer_09"]["kernel"] - decayed["layer_09"]["kernel"]
    np.testing.assert_allclose(share, 1e-3 * params["layer_09"]["kernel"], atol=1e-7)


def adam_by_hand(m, v, count, gradient, rate):
    """One update of Kingma & Ba's algorithm 1 in float64: the step and the new moments."""
    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * np.square(gradient)
    return -rate * (m / (1 - 0.9**count)) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8), m, v


def test_unfrozen_layers_get_fresh_adam_state_and_others_keep_theirs():
    options = train_options(learning_rate=1e-2, steps=20, decay="linear", clip_norm=0.5)
    frozen, none = frozenset(range(1, 9)), frozenset()
    optimizer = make_optimizer(options, frozen)
    before, state, step = setup(8, optimizer)
    for i in range(5):
        state, _ = step(state, random_batch(seed=i))
    assert sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim) == 2 * sum(
        before[model.layer_name(n)][leaf].size for n in (9, 10, 11) for leaf in ("kernel", "bias")
    )
    old_adam = jax.device_get(state.opt_state[1].inner_states["trained"].inner_state)
    second = make_optimizer(options, none, frozen)
    state = unfrozen(state, second)
    assert int(state.step) == 5
    new_adam = state.opt_state[1].inner_states["trained"].inner_state
    jax.tree.map(np.testing.assert_array_equal, old_adam, jax.device_get(new_adam))
    params = jax.device_get(state.params)

    # The gradient of the next update, from plain gradient descent, clipped by the norm over all layers.
    batch = random_batch(seed=5)
    descent, plain = setup(0, optax.sgd(1.0))[1:]
    moved, metrics = plain(descent.replace(params=jax.tree.map(jnp.array, params), step=jnp.int32(5)), batch)
    scale = 0.5 / float(metrics["gradient_norm"])
    assert scale < 1
    gradient = jax.tree.map(lambda a, b: (a.astype(np.float64) - np.asarray(b)) * scale, params, dict(moved.params))
    state, metrics = make_step(second, StepConfig(SMALL, none))(state, batch)
    rate = 1e-2 * (1 - 5 / 20)  # the schedule continues for all
    for number in range(1, 12):
        name = model.layer_name(number)
        moments = state.opt_state[1].inner_states["late" if number <= 8 else "trained"].inner_state
        g = gradient[name]["kernel"]
        delta = np.asarray(state.params[name]["kernel"], np.float64) - params[name]["kernel"]
        if number <= 8:
            expected, m, _ = adam_by_hand(0.0, 0.0, 1, g, rate)
            large = abs(g) > 1e-5
            assert large.any() and abs(delta[large]) == pytest.approx(rate, rel=1e-2)
        else:
            expected, m, _ = adam_by_hand(old_adam.mu[name]["kernel"], old_adam.nu[name]["kernel"], 6, g, rate)
            large = abs(g) > 1e-5
        assert int(moments.count) == (1 if number <= 8 else 6)
        np.testing.assert_allclose(delta[large], expected[large], rtol=2e-2, atol=1e-6)
        np.testing.assert_allclose(moments.mu[name]["kernel"], m, rtol=1e-3, atol=1e-6)


def test_the_logged_and_clipped_norm_covers_only_trained_layers():
    gradients = {}
    for k in (0, 8):
        before, state, step = setup(k, optax.sgd(1.0))
        state, metrics = step(state, random_batch())
        delta = jax.tree.map(lambda a, b: a - np.asarray(b), before, jax.device_get(state.params))
        assert float(metrics["gradient_norm"]) == pytest.approx(float(optax.tree.norm(delta)), rel=1e-4)
        gradients[k] = float(metrics["gradient_norm"])
    assert gradients[8] < gradients[0]
    clip_norm = 0.5
    before, state, step = setup(8, optax.chain(optax.clip_by_global_norm(clip_norm), optax.sgd(1.0)))
    state, metrics = step(state, random_batch())
    delta = jax.tree.map(lambda a, b: a - np.asarray(b), before, jax.device_get(state.params))
    assert float(metrics["gradient_norm"]) == pytest.approx(gradients[8], rel=1e-5)
    assert float(optax.tree.norm(delta)) == pytest.approx(0.5, rel=1e-4)


def test_updates_with_non_finite_gradients_are_skipped():
    _, state, step = setup(k=8)
    state, metrics = step(state, random_batch())
    assert metrics["skipped"] == 0
    before = jax.device_get(state)
    bad = random_batch(seed=1)
    state, metrics = step(state, bad._replace(features_BxTxM=bad.features_BxTxM.at[0, 3, 2].set(jnp.inf)))
    assert metrics["skipped"] == 1 and state.step == 2
    jax.tree.map(np.testing.assert_array_equal, (before.params, before.opt_state), (state.params, state.opt_state))
    state, metrics = step(state, random_batch(seed=2))
    assert metrics["skipped"] == 0 and np.isfinite(metrics["gradient_norm"])


def test_the_average_decays_at_the_requested_rate():
    frozen = frozenset(range(1, 9))
    params = model.init(jax.random.key(0), SMALL, 7, MELS)
    optimizer = make_optimizer(TrainOptions(learning_rate=1e-2), frozen)
    state = init_state(params, optimizer, frozen, average=True)
    step = make_step(optimizer, StepConfig(SMALL, frozen, average_decay=0.5))
    mean = np.asarray(params["layer_10"]["kernel"], np.float64)
    for i in range(20):
        state, _ = step(state, random_batch(seed=i))
        decay = min(0.5, (1 + i) / (10 + i))
        mean = decay * mean + (1 - decay) * np.asarray(state.params["layer_10"]["kernel"], np.float64)
    assert set(state.average) == {"layer_09", "layer_10", "layer_11"}
    np.testing.assert_allclose(state.best_params["layer_10"]["kernel"], mean, atol=1e-6)
    assert not np.allclose(state.params["layer_10"]["kernel"], mean, atol=1e-3)
    assert state.best_params["layer_08"] is state.params["layer_08"]


def test_after_unfreezing_the_average_covers_every_layer():
    options = TrainOptions(learning_rate=1e-2)
    frozen, none = frozenset(range(1, 9)), frozenset()
    params = model.init(jax.random.key(0), SMALL, 7, MELS)
    optimizer, second = make_optimizer(options, frozen), make_optimizer(options, none, frozen)
    state = init_state(params, optimizer, frozen, average=True)
    state, _ = make_step(optimizer, StepConfig(SMALL, frozen, average_decay=0.5))(state, random_batch())
    mean_10 = np.asarray(state.average["layer_10"]["kernel"])
    state = unfrozen(state, second)
    np.testing.assert_array_equal(state.average["layer_10"]["kernel"], mean_10)
    mean = np.asarray(state.params["layer_02"]["kernel"], np.float64)
    step = make_step(second, StepConfig(SMALL, none, average_decay=0.5))
    for i in range(1, 6):
        state, _ = step(state, random_batch(seed=i))
        decay = min(0.5, (1 + i) / (10 + i))
        mean = decay * mean + (1 - decay) * np.asarray(state.params["layer_02"]["kernel"], np.float64)
    assert set(state.average) == set(state.params)
    np.testing.assert_allclose(state.best_params["layer_02"]["kernel"], mean, atol=1e-6)


def test_learning_rate_over_time():
    constant = learning_rate_schedule(TrainOptions())
    assert float(constant(0)) == float(constant(10**6)) == pytest.approx(1e-4)
    rate = learning_rate_schedule(train_options(learning_rate=1.0, warmup_steps=10, steps=110, decay="linear"))
    assert 0 < float(rate(0)) < 0.1 and float(rate(10)) == pytest.approx(1.0)
    assert float(rate(60)) == pytest.approx(0.5) and float(rate(110)) == pytest.approx(0.0)
    cosine = learning_rate_schedule(train_options(learning_rate=1.0, steps=100, decay="cosine"))
    assert float(cosine(50)) == pytest.approx(0.5)


def test_augmentation_depends_only_on_the_step():
    batch = random_batch()
    augment = AugmentOptions(frequency_masks=1, frequency_width=3, time_masks=1, time_width=9)
    losses = []
    for _ in range(2):
        _, state, step = setup(0, optax.sgd(0.0), augment=augment)
        state, first = step(state, batch)
        state, second = step(state, batch)
        losses.append((float(first["loss"]), float(second["loss"])))
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what XLA makes of loops on a CPU")
@pytest.mark.parametrize("settings", [{"max_microbatch_frames": 320}, {"remat": True}])
def test_convolutions_in_loops_have_the_form_that_is_fast_on_a_cpu(settings):
    """XLA does not transpose inside loops, and any other form takes its generic code, 50 times as slow."""
    optimizer = make_optimizer(TrainOptions(), frozenset())
    state = init_state(model.init(jax.random.key(0), SMALL, 7, 6), optimizer, frozenset())
    step = make_step(optimizer, StepConfig(SMALL, **settings))
    program = step.lower(state, random_batch(rows=8, frames=160)).compile().as_text()
    forms = re.findall(r" convolution\(.*?dim_labels=(\S+?),", program)
    assert len(forms) >= 9 * 3 - 1 and set(forms) == {"b0f_0io->b0f"}
    assert " while(" in program
