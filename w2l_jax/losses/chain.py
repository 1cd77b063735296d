"""The sum over all ways through a left-to-right chain of states: what CTC and ASG have in common.

A way's weight is a product of thousands of probabilities: far below what float32 can hold, and its logarithm is too
large to keep the digits that tell two ways apart. So a weight is kept as a float32 mantissa and an int32 exponent:
full relative precision at any size, and neither logarithm nor exponential inside the recursion.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# The exponent of zero: sums of a few of these, and of all frames' exponents, stay within int32.
_NEVER = -(2**29)
# log(2) in two parts; the first has so few digits that its product with an exponent is exact (Cody and Waite).
_LOG2 = (0.693359375, -2.12194440e-4)

_HALVED = 16  # utterances of a batch that goes through in two halves


class _Wide(NamedTuple):
    """mantissa · 2^exponent, elementwise, never 0: a mantissa is at least 0.7 and a zero has the exponent _NEVER."""

    mantissa: jax.Array
    exponent: jax.Array

    @staticmethod
    def exp(log: jax.Array) -> "_Wide":
        log = jnp.maximum(log, _NEVER * math.log(2))
        exponent = jnp.round(log / math.log(2))
        rest = (log - exponent * _LOG2[0]) - exponent * _LOG2[1]
        return _Wide(jnp.exp(jnp.clip(rest, -0.35, 0.35)), exponent.astype(jnp.int32))

    def log(self) -> jax.Array:
        return jnp.log(self.mantissa) + self.exponent * math.log(2)

    def times(self, other: "_Wide") -> "_Wide":
        bits = lax.bitcast_convert_type(self.mantissa * other.mantissa, jnp.int32)
        mantissa = lax.bitcast_convert_type((bits & 0x7FFFFF) | 0x3F800000, jnp.float32)
        return _Wide(mantissa, jnp.maximum(self.exponent + other.exponent + (bits >> 23) - 127, _NEVER))


def _power_of_two(exponent: jax.Array) -> jax.Array:
    """2^exponent in float32 for exponents up to 0; 0 below float32's range."""
    return lax.bitcast_convert_type((jnp.maximum(exponent, -127) + 127) << 23, jnp.float32)


def _shift(x_BxN: jax.Array, by: int, fill: float = 0) -> jax.Array:
    """Moves the states `by` places to the right (negative: to the left)."""
    right, left = max(by, 0), max(-by, 0)
    padded = jnp.pad(x_BxN, ((0, 0), (right, left)), constant_values=fill)
    return padded[:, left : left + x_BxN.shape[1]]


def _arrivals(alpha_BxN: _Wide, moves_DxBxN: _Wide) -> tuple[list[jax.Array], _Wide]:
    """What comes into each state over each move, in units of 2^(the sum's exponent), and its sum."""
    came = range(len(moves_DxBxN.exponent))
    exponents = [_shift(alpha_BxN.exponent, d, _NEVER) + moves_DxBxN.exponent[d] for d in came]
    top = functools.reduce(jnp.maximum, exponents)
    mantissas = [_shift(alpha_BxN.mantissa, d, 1) * moves_DxBxN.mantissa[d] for d in came]
    terms = [m * _power_of_two(e - top) for m, e in zip(mantissas, exponents, strict=True)]
    return terms, _Wide(sum(terms), top)


def _advance(alpha_BxN: _Wide, emission_BxV: _Wide, valid_Bx1: jax.Array, states_BxN: jax.Array, moves: _Wide) -> _Wide:
    emission_BxN = _Wide(*(jnp.take_along_axis(x, states_BxN, axis=1) for x in emission_BxV))
    new = _arrivals(alpha_BxN, moves)[1].times(emission_BxN)
    return _Wide(*(jnp.where(valid_Bx1, n, o) for n, o in zip(new, alpha_BxN, strict=True)))


def _chunks(emissions_SxBxV: jax.Array, frames_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Emissions [C, K, B, V] and validity [C, K, B, 1] of √S chunks of √S frames."""
    S, B, V = emissions_SxBxV.shape
    K = max(math.isqrt(S), 1)
    C = -(-S // K)
    padded = jnp.pad(emissions_SxBxV, ((0, C * K - S), (0, 0), (0, 0)))
    valid = jnp.arange(C * K)[:, None] < frames_B
    return padded.reshape(C, K, B, V), valid.reshape(C, K, B, 1)


def _forward(emissions_SxBxV, frames_B, states_BxN, moves_DxBxN, ends_BxN):
    moves = _Wide.exp(moves_DxBxN)

    def frame(alpha: _Wide, x):
        emission_BxV, valid_Bx1 = x
        return _advance(alpha, emission_BxV, valid_Bx1, states_BxN, moves), None

    def chunk(alpha: _Wide, x):
        emissions_KxBxV, valid_KxBx1 = x
        return lax.scan(frame, alpha, (_Wide.exp(emissions_KxBxV), valid_KxBx1))[0], alpha

    first = jnp.zeros_like(states_BxN).at[:, 1:].set(_NEVER)
    start = _Wide(jnp.ones_like(moves.mantissa[0]), first)
    alpha, starts_CxBxN = lax.scan(chunk, start, _chunks(emissions_SxBxV, frames_B))
    exponents = jnp.where(ends_BxN, alpha.exponent, 2 * _NEVER)
    top = exponents.max(axis=1, keepdims=True)
    terms = alpha.mantissa * _power_of_two(exponents - top)
    total = terms.sum(axis=1, keepdims=True)
    return _Wide(total, top).log()[:, 0], starts_CxBxN, terms / total


def chain_score(
    emissions_SxBxV: jax.Array,
    frames_B: jax.Array,
    states_BxN: jax.Array,
    moves_DxBxN: jax.Array,
    ends_BxN: jax.Array,
) -> jax.Array:
    """log Σ exp(score) [B] over all ways through a chain of N states, one state per frame.

    A way's score is the sum of `emissions[s, b, states[b, n]]` of its states n and of `moves[d, b, n]` for coming
    into state n from state n − d (float32, −∞ rules a move out). Before the first frame a way is in state 0, without
    emission; it must be in one of `ends` after frame `frames` − 1. Differentiable by emissions and moves: the
    gradients are the expected counts (Graves et al. 2006, eq. 14 to 16). The states' weights are stored once in √S
    frames and computed again in between, so that memory grows with √S · N.
    """
    # One frame is too little work for two cores, but XLA's CPU runs two independent loops side by side; they take
    # longer to compile, which few utterances do not earn back. Several devices share the batch already, and must not
    # exchange it.
    rows = frames_B.shape[0]
    half = rows // 2 if rows >= _HALVED and jax.default_backend() == "cpu" and jax.device_count() == 1 else 0
    scores = [
        _chain_score(emissions_SxBxV[:, part], frames_B[part], states_BxN[part], moves_DxBxN[:, part], ends_BxN[part])
        for part in ((slice(half), slice(half, None)) if half else (slice(None),))
    ]
    return jnp.concatenate(scores)


@jax.custom_vjp
def _chain_score(emissions_SxBxV, frames_B, states_BxN, moves_DxBxN, ends_BxN):
    return _forward(emissions_SxBxV, frames_B, states_BxN, moves_DxBxN, ends_BxN)[0]


def _chain_forward(emissions_SxBxV, frames_B, states_BxN, moves_DxBxN, ends_BxN):
    score_B, starts_CxBxN, occupancy_BxN = _forward(emissions_SxBxV, frames_B, states_BxN, moves_DxBxN, ends_BxN)
    return score_B, (starts_CxBxN, occupancy_BxN, emissions_SxBxV, frames_B, states_BxN, moves_DxBxN)


def _chain_backward(saved, cotangent_B):
    starts_CxBxN, occupancy_BxN, emissions_SxBxV, frames_B, states_BxN, moves_DxBxN = saved
    S, B, V = emissions_SxBxV.shape
    moves = _Wide.exp(moves_DxBxN)
    one_hot_BxNxV = jax.nn.one_hot(states_BxN, V)

    def forth(alpha: _Wide, x):
        emission_BxV, valid_Bx1 = x
        return _advance(alpha, emission_BxV, valid_Bx1, states_BxN, moves), alpha

    def back(carry, x):
        occupancy_BxN, counts_DxBxN = carry
        before_BxN, valid_Bx1 = x
        terms, total = _arrivals(before_BxN, moves)
        # Where a way was, given where it is: shares of what came in. They need no second recursion over weights,
        # and what underflows here has no probability.
        each = jnp.where(valid_Bx1, occupancy_BxN, 0.0) / total.mantissa
        flows = [each * term for term in terms]
        came_from = sum(_shift(flow, -d) for d, flow in enumerate(flows))
        counts_DxBxN = [count + flow for count, flow in zip(counts_DxBxN, flows, strict=True)]
        return (jnp.where(valid_Bx1, came_from, occupancy_BxN), counts_DxBxN), jnp.where(valid_Bx1, occupancy_BxN, 0.0)

    def chunk(carry, x):
        start_BxN, emissions_KxBxV, valid_KxBx1 = x
        _, alpha_KxBxN = lax.scan(forth, start_BxN, (_Wide.exp(emissions_KxBxV), valid_KxBx1))
        carry, occupancy_KxBxN = lax.scan(back, carry, (alpha_KxBxN, valid_KxBx1), reverse=True)
        # Batch first: as one product of matrices an utterance it takes half the time.
        occupancy_BxKxN = occupancy_KxBxN.swapaxes(0, 1)
        gradient_BxKxV = jnp.einsum("bkn,bnv->bkv", occupancy_BxKxN, one_hot_BxNxV, precision="highest")
        return carry, gradient_BxKxV.swapaxes(0, 1)

    occupancy_BxN = occupancy_BxN * cotangent_B[:, None]
    carry = (occupancy_BxN, [jnp.zeros_like(occupancy_BxN) for _ in moves_DxBxN])
    (_, counts_DxBxN), gradient = lax.scan(
        chunk, carry, (starts_CxBxN, *_chunks(emissions_SxBxV, frames_B)), reverse=True
    )
    return gradient.reshape(-1, B, V)[:S], None, None, jnp.stack(counts_DxBxN), None


_chain_score.defvjp(_chain_forward, _chain_backward)
