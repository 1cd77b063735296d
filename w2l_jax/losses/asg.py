"""The ASG criterion (Collobert et al. 2016, "Wav2Letter") per utterance, and the most likely path under it.

There is no blank: a letter lasts until the next one begins, and a doubled letter uses a repetition label. Emissions are
not normalised per frame; a matrix of transition scores is learned with them.
"""

import jax
import jax.numpy as jnp
from jax import lax

from w2l_jax.losses.all_paths import LOWEST_TRANSITION, all_paths_score
from w2l_jax.losses.chain import chain_score
from w2l_jax.losses.target import IMPOSSIBLE, at_least, check, proper, shifted


def asg_loss(
    emissions_BxSxV: jax.Array,
    transitions_VxV: jax.Array,
    frames_B: jax.Array,
    labels_BxL: jax.Array,
    label_lengths_B: jax.Array,
) -> jax.Array:
    """log Σ exp(score) over all paths minus that over the target's paths, in nats [B], float32 (eq. 3).

    A path has one label per valid frame and scores the sum of its emissions and of `transitions[i, j]` for each step
    from label i to label j; it is the target's if it equals the target when equal neighbours are merged. Frames and
    labels beyond `frames_B` and `label_lengths_B` have no influence. A target without a path gives loss 0 and gradient
    0: count these with `asg_feasible`. Scores of −∞ are allowed; in the sum over all paths, a transition more than 70
    nats below the highest counts as 70 below. Errors and derivatives are as in `ctc_loss`.
    """
    check(emissions_BxSxV, frames_B, labels_BxL, label_lengths_B, lowest=0)
    if not emissions_BxSxV.size:
        return jnp.zeros_like(frames_B, jnp.float32)
    possible_B = asg_feasible(emissions_BxSxV, frames_B, labels_BxL, label_lengths_B)
    frames_B, lengths_B = jnp.where(possible_B, frames_B, 0), jnp.where(possible_B, label_lengths_B, 0)
    # Only differences count: every path takes the same number of steps.
    scores_BxSxV = shifted(emissions_BxSxV, frames_B)
    transitions_VxV = at_least(transitions_VxV.astype(jnp.float32), IMPOSSIBLE)
    transitions_VxV = transitions_VxV - lax.stop_gradient(transitions_VxV.max())
    all_B = all_paths_score(scores_BxSxV, jnp.maximum(transitions_VxV, LOWEST_TRANSITION), frames_B)
    target_B = _target_paths(scores_BxSxV, transitions_VxV, frames_B, labels_BxL, lengths_B)
    return jnp.where(possible_B, at_least(all_B - target_B, 0.0), 0.0)


def asg_feasible(
    emissions_BxSxV: jax.Array, frames_B: jax.Array, labels_BxL: jax.Array, label_lengths_B: jax.Array
) -> jax.Array:
    """Whether [B] each target has a path: at least one label, none equal to its neighbour, and a frame for each."""
    inside_BxL = jnp.arange(labels_BxL.shape[1]) < label_lengths_B[:, None]
    repeats_BxL = (labels_BxL[:, 1:] == labels_BxL[:, :-1]) & inside_BxL[:, 1:]
    fits_B = (label_lengths_B > 0) & (label_lengths_B <= frames_B) & ~repeats_BxL.any(axis=1)
    return fits_B & proper(emissions_BxSxV, frames_B, labels_BxL, label_lengths_B, lowest=0)


def asg_viterbi(
    emissions_BxSxV: jax.Array, transitions_VxV: jax.Array, frames_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The path of the highest score: labels [B, S] (int32, −1 beyond an utterance's end) and its score [B]."""
    emissions_SxBxV = emissions_BxSxV.astype(jnp.float32).swapaxes(0, 1)
    transitions_VxV = transitions_VxV.astype(jnp.float32)
    valid_SxBx1 = (jnp.arange(len(emissions_SxBxV))[:, None] < frames_B)[:, :, None]
    stay_V = jnp.arange(len(transitions_VxV))

    def forth(best_BxV, x):
        emission_BxV, valid_Bx1 = x
        steps_BxVxV = best_BxV[:, :, None] + transitions_VxV
        new_BxV = steps_BxVxV.max(axis=1) + emission_BxV
        origin_BxV = jnp.where(valid_Bx1, steps_BxVxV.argmax(axis=1), stay_V)
        return jnp.where(valid_Bx1, new_BxV, best_BxV), origin_BxV

    def back(label_B, origin_BxV):
        return jnp.take_along_axis(origin_BxV, label_B[:, None], axis=1)[:, 0], label_B

    best_BxV, origins_SxBxV = lax.scan(forth, emissions_SxBxV[0], (emissions_SxBxV[1:], valid_SxBx1[1:]))
    first_B, labels_SxB = lax.scan(back, best_BxV.argmax(axis=1), origins_SxBxV, reverse=True)
    path_SxB = jnp.concatenate([first_B[None], labels_SxB])
    return jnp.where(valid_SxBx1[:, :, 0], path_SxB, -1).T.astype(jnp.int32), best_BxV.max(axis=1)


def _target_paths(scores_BxSxV, transitions_VxV, frames_B, labels_BxL, lengths_B):
    # An initial state without frames, and one state per label.
    inside_BxL = jnp.arange(labels_BxL.shape[1]) < lengths_B[:, None]
    states_BxN = jnp.pad(jnp.where(inside_BxL, labels_BxL, 0), ((0, 0), (1, 0)))
    place_N = jnp.arange(states_BxN.shape[1])
    before_BxN = jnp.roll(states_BxN, 1, axis=1)
    stays_BxN = jnp.where(place_N == 0, -jnp.inf, transitions_VxV[states_BxN, states_BxN])
    steps_BxN = jnp.where(place_N <= 1, 0.0, transitions_VxV[before_BxN, states_BxN])
    moves_BxDxN = jnp.stack([stays_BxN, steps_BxN], axis=1)
    return chain_score(scores_BxSxV, moves_BxDxN, frames_B, states_BxN, place_N == lengths_B[:, None])
