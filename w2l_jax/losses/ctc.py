"""The CTC criterion (Graves et al. 2006) per utterance, safe for padding and for targets that cannot be emitted."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jax import lax

from w2l_jax.alphabet import BLANK
from w2l_jax.losses.chain import chain_score

# Stands for −∞: small enough to rule a path out, large enough that no difference of two becomes NaN.
IMPOSSIBLE = -1e5


def required_frames(labels_BxL: jax.Array, label_lengths_B: jax.Array) -> jax.Array:
    """Output frames [B] a target needs: its labels and one blank between each two equal neighbours."""
    inside_BxL = jnp.arange(labels_BxL.shape[1]) < label_lengths_B[:, None]
    repeats_BxL = (labels_BxL[:, 1:] == labels_BxL[:, :-1]) & inside_BxL[:, 1:]
    return label_lengths_B + repeats_BxL.sum(axis=1)


def feasible(frames_B: jax.Array, labels_BxL: jax.Array, label_lengths_B: jax.Array) -> jax.Array:
    """Whether [B] each target fits into `frames_B` output frames."""
    return (required_frames(labels_BxL, label_lengths_B) <= frames_B) & (frames_B > 0)


def ctc_loss(
    logits_BxSxV: jax.Array,
    frames_B: jax.Array,
    labels_BxL: jax.Array,
    label_lengths_B: jax.Array,
    *,
    implementation: Literal["fused", "optax"] = "fused",
) -> jax.Array:
    """−log P(labels | logits) in nats [B], float32; blank is id 0.

    `frames_B` counts valid *output* frames, `label_lengths_B` valid labels; what lies beyond has no influence. A
    target that does not fit gives loss 0 and gradient 0: count those with `feasible`. Logits of −∞ are allowed.
    `fused` has an analytic gradient (eq. 16), first order only; `optax` differentiates `optax.ctc_loss` and is kept
    to compare with.
    """
    logits_BxSxV = jnp.maximum(logits_BxSxV.astype(jnp.float32), IMPOSSIBLE)
    possible_B = feasible(frames_B, labels_BxL, label_lengths_B)
    # An impossible target is swapped for the empty one before the loss: masking its loss afterwards would leave
    # its gradient, which optax computes at full size.
    lengths_B = jnp.where(possible_B, label_lengths_B, 0)
    compute = {"fused": _fused, "optax": _optax}[implementation]
    loss_B = compute(logits_BxSxV, frames_B, labels_BxL, lengths_B)
    return jnp.where(possible_B, jnp.maximum(loss_B, 0.0), 0.0)


def shifted(scores_BxSxV: jax.Array, frames_B: jax.Array) -> jax.Array:
    """Scores [S, B, V] with every frame's highest at 0 and invalid frames all 0: differences keep their digits."""
    highest_BxSx1 = lax.stop_gradient(scores_BxSxV.max(axis=-1, keepdims=True))
    valid_BxS = jnp.arange(scores_BxSxV.shape[1]) < frames_B[:, None]
    return jnp.where(valid_BxS[:, :, None], scores_BxSxV - highest_BxSx1, 0.0).swapaxes(0, 1)


def _fused(logits_BxSxV, frames_B, labels_BxL, lengths_B):
    # States: blank, label, blank, label, …, blank; a way begins before the first frame in the first blank.
    shape = (labels_BxL.shape[0], 2 * labels_BxL.shape[1] + 1)
    inside_BxL = jnp.arange(labels_BxL.shape[1]) < lengths_B[:, None]
    states_BxN = jnp.full(shape, BLANK).at[:, 1::2].set(jnp.where(inside_BxL, labels_BxL, BLANK))
    two_back_BxN = jnp.pad(states_BxN, ((0, 0), (2, 0)), constant_values=BLANK)[:, :-2]
    skips_BxN = (states_BxN != BLANK) & (states_BxN != two_back_BxN)
    always_BxN = jnp.zeros(shape)
    moves_DxBxN = jnp.stack([always_BxN, always_BxN, jnp.where(skips_BxN, 0.0, -jnp.inf)])
    left_BxN = 2 * lengths_B[:, None] - jnp.arange(shape[1])
    scores_SxBxV = shifted(logits_BxSxV, frames_B)
    paths_B = chain_score(scores_SxBxV, frames_B, states_BxN, moves_DxBxN, (left_BxN == 0) | (left_BxN == 1))
    valid_SxB = jnp.arange(len(scores_SxBxV))[:, None] < frames_B
    return jnp.where(valid_SxB, jax.nn.logsumexp(scores_SxBxV, axis=-1), 0.0).sum(axis=0) - paths_B


def _optax(logits_BxSxV, frames_B, labels_BxL, lengths_B):
    frame_padding_BxS = (jnp.arange(logits_BxSxV.shape[1]) >= frames_B[:, None]).astype(jnp.float32)
    label_padding_BxL = (jnp.arange(labels_BxL.shape[1]) >= lengths_B[:, None]).astype(jnp.float32)
    return optax.ctc_loss(
        logits_BxSxV, frame_padding_BxS, labels_BxL, label_padding_BxL, blank_id=BLANK, log_epsilon=IMPOSSIBLE
    )
