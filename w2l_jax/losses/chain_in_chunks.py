"""A chain's sum for CPUs: weights are stored every √S frames and recomputed between, so memory is √S · N."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from w2l_jax.losses.path_sum import Form
from w2l_jax.losses.wide import NEVER, Wide, arrivals, choose, shift

_HALVED = 16  # utterances of a batch that is computed in two halves


def _score(emissions_BxSxV, moves_BxDxN, frames_B, states_BxN, ends_BxN):
    return _forward(emissions_BxSxV, moves_BxDxN, frames_B, states_BxN, ends_BxN)[0]


def _counts(emissions_BxSxV, moves_BxDxN, frames_B, states_BxN, ends_BxN):
    score_B, starts_CxBxN, occupancy_BxN = _forward(emissions_BxSxV, moves_BxDxN, frames_B, states_BxN, ends_BxN)
    _, S, V = emissions_BxSxV.shape
    moves_DxBxN = Wide.exp(moves_BxDxN.swapaxes(0, 1))
    one_hot_BxNxV = jax.nn.one_hot(states_BxN, V, dtype=jnp.float32)

    def forth(alpha_BxN, x):
        return _advance(alpha_BxN, x, states_BxN, moves_DxBxN), alpha_BxN

    def back(carry, x):
        occupancy_BxN, counts_DxBxN = carry
        before_BxN, valid_Bx1 = x
        terms, total = arrivals(before_BxN, moves_DxBxN)
        # The probability of each predecessor, given the state: its share of the arrivals. This needs no second
        # recursion over weights, and only impossible paths underflow.
        each_BxN = jnp.where(valid_Bx1, occupancy_BxN, 0.0) / total.mantissa
        flows = [each_BxN * term_BxN for term_BxN in terms]
        came_from_BxN = sum(shift(flow_BxN, -d) for d, flow_BxN in enumerate(flows))
        counts_DxBxN = [count + flow for count, flow in zip(counts_DxBxN, flows, strict=True)]
        inside_BxN = jnp.where(valid_Bx1, occupancy_BxN, 0.0)
        return (jnp.where(valid_Bx1, came_from_BxN, occupancy_BxN), counts_DxBxN), inside_BxN

    def chunk(carry, x):
        start_BxN, emissions_KxBxV, valid_KxBx1 = x
        _, alpha_KxBxN = lax.scan(forth, start_BxN, (Wide.exp(emissions_KxBxV), valid_KxBx1))
        carry, occupancy_KxBxN = lax.scan(back, carry, (alpha_KxBxN, valid_KxBx1), reverse=True)
        # Batch first: one matrix product per utterance takes half the time.
        occupancy_BxKxN = occupancy_KxBxN.swapaxes(0, 1)
        return carry, jnp.einsum("bkn,bnv->bkv", occupancy_BxKxN, one_hot_BxNxV, precision="highest")

    carry = (occupancy_BxN, [jnp.zeros_like(occupancy_BxN) for _ in moves_DxBxN.exponent])
    inputs = (starts_CxBxN, *_chunks(emissions_BxSxV, frames_B))
    (_, counts_DxBxN), emission_counts_CxBxKxV = lax.scan(chunk, carry, inputs, reverse=True)
    emission_counts = emission_counts_CxBxKxV.swapaxes(0, 1).reshape(len(frames_B), -1, V)[:, :S]
    return score_B, emission_counts, jnp.stack(counts_DxBxN, axis=1)


def _in_halves(compute):
    """One frame is too little work for two cores, but XLA's CPU backend runs two independent loops side by side."""

    def halves(*arguments):
        # Two loops compile longer, too long for few utterances; and devices that share the batch must not exchange it.
        rows = len(arguments[0])
        if rows < _HALVED or jax.device_count() > 1:
            return compute(*arguments)
        first, second = ([x[part] for x in arguments] for part in (slice(rows // 2), slice(rows // 2, None)))
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), compute(*first), compute(*second))

    return halves


IN_CHUNKS = Form(_in_halves(_score), _in_halves(_counts))


def _forward(emissions_BxSxV, moves_BxDxN, frames_B, states_BxN, ends_BxN):
    moves_DxBxN = Wide.exp(moves_BxDxN.swapaxes(0, 1))

    def frame(alpha_BxN, x):
        return _advance(alpha_BxN, x, states_BxN, moves_DxBxN), None

    def chunk(alpha_BxN, x):
        emissions_KxBxV, valid_KxBx1 = x
        return lax.scan(frame, alpha_BxN, (Wide.exp(emissions_KxBxV), valid_KxBx1))[0], alpha_BxN

    mantissa_BxN, exponent_BxN = (jnp.zeros_like(x[0]) for x in moves_DxBxN)
    start = Wide(mantissa_BxN + 1, exponent_BxN.at[:, 1:].set(NEVER))
    alpha_BxN, starts_CxBxN = lax.scan(chunk, start, _chunks(emissions_BxSxV, frames_B))
    ends_BxN = alpha_BxN._replace(exponent=jnp.where(ends_BxN, alpha_BxN.exponent, 2 * NEVER))
    score_B, occupancy_BxN = ends_BxN.shares()
    return score_B, starts_CxBxN, occupancy_BxN


def _advance(alpha_BxN: Wide, x, states_BxN: jax.Array, moves_DxBxN: Wide) -> Wide:
    emission_BxV, valid_Bx1 = x
    emission_BxN = Wide(*(jnp.take_along_axis(x, states_BxN, axis=1) for x in emission_BxV))
    return choose(valid_Bx1, arrivals(alpha_BxN, moves_DxBxN)[1].times(emission_BxN), alpha_BxN)


def _chunks(emissions_BxSxV: jax.Array, frames_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Emissions [C, K, B, V] and validity [C, K, B, 1] of √S chunks of √S frames."""
    B, S, V = emissions_BxSxV.shape
    K = max(math.isqrt(S), 1)
    C = -(-S // K)
    padded = jnp.pad(emissions_BxSxV.swapaxes(0, 1), ((0, C * K - S), (0, 0), (0, 0)))
    valid = jnp.arange(C * K)[:, None] < frames_B
    return padded.reshape(C, K, B, V), valid.reshape(C, K, B, 1)
