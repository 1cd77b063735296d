"""A chain's sum for accelerators: forward and backward recursion side by side in one loop over the frames.

The backward recursion is the forward one with frames and states reversed, so both are one recurrence on an axis of size
two. A weight c[s, n] excludes state n's emission in frame s: it sums the paths that arrive there, or those from there
to an end. The loop has only elementwise arithmetic and shifts, which XLA fuses into a kernel or two.
"""

import jax
import jax.numpy as jnp
from jax import lax

from w2l_jax.losses.path_sum import Form
from w2l_jax.losses.wide import Wide, arrivals, choose, shift


def _score(emissions_BxSxV, moves_BxDxN, frames_B, states_BxN, ends_BxN):
    # The recursions meet in the middle, after half of the frames; in a shorter utterance, in its last frame.
    half = emissions_BxSxV.shape[1] // 2
    emissions_BxSxV = jnp.pad(emissions_BxSxV, ((0, 0), (0, 1 - emissions_BxSxV.shape[1] % 2), (0, 0)))
    emissions_SxBxN = _of_states(emissions_BxSxV, states_BxN)
    start_2xBxN, frame, inputs = _recurrence(emissions_SxBxN, moves_BxDxN, frames_B, ends_BxN)
    (met_2xBxN, _) = lax.scan(lambda c, x: (frame(c, x), None), start_2xBxN, jax.tree.map(lambda x: x[:half], inputs))
    forth_BxN, back_BxN = _both(met_2xBxN)
    last_1xBx1 = jnp.clip(frames_B - 1, 0, half)[None, :, None]
    emission_BxN = Wide.exp(jnp.take_along_axis(emissions_SxBxN, last_1xBx1, axis=0)[0])
    return forth_BxN.times(emission_BxN).times(back_BxN).shares()[0]


def _counts(emissions_BxSxV, moves_BxDxN, frames_B, states_BxN, ends_BxN):
    emissions_SxBxN = _of_states(emissions_BxSxV, states_BxN)
    start_2xBxN, frame, inputs = _recurrence(emissions_SxBxN, moves_BxDxN, frames_B, ends_BxN)
    _, weights_Sx2xBxN = lax.scan(lambda c, x: (frame(c, x), c), start_2xBxN, inputs)
    forth_SxBxN, back_SxBxN = _both(weights_Sx2xBxN)
    left_SxBxN = forth_SxBxN.times(Wide.exp(emissions_SxBxN))
    score_SxB, occupancy_SxBxN = left_SxBxN.times(back_SxBxN).shares()
    valid_SxBx1 = valid(emissions_SxBxN, frames_B)
    occupancy_SxBxN = jnp.where(valid_SxBx1, occupancy_SxBxN, 0.0)
    one_hot_BxNxV = jax.nn.one_hot(states_BxN, emissions_BxSxV.shape[2], dtype=jnp.float32)
    emission_counts = jnp.einsum("sbn,bnv->bsv", occupancy_SxBxN, one_hot_BxNxV, precision="highest")
    # A state's weight comes from its predecessors in proportion to their contributions.
    moves_DxBxN = Wide.exp(moves_BxDxN.swapaxes(0, 1))
    terms, total = arrivals(Wide(*(x[:-1] for x in left_SxBxN)), Wide(*(x[:, None] for x in moves_DxBxN)))
    counts_DxBxN = jnp.stack([(occupancy_SxBxN[1:] * term / total.mantissa).sum(axis=0) for term in terms])
    counts_DxBxN += _firsts(counts_DxBxN, occupancy_SxBxN[0], 0.0)
    return score_SxB[0], emission_counts, counts_DxBxN.swapaxes(0, 1)


IN_ONE_PASS = Form(_score, _counts)


def _of_states(emissions_BxSxV, states_BxN):
    return jnp.take_along_axis(emissions_BxSxV, states_BxN[:, None], axis=2).swapaxes(0, 1)


def valid(x_SxBxN: jax.Array, frames_B: jax.Array) -> jax.Array:
    """Whether [S, B, 1] a frame is within its utterance."""
    return (jnp.arange(len(x_SxBxN))[:, None] < frames_B)[:, :, None]


def moving(x_SxBxN: jax.Array, frames_B: jax.Array) -> jax.Array:
    """Whether [S, 2, B, 1] there is a next frame in either direction; in reverse the utterance comes last."""
    valid_SxBx1 = valid(x_SxBxN, frames_B)
    return jnp.stack([jnp.roll(valid_SxBx1.at[0].set(False), -1, axis=0), valid_SxBx1[::-1]], axis=1)


def _firsts(moves_DxBxN, value, otherwise):
    """`value` [D, B, N] for moves from state 0, where every path starts."""
    D, _, N = moves_DxBxN.shape
    return jnp.where((jnp.arange(D)[:, None] == jnp.arange(N))[:, None], value, otherwise)


def _recurrence(emissions_SxBxN, moves_BxDxN, frames_B, ends_BxN):
    """The start of both recursions, one frame of them, and the inputs [S, …] of all frames."""
    moves_DxBxN = moves_BxDxN.swapaxes(0, 1)
    away_DxBxN = jnp.stack([shift(move_BxN, -d, -jnp.inf) for d, move_BxN in enumerate(moves_DxBxN)])
    moves_Dx2xBxN = Wide.exp(jnp.stack([moves_DxBxN, away_DxBxN[..., ::-1]], axis=1))
    start_BxN = _firsts(moves_DxBxN, moves_DxBxN, -jnp.inf).max(axis=0)
    start_2xBxN = Wide.exp(jnp.stack([start_BxN, jnp.where(ends_BxN, 0.0, -jnp.inf)[:, ::-1]]))
    emissions_Sx2xBxN = jnp.stack([emissions_SxBxN, emissions_SxBxN[::-1, :, ::-1]], axis=1)

    def frame(weights_2xBxN, x):
        emission_2xBxN, moving_2xBx1 = x
        _, new_2xBxN = arrivals(weights_2xBxN.times(Wide.exp(emission_2xBxN)), moves_Dx2xBxN)
        return choose(moving_2xBx1, new_2xBxN, weights_2xBxN)

    return start_2xBxN, frame, (emissions_Sx2xBxN, moving(emissions_SxBxN, frames_B))


def _both(weights: Wide) -> tuple[Wide, Wide]:
    """Forward and backward weights [S, B, N] (or one frame's) in the order of the utterance."""
    if weights.mantissa.ndim == 3:
        return Wide(*(x[0] for x in weights)), Wide(*(x[1, :, ::-1] for x in weights))
    return Wide(*(x[:, 0] for x in weights)), Wide(*(x[::-1, 1, :, ::-1] for x in weights))
