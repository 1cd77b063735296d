"""The CTC criterion (Graves et al. 2006) per utterance, safe for padding and for targets that cannot be emitted."""

import jax
import jax.numpy as jnp
import optax

from w2l_jax.alphabet import BLANK

# Stands for −∞: small enough to rule a path out, large enough that no difference of two becomes NaN.
_IMPOSSIBLE = -1e5


def required_frames(labels_BxL: jax.Array, label_lengths_B: jax.Array) -> jax.Array:
    """Output frames [B] a target needs: its labels and one blank between each two equal neighbours."""
    inside_BxL = jnp.arange(labels_BxL.shape[1]) < label_lengths_B[:, None]
    repeats_BxL = (labels_BxL[:, 1:] == labels_BxL[:, :-1]) & inside_BxL[:, 1:]
    return label_lengths_B + repeats_BxL.sum(axis=1)


def feasible(frames_B: jax.Array, labels_BxL: jax.Array, label_lengths_B: jax.Array) -> jax.Array:
    """Whether [B] each target fits into `frames_B` output frames."""
    return (required_frames(labels_BxL, label_lengths_B) <= frames_B) & (frames_B > 0)


def ctc_loss(
    logits_BxSxV: jax.Array, frames_B: jax.Array, labels_BxL: jax.Array, label_lengths_B: jax.Array
) -> jax.Array:
    """−log P(labels | logits) in nats [B], float32; blank is id 0.

    `frames_B` counts valid *output* frames, `label_lengths_B` valid labels; what lies beyond has no influence. A
    target that does not fit gives loss 0 and gradient 0: count those with `feasible`. Logits of −∞ are allowed.
    """
    logits_BxSxV = jnp.maximum(logits_BxSxV.astype(jnp.float32), _IMPOSSIBLE)
    possible_B = feasible(frames_B, labels_BxL, label_lengths_B)
    # An impossible target is swapped for the empty one before the loss: masking its loss afterwards would leave
    # its gradient, which optax computes at full size.
    lengths_B = jnp.where(possible_B, label_lengths_B, 0)
    frame_padding_BxS = (jnp.arange(logits_BxSxV.shape[1]) >= frames_B[:, None]).astype(jnp.float32)
    label_padding_BxL = (jnp.arange(labels_BxL.shape[1]) >= lengths_B[:, None]).astype(jnp.float32)
    loss_B = optax.ctc_loss(
        logits_BxSxV, frame_padding_BxS, labels_BxL, label_padding_BxL, blank_id=BLANK, log_epsilon=_IMPOSSIBLE
    )
    return jnp.where(possible_B, jnp.maximum(loss_B, 0.0), 0.0)
