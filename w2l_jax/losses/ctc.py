"""The CTC criterion (Graves et al. 2006) per utterance, safe for padding and for targets that cannot be emitted."""

import jax
import jax.numpy as jnp

from w2l_jax.alphabet import BLANK
from w2l_jax.losses.chain import chain_score
from w2l_jax.losses.target import at_least, check, proper, shifted


def ctc_loss(
    logits_BxSxV: jax.Array, frames_B: jax.Array, labels_BxL: jax.Array, label_lengths_B: jax.Array
) -> jax.Array:
    """−log P(labels | logits) in nats [B], float32; blank is id 0.

    `frames_B` counts valid *output* frames, `label_lengths_B` valid labels; values beyond have no influence. An
    infeasible target gives loss 0 and gradient 0: count these with `feasible`. Logits of −∞ are allowed. Raises
    ValueError for wrong shapes, and for labels, lengths and frames out of range; under `jax.jit`, where values are
    unknown, such a target counts as infeasible. The gradient is analytic (eq. 16); second derivatives are correct but
    slow.
    """
    check(logits_BxSxV, frames_B, labels_BxL, label_lengths_B, lowest=BLANK + 1)
    if not logits_BxSxV.size:
        return jnp.zeros_like(frames_B, jnp.float32)
    # Replace an infeasible target by the empty one: masking the loss afterwards would leave its gradient.
    possible_B = feasible(logits_BxSxV, frames_B, labels_BxL, label_lengths_B)
    lengths_B = jnp.where(possible_B, label_lengths_B, 0)
    scores_BxSxV = shifted(logits_BxSxV, frames_B)
    # States: blank, label, blank, label, …, blank; a path begins before the first frame in the first blank.
    inside_BxL = jnp.arange(labels_BxL.shape[1]) < lengths_B[:, None]
    labels_BxL = jnp.where(inside_BxL, labels_BxL, BLANK)
    states_BxN = jnp.pad(jnp.stack([jnp.full_like(labels_BxL, BLANK), labels_BxL], axis=2), ((0, 0), (0, 1), (0, 0)))
    states_BxN = states_BxN.reshape(len(labels_BxL), -1)[:, :-1]
    two_back_BxN = jnp.pad(states_BxN, ((0, 0), (2, 0)), constant_values=BLANK)[:, :-2]
    skips_BxN = jnp.where((states_BxN != BLANK) & (states_BxN != two_back_BxN), 0.0, -jnp.inf).astype(jnp.float32)
    always_BxN = jnp.zeros_like(skips_BxN)
    moves_BxDxN = jnp.stack([always_BxN, always_BxN, skips_BxN], axis=1)
    left_BxN = 2 * lengths_B[:, None] - jnp.arange(states_BxN.shape[1])
    paths_B = chain_score(scores_BxSxV, moves_BxDxN, frames_B, states_BxN, (left_BxN == 0) | (left_BxN == 1))
    valid_BxS = jnp.arange(scores_BxSxV.shape[1]) < frames_B[:, None]
    all_B = jnp.where(valid_BxS, jax.nn.logsumexp(scores_BxSxV, axis=-1), 0.0).sum(axis=1)
    return jnp.where(possible_B, at_least(all_B - paths_B, 0.0), 0.0)


def feasible(
    logits_BxSxV: jax.Array, frames_B: jax.Array, labels_BxL: jax.Array, label_lengths_B: jax.Array
) -> jax.Array:
    """Whether [B] each target is feasible: labels of the alphabet that fit into its output frames."""
    fits_B = required_frames(labels_BxL, label_lengths_B) <= frames_B
    return fits_B & proper(logits_BxSxV, frames_B, labels_BxL, label_lengths_B, lowest=BLANK + 1)


def required_frames(labels_BxL: jax.Array, label_lengths_B: jax.Array) -> jax.Array:
    """Output frames [B] a target needs: one per label, and one blank between equal neighbours."""
    inside_BxL = jnp.arange(labels_BxL.shape[1]) < label_lengths_B[:, None]
    repeats_BxL = (labels_BxL[:, 1:] == labels_BxL[:, :-1]) & inside_BxL[:, 1:]
    return label_lengths_B + repeats_BxL.sum(axis=1)
