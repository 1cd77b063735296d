"""Muon (Jordan 2024): momentum made orthogonal, for the kernels of layers 1 to 10."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from w2l_jax.model import LAYERS, Layer, Params, layer_name

_STEPS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315


def transformation(adam: optax.GradientTransformation) -> optax.GradientTransformation:
    """Muon on the kernels of layers 1 to 10, `adam` on the biases and the output layer.

    What momentum (0.95, Nesterov's) has gathered is made orthogonal, so that what the data rarely ask for is learned as
    fast as the rest, and scaled as Liu et al. (2025) do, to an update about as large as Adam's: one α serves both.
    """

    def orthogonalised(updates: Params, _: Params | None = None) -> Params:
        return jax.tree.map(lambda x: 0.2 * max(x.size // x.shape[-1], x.shape[-1]) ** 0.5 * orthogonal(x), updates)

    def rule(path: tuple[Any, ...], _: jax.Array) -> str:
        return "muon" if path[-1].key == "kernel" and path[0].key != layer_name(LAYERS) else "adam"

    muon = optax.chain(optax.trace(0.95, nesterov=True), optax.stateless(orthogonalised))
    by_rule = functools.partial(jax.tree_util.tree_map_with_path, rule)
    return optax.multi_transform({"muon": muon, "adam": adam}, by_rule)


def orthogonal(kernel_KxCxD: jax.Array) -> jax.Array:
    """The kernel, as the matrix [K C, D] that it is to a window of its input, with singular values all near 1.

    Five of Jordan's steps x ← a x + b x (xᵀx) + c x (xᵀx)², which bring them between 0.68 and 1.13 unless they are
    below a hundredth of the norm. Each step multiplies x by a polynomial of xᵀx, so that all of them are taken on the
    small Gram matrix: within 1e-3 of `optax.contrib.scale_by_muon` in and, for the included network, a quarter of its
    time on a CPU. Whatever JAX's default precision: rounded to bfloat16 this form would blow small values up.
    """
    product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    matrix = kernel_KxCxD.reshape(-1, kernel_KxCxD.shape[-1])
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix if tall else matrix.T
    x = x / (jnp.linalg.norm(x) + 1e-8)
    gram = product(x.T, x)
    factors = None
    for step in range(_STEPS):
        factor = _A * jnp.eye(len(gram), dtype=x.dtype) + _B * gram + _C * product(gram, gram)
        factors = factor if factors is None else product(factors, factor)
        if step + 1 < _STEPS:
            gram = product(product(factor, gram), factor)
    x = product(x, factors)
    return (x if tall else x.T).reshape(kernel_KxCxD.shape)


def flops(table: Iterable[Layer], frozen: frozenset[int]) -> float:
    """FLOPs of `orthogonal` on the trained kernels of the network `table`: an update's, however many utterances."""
    total = 0.0
    for number, layer in enumerate(table, 1):
        if number < LAYERS and number not in frozen:
            low, high = sorted((layer.kernel * layer.channels_in, layer.channels_out))
            total += 4.0 * high * low**2 + (_STEPS * 2 + (_STEPS - 1) * 6) * low**3
    return total
