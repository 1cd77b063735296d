"""Derivatives of a sum over paths, and which form runs on which platform."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

Function = Callable[..., Any]

# XLA's CPU backend is fast with little memory and matrix products. On other platforms each loop iteration costs a
# kernel or two, however small: there both recursions share one loop over the frames.
CHUNKED_PLATFORMS = ("cpu",)


class Form(NamedTuple):
    """One way to compute a sum over paths, as two functions of the same arguments."""

    score: Function
    """log Σ exp(score) over all paths [B]."""
    counts: Function
    """The same, and its derivatives with respect to the first two arguments: expected counts [B, …]."""


def path_sum(plain: Function, in_chunks: Form, in_one_pass: Form) -> Function:
    """Returns `f(a_BxIxJ, b_BxKxL, *rest)` → log Σ exp(score) [B], differentiable any number of times by `a` and `b`.

    The forms are fast and exact, but JAX cannot differentiate them: bit-casts have no derivative. `plain` is the same
    sum in differentiable operations, slower and less exact; it gives the second derivatives.
    """

    def by_platform(chunked, other):
        # Decided at lowering, so that it works under jit, in shard_map and in an export.
        @jax.custom_jvp
        def either(*arguments):
            return lax.platform_dependent(*arguments, default=other, **dict.fromkeys(CHUNKED_PLATFORMS, chunked))

        return either

    def score_jvp(primals, tangents):
        score_B, *counts = counts_of(*primals)
        moving = [(c, t) for c, t in zip(counts, tangents, strict=False) if not isinstance(t, SymbolicZero)]
        return score_B, sum(((c * t).sum(axis=(1, 2)) for c, t in moving), jnp.zeros_like(score_B))

    def counts_jvp(primals, tangents):
        def slow(a, b):
            score_B, back = jax.vjp(lambda a, b: plain(a, b, *primals[2:]), a, b)
            return score_B, *back(jnp.ones_like(score_B))

        return counts_of(*primals), jax.jvp(slow, primals[:2], tangents[:2])[1]

    score_of = by_platform(in_chunks.score, in_one_pass.score)
    counts_of = by_platform(in_chunks.counts, in_one_pass.counts)
    score_of.defjvp(score_jvp, symbolic_zeros=True)
    counts_of.defjvp(counts_jvp)
    return score_of
