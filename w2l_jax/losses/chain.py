"""The sum over all paths through a left-to-right chain of states: the common part of CTC and ASG."""

import jax
import jax.numpy as jnp
from jax import lax

from w2l_jax.losses.chain_in_chunks import IN_CHUNKS
from w2l_jax.losses.chain_in_one_pass import IN_ONE_PASS
from w2l_jax.losses.path_sum import path_sum
from w2l_jax.losses.wide import shift

_LOWEST = -1e30  # replaces −∞: no difference of two is NaN


def chain_score(
    emissions_BxSxV: jax.Array,
    moves_BxDxN: jax.Array,
    frames_B: jax.Array,
    states_BxN: jax.Array,
    ends_BxN: jax.Array,
) -> jax.Array:
    """log Σ exp(score) [B] over all paths through a chain of N states, one state per frame.

    A path's score is the sum of `emissions[b, s, states[b, n]]` over its states n and of `moves[b, d, n]` over its
    moves from state n − d to n (float32; −∞ forbids a move). Before the first frame a path is in state 0, without
    emission; after frame `frames` − 1 it must be in one of `ends`. Differentiable by emissions and moves: the gradients
    are the expected counts (Graves et al. 2006, eq. 14 to 16).
    """
    return _chain_score(emissions_BxSxV, moves_BxDxN, frames_B, states_BxN, ends_BxN)


def _plain(emissions_BxSxV, moves_BxDxN, frames_B, states_BxN, ends_BxN):
    moves_BxDxN = jnp.maximum(moves_BxDxN, _LOWEST)

    def frame(alpha_BxN, x):
        emission_BxN, valid_B = x
        came = [shift(alpha_BxN, d, _LOWEST) + moves_BxDxN[:, d] for d in range(moves_BxDxN.shape[1])]
        new_BxN = jax.nn.logsumexp(jnp.stack(came), axis=0) + emission_BxN
        return jnp.where(valid_B[:, None], new_BxN, alpha_BxN), None

    emissions_BxSxN = jnp.take_along_axis(emissions_BxSxV, states_BxN[:, None], axis=2)
    valid_SxB = jnp.arange(emissions_BxSxV.shape[1])[:, None] < frames_B
    start_BxN = jnp.where(jnp.arange(states_BxN.shape[1]) == 0, 0.0, _LOWEST) + 0 * moves_BxDxN[:, 0]
    alpha_BxN, _ = lax.scan(frame, start_BxN, (emissions_BxSxN.swapaxes(0, 1), valid_SxB))
    return jax.nn.logsumexp(jnp.where(ends_BxN, alpha_BxN, _LOWEST), axis=1)


_chain_score = path_sum(_plain, IN_CHUNKS, IN_ONE_PASS)
