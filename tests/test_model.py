import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2l_jax import model
from w2l_jax.model import ModelConfig

SMALL = ModelConfig(width=12, top_width=16)
PARAMS = jax.device_get(model.init(jax.random.key(1), SMALL, outputs=7, mels=10))

APPLY = jax.jit(model.apply, static_argnums=3, static_argnames=("first", "last", "precision", "unfold"))


def run(features_BxTxM, frames_B, **options):
    return np.asarray(APPLY(PARAMS, jnp.asarray(features_BxTxM), jnp.asarray(frames_B), SMALL, **options))


@pytest.mark.parametrize(("outputs", "total"), [(29, 24_662_529), (33, 24_670_533)])
def test_parameter_counts_are_the_papers(outputs, total):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), ModelConfig(), outputs))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == total
    counts = [layer.parameters for layer in model.layers(ModelConfig(), outputs)]
    assert counts[:10] == [1_536_250] + [437_750] * 7 + [16_002_000, 4_002_000]
    assert counts[10] == {29: 58_029, 33: 66_033}[outputs]


def test_initialisation_is_the_papers():
    params = model.init(jax.random.key(0), ModelConfig(), 29)
    for layer in model.layers(ModelConfig(), 29):
        kernel, bias = params[layer.name]["kernel"], params[layer.name]["bias"]
        limit = np.sqrt(6 / (layer.kernel * (layer.channels_in + layer.channels_out)))  # Glorot & Bengio 2010, eq. 16
        assert abs(kernel).max() <= np.float32(limit)
        assert abs(float(kernel.std()) - limit / np.sqrt(3)) < 0.02 * limit
        assert not bias.any()


def test_receptive_field_is_194_frames_and_real():
    before, after = model.receptive_field()
    assert (before, after, before + 1 + after) == (95, 98, 194)
    frames, middle = 600, 300
    x = np.zeros((1, frames, 10), np.float32)
    x[0, middle] = 1
    changed = run(x, [frames])[0] - run(np.zeros_like(x), [frames])[0]
    touched = np.flatnonzero(abs(changed).sum(axis=1))
    # Output s sees inputs 2s − 95 … 2s + 98, so input 300 can touch s = 101 … 197.
    assert touched.min() == -(-(middle - after) // 2)
    assert touched.max() == (middle + before) // 2


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=3), st.integers(0, 40), st.integers(0, 2**31 - 1), st.booleans(),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_padding_and_batch_mates_change_nothing(lengths, extra, seed, long_mate, unfold):
    """The bound on padding, on log-probabilities: 1e-5 · max(1, max|logit|) at highest precision."""
    rng = np.random.default_rng(seed)
    utterances = [rng.standard_normal((n, 10)).astype(np.float32) * 3 for n in lengths]
    if long_mate:
        utterances.append(rng.standard_normal((131, 10)).astype(np.float32) * 30)
    size = max(map(len, utterances)) + extra
    batch = np.full((len(utterances), size, 10), 7.5, np.float32)  # padding is not even zero
    for row, item in enumerate(utterances):
        batch[row, : len(item)] = item
    together = run(batch, [len(u) for u in utterances], precision="highest", unfold=unfold)
    for row, item in enumerate(utterances):
        alone = run(item[None], [len(item)], precision="highest", unfold=unfold)[0]
        bound = 1e-5 * max(1, abs(alone).max())
        padded = together[row, : len(alone)]
        assert abs(jax.nn.log_softmax(alone) - jax.nn.log_softmax(padded)).max() <= bound
        assert not together[row, len(alone) :].any()


@pytest.mark.parametrize("frames", [1, 2, 77, 78])
@pytest.mark.parametrize("k", [1, 5, 8, 10])
def test_a_range_of_layers_continues_another(frames, k):
    x = np.random.default_rng(0).standard_normal((2, 80, 10)).astype(np.float32)
    lengths = np.array([frames, 80])
    full = run(x, lengths)
    part = run(run(x, lengths, last=k), lengths, first=k + 1)
    assert full.shape == (2, 40, 7)
    np.testing.assert_allclose(full, part, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_unfolded_layer_9_equals_the_convolution_with_its_gradients(dtype):
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 90, 10), (3, 45, 7)))
    frames = jnp.array([90, 61, 2])

    def score(params, x, unfold):
        logits = model.apply(params, x, frames, SMALL, unfold=unfold, precision="highest", dtype=jnp.dtype(dtype))
        return (logits * weight).sum(), logits

    (_, plain), expected = jax.value_and_grad(score, argnums=(0, 1), has_aux=True)(PARAMS, x, False)
    (_, unfolded), found = jax.value_and_grad(score, argnums=(0, 1), has_aux=True)(PARAMS, x, True)
    close = 1e-5 if dtype == "float32" else 2e-2
    for a, b in zip(jax.tree.leaves((unfolded, found)), jax.tree.leaves((plain, expected)), strict=True):
        assert abs(a - b).max() <= close * max(1, abs(b).max())
    assert abs(expected[0]["layer_09"]["kernel"]).max() > 0.1


def test_output_frames():
    assert [model.output_frames(t) for t in (1, 2, 3, 4)] == [1, 1, 2, 2]


def test_variants():
    x, n = jnp.ones((1, 20, 10)), jnp.array([20])
    elu = ModelConfig(width=12, top_width=16, activation="elu")
    assert not np.allclose(model.apply(PARAMS, x, n, elu), run(x, n))
    assert model.apply(PARAMS, x, n, SMALL, dtype=jnp.bfloat16).dtype == jnp.float32
    dropped = ModelConfig(width=12, top_width=16, dropout=0.5)
    np.testing.assert_array_equal(model.apply(PARAMS, x, n, dropped), run(x, n))
    assert not np.allclose(model.apply(PARAMS, x, n, dropped, dropout_rng=jax.random.key(0)), run(x, n))


def test_dropout_differs_by_layer_but_not_by_the_first_layer_of_a_call():
    """Kernels that copy their input: a zero at the end was dropped in some layer."""
    wide = ModelConfig(width=200, top_width=4, dropout=0.5)
    params = {
        layer.name: {
            "kernel": np.zeros((layer.kernel, layer.channels_in, layer.channels_out), np.float32),
            "bias": np.zeros(layer.channels_out, np.float32),
        }
        for layer in model.layers(wide, 7, 200)
    }
    for number in range(1, 9):
        kernel = params[model.layer_name(number)]["kernel"]
        kernel[(len(kernel) - (2 if number == 1 else 1)) // 2] = np.eye(200)
    x, frames, rng = np.ones((1, 40, 200), np.float32), np.array([40]), jax.random.key(3)
    kept = {}
    for number in range(2, 9):
        out = model.apply(params, x[:, :20], frames, wide, first=number, last=number, dropout_rng=rng)
        kept[number] = np.asarray(out[0]) > 0
    for one, other in itertools.combinations(kept.values(), 2):
        assert 0.15 < (one & other).mean() < 0.35  # with two equal masks it would be a half
    full = model.apply(params, x, frames, wide, last=8, dropout_rng=rng)
    part = model.apply(params, x, frames, wide, last=4, dropout_rng=rng)
    np.testing.assert_array_equal(full, model.apply(params, part, frames, wide, first=5, last=8, dropout_rng=rng))


def test_he_initialisation_preserves_the_variance():
    x = jax.random.normal(jax.random.key(3), (2, 200, 128))
    scale = {}
    for name in ("xavier_uniform", "he_uniform"):
        config = ModelConfig(width=128, top_width=32, initializer=name)
        params = model.init(jax.random.key(0), config, 29)
        frames = jnp.array([200, 200])
        first, last = (model.apply(params, x, frames, config, last=k)[:, 40:60] for k in (2, 8))
        scale[name] = float(jnp.square(last).mean() / jnp.square(first).mean())
    assert scale["xavier_uniform"] < 2 * 0.5**6 < 0.5 < scale["he_uniform"]


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="not a range"):
        run(np.zeros((1, 4, 10)), [4], first=3, last=2)


def total(params, x, frames):
    return jnp.square(model.apply(params, x, frames, SMALL, precision="highest")).sum()


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_forward_mode(monkeypatch, backend):
    """With respect to parameters and features, against central differences and reverse mode; in a loop, too."""
    x = jax.random.normal(jax.random.key(0), (2, 20, 10), jnp.float32)
    frames, config = jnp.array([20, 13]), dataclasses.replace(SMALL, activation="elu")  # smooth
    at = PARAMS, x
    change = jax.tree.map(lambda leaf: 0.03 * jax.random.normal(jax.random.key(leaf.size), leaf.shape, leaf.dtype), at)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)

    def value(at):
        return jnp.square(model.apply(*at, frames, config, precision="highest")).sum()

    def along(t):
        return value(jax.tree.map(lambda a, b: a + t * b, at, change))

    expected = float(along(0.03) - along(-0.03)) / 0.06
    slope = float(jax.jvp(value, (at,), (change,))[1])
    assert slope == pytest.approx(expected, rel=3e-3)
    gradient = jax.grad(value)(at)
    products = jax.tree.map(jnp.vdot, gradient, change)
    assert slope == pytest.approx(float(sum(jax.tree.leaves(products))), rel=1e-4)
    assert float(jax.linearize(value, at)[1](change)) == pytest.approx(slope, rel=1e-5)
    assert float(jax.jacfwd(along)(0.0)) == pytest.approx(slope, rel=1e-5)
    looped = jax.jvp(lambda at: jax.lax.map(lambda _: value(at), jnp.arange(2)).sum(), (at,), (change,))[1]
    assert float(looped) == pytest.approx(2 * slope, rel=1e-5)
    twice = jax.jvp(jax.grad(along), (0.0,), (1.0,))[1]  # a second derivative, against differences of the first
    assert float(twice) == pytest.approx(float(jax.grad(along)(1e-3) - jax.grad(along)(-1e-3)) / 2e-3, rel=5e-3)


@pytest.mark.parametrize("shape", [(2, 0, 10), (0, 6, 10)])
def test_no_frames_and_no_utterances(shape):
    frames = jnp.zeros(shape[0], int)
    assert model.apply(PARAMS, jnp.ones(shape), frames, SMALL).shape == (shape[0], shape[1] // 2, 7)
    gradient = jax.grad(total)(PARAMS, jnp.ones(shape), frames)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))


X, N = np.zeros((2, 6, 10), np.float32), np.array([6, 5])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((PARAMS, X, [6, 5]), {}, r"frames_B .*\[B\] with B = 2, not a list"),
        ((PARAMS, X[0], N), {}, r"features_BxTxM .*\[B, T, M\] with M = 10, not float32 \[6, 10\]"),
        ((PARAMS, X[..., :9], N), {}, r"features_BxTxM .*M = 10"),
        ((PARAMS, X, N[:1]), {}, r"frames_B .*B = 2"),
        ((PARAMS, X, N * 1.0), {}, r"frames_B .*integer"),
        ((PARAMS, X, N + 1), {}, r"frames_B must be in 0 … 6 .*, not 7"),
        (({"layer_01": PARAMS["layer_01"]}, X, N), {}, r"params must hold .* lacks layer_02"),
        (({**PARAMS, "layer_02": PARAMS["layer_09"]}, X, N), {}, "params do not fit config: layer_02"),
        ((PARAMS, X, N), {"first": 2, "last": 3}, "features_BxTxM .*M = 12"),
    ],
)
def test_wrong_arguments(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        model.apply(*arguments, SMALL, **options)


def test_wrong_sizes():
    with pytest.raises(ValueError, match=r"outputs must be .* 2, not 1"):
        model.init(jax.random.key(0), SMALL, 1)
    with pytest.raises(ValueError, match=r"mels must be .* 1, not 0"):
        model.init(jax.random.key(0), SMALL, 7, 0)
