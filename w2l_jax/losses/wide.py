"""Positive numbers with float32 precision and any exponent, and one step of a left-to-right chain in them.

A path's weight is a product of thousands of probabilities: it underflows float32, and its logarithm is too large to
keep the digits that separate two paths. So a weight is a float32 mantissa and an int32 exponent: full relative
precision at any size, and no logarithm inside a recursion. Bit-casts have no derivative; `path_sum` defines it.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# The exponent of zero: sums of a few of these, and of all frames' exponents, stay within int32.
NEVER = -(2**29)
# log(2) in two parts; the first has so few digits that its product with an exponent is exact (Cody and Waite).
_LOG2 = (0.693359375, -2.12194440e-4)


class Wide(NamedTuple):
    """mantissa · 2^exponent, elementwise, never 0: a mantissa is at least 0.7 and a zero has the exponent NEVER."""

    mantissa: jax.Array
    exponent: jax.Array

    @staticmethod
    def exp(log: jax.Array) -> "Wide":
        """e^log of float32 logarithms."""
        log = jnp.maximum(log, NEVER * math.log(2))
        exponent = jnp.round(log / math.log(2))
        rest = (log - exponent * _LOG2[0]) - exponent * _LOG2[1]
        return Wide(jnp.exp(jnp.clip(rest, -0.35, 0.35)), exponent.astype(jnp.int32))

    def times(self, other: "Wide") -> "Wide":
        """The product."""
        bits = lax.bitcast_convert_type(self.mantissa * other.mantissa, jnp.int32)
        mantissa = lax.bitcast_convert_type((bits & 0x7FFFFF) | 0x3F800000, jnp.float32)
        return Wide(mantissa, jnp.maximum(self.exponent + other.exponent + (bits >> 23) - 127, NEVER))

    def shares(self) -> tuple[jax.Array, jax.Array]:
        """The logarithm [...] of the sum over the last axis, and each number's share of it [..., N]."""
        top = self.exponent.max(axis=-1, keepdims=True)
        terms = self.mantissa * _power_of_two(self.exponent - top)
        total = terms.sum(axis=-1, keepdims=True)
        log = jnp.log(total) + top.astype(jnp.float32) * math.log(2)
        return log[..., 0], terms / total


def choose(condition: jax.Array, yes: Wide, no: Wide) -> Wide:
    """Elementwise `yes` or `no`."""
    return Wide(*(jnp.where(condition, a, b) for a, b in zip(yes, no, strict=True)))


def shift(x: jax.Array, by: int, fill: float = 0) -> jax.Array:
    """Moves the last axis `by` places to the right (negative: to the left)."""
    right, left = max(by, 0), max(-by, 0)
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(right, left)], constant_values=fill)
    return padded[..., left : left + x.shape[-1]]


def arrivals(before: Wide, moves: Wide) -> tuple[list[jax.Array], Wide]:
    """The weights arriving in each state [..., N] by each move [D, ..., N], scaled by 2^−(the sum's exponent); the sum.

    Move d comes from d states before.
    """
    steps = range(len(moves.exponent))
    exponents = [shift(before.exponent, d, NEVER) + moves.exponent[d] for d in steps]
    top = functools.reduce(jnp.maximum, exponents)
    mantissas = [shift(before.mantissa, d, 1) * moves.mantissa[d] for d in steps]
    terms = [m * _power_of_two(e - top) for m, e in zip(mantissas, exponents, strict=True)]
    return terms, Wide(sum(terms), top)


def _power_of_two(exponent: jax.Array) -> jax.Array:
    """2^exponent in float32 for exponents up to 0; 0 below float32's range."""
    return lax.bitcast_convert_type((jnp.maximum(exponent, -127) + 127) << 23, jnp.float32)
