"""The sum over all paths through frames and labels, with a score for every transition: ASG's denominator.

Forward and backward recursion share one loop over the frames, as in `chain_in_one_pass`; separate loops would not be
faster on CPUs. Weights are float32 probabilities. A weight that underflows is e^-88 or less of another label's in the
same frame; only transitions could make up for that, and they are bounded.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from w2l_jax.losses.chain_in_one_pass import moving, valid
from w2l_jax.losses.path_sum import Form, path_sum

LOWEST_TRANSITION = -70.0


def all_paths_score(scores_BxSxV: jax.Array, transitions_VxV: jax.Array, frames_B: jax.Array) -> jax.Array:
    """log Σ exp(score) [B] over all paths of `frames` labels; transitions lie in LOWEST_TRANSITION … 0."""
    # Differentiate by one matrix per utterance, computed from the batch, so that shard_map knows they differ.
    by_utterance_BxVxV = jnp.where(frames_B[:, None, None] >= 0, transitions_VxV, 0.0)
    return _all_paths(scores_BxSxV, by_utterance_BxVxV, frames_B, lax.stop_gradient(transitions_VxV))


def _score(multiply, scores_BxSxV, _, frames_B, transitions_VxV):
    # The recursions meet in the middle, after half of the frames; in a shorter utterance, in its last frame.
    half = scores_BxSxV.shape[1] // 2
    scores_BxSxV = jnp.pad(scores_BxSxV, ((0, 0), (0, 1 - scores_BxSxV.shape[1] % 2), (0, 0)))
    start_2xBxV, frame, inputs = _recurrence(multiply, scores_BxSxV.swapaxes(0, 1), transitions_VxV, frames_B)
    met_2xBxV, (_, logs_Sx2xB) = lax.scan(frame, start_2xBxV, jax.tree.map(lambda x: x[:half], inputs))
    last_Bx1x1 = jnp.clip(frames_B - 1, 0, half)[:, None, None]
    joint_BxV = jnp.log(met_2xBxV).sum(axis=0) + jnp.take_along_axis(scores_BxSxV, last_Bx1x1, axis=1)[:, 0]
    return logs_Sx2xB.sum(axis=(0, 1)) + jax.nn.logsumexp(joint_BxV, axis=1)


def _counts(multiply, scores_BxSxV, _, frames_B, transitions_VxV):
    scores_SxBxV = scores_BxSxV.swapaxes(0, 1)
    start_2xBxV, frame, inputs = _recurrence(multiply, scores_SxBxV, transitions_VxV, frames_B)
    _, (weights_Sx2xBxV, logs_Sx2xB) = lax.scan(frame, start_2xBxV, inputs)
    forth_SxBxV, back_SxBxV = weights_Sx2xBxV[:, 0], weights_Sx2xBxV[::-1, 1]
    left_SxBxV = jnp.log(forth_SxBxV) + scores_SxBxV
    joint_SxBxV = left_SxBxV + jnp.log(back_SxBxV)
    valid_SxBx1 = valid(scores_SxBxV, frames_B)
    occupancy_SxBxV = jnp.where(valid_SxBx1, jax.nn.softmax(joint_SxBxV), 0.0)
    # The weight of each arrival at a label, divided among its predecessors.
    right_SxBxV = jax.nn.softmax(jnp.log(back_SxBxV) + scores_SxBxV)
    each_SxBxV = right_SxBxV / (forth_SxBxV * right_SxBxV).sum(axis=2, keepdims=True)
    each_SxBxV = jnp.where(valid_SxBx1, each_SxBxV, 0.0)
    steps_BxVxV = jnp.einsum("sbi,sbj->bij", jax.nn.softmax(left_SxBxV)[:-1], each_SxBxV[1:], precision="highest")
    score_B = logs_Sx2xB[:-1, 1].sum(axis=0) + jax.nn.logsumexp(joint_SxBxV[0], axis=1)
    return score_B, occupancy_SxBxV.swapaxes(0, 1), jnp.exp(transitions_VxV) * steps_BxVxV


def _recurrence(multiply, scores_SxBxV, transitions_VxV, frames_B):
    """The start of both recursions, one frame of them, and the inputs [S, …] of all frames."""
    weights_VxV = jnp.exp(transitions_VxV)
    weights_2xVxV = jnp.stack([weights_VxV, weights_VxV.T])

    def frame(weights_2xBxV, x):
        score_2xBxV, moving_2xBx1 = x
        leaving_2xBxV = weights_2xBxV * jnp.exp(score_2xBxV)
        total_2xBx1 = leaving_2xBxV.sum(axis=2, keepdims=True)
        new_2xBxV = multiply(leaving_2xBxV / total_2xBx1, weights_2xVxV)
        log_2xB = jnp.where(moving_2xBx1, jnp.log(total_2xBx1), 0.0)[..., 0]
        return jnp.where(moving_2xBx1, new_2xBxV, weights_2xBxV), (weights_2xBxV, log_2xB)

    scores_Sx2xBxV = jnp.stack([scores_SxBxV, scores_SxBxV[::-1]], axis=1)
    start_2xBxV = jnp.ones_like(scores_Sx2xBxV[0])
    return start_2xBxV, frame, (scores_Sx2xBxV, moving(scores_SxBxV, frames_B))


def _plain(scores_BxSxV, transitions_BxVxV, frames_B, _):
    def frame(alpha_BxV, x):
        score_BxV, valid_Bx1 = x
        new_BxV = jax.nn.logsumexp(alpha_BxV[:, :, None] + transitions_BxVxV, axis=1) + score_BxV
        return jnp.where(valid_Bx1, new_BxV, alpha_BxV), None

    scores_SxBxV = scores_BxSxV.swapaxes(0, 1)
    rest = scores_SxBxV[1:], valid(scores_SxBxV, frames_B)[1:]
    return jax.nn.logsumexp(lax.scan(frame, scores_SxBxV[0], rest)[0], axis=1)


def _elementwise(x, weights):
    return (x[..., None] * weights[:, None]).sum(axis=2)


_multiply = functools.partial(jnp.matmul, precision="highest"), _elementwise
_forms = (Form(functools.partial(_score, by), functools.partial(_counts, by)) for by in _multiply)
_all_paths = path_sum(_plain, *_forms)
