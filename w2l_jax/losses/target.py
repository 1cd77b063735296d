"""Checks of the criteria's arguments, and their scaled scores."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from w2l_jax.arguments import check_array, check_range, is_known

# Replaces −∞: low enough to exclude a path, high enough that no difference of two becomes NaN.
IMPOSSIBLE = -1e5


def check(logits_BxSxV: Any, frames_B: Any, labels_BxL: Any, label_lengths_B: Any, lowest: int) -> None:
    """Raises ValueError naming an argument of wrong shape or, if its values are known, out of range."""
    check_array("logits_BxSxV", logits_BxSxV, jnp.floating)
    rows, frames, outputs = logits_BxSxV.shape
    check_array("frames_B", frames_B, jnp.integer, B=rows)
    check_array("labels_BxL", labels_BxL, jnp.integer, B=rows)
    check_array("label_lengths_B", label_lengths_B, jnp.integer, B=rows)
    longest = labels_BxL.shape[1]
    check_range("frames_B", frames_B, 0, frames, "it counts output frames, see `output_frames`")
    check_range("label_lengths_B", label_lengths_B, 0, longest, "the size of labels_BxL")
    if is_known(labels_BxL) and is_known(label_lengths_B):
        inside_BxL = np.arange(longest) < np.asarray(label_lengths_B)[:, None]
        check_range("labels_BxL", np.asarray(labels_BxL)[inside_BxL], lowest, outputs - 1, "the labels of logits_BxSxV")


def proper(
    logits_BxSxV: jax.Array, frames_B: jax.Array, labels_BxL: jax.Array, label_lengths_B: jax.Array, lowest: int
) -> jax.Array:
    """Whether [B] frames (at least 1), label lengths and labels are in range."""
    frames_fit_B = (frames_B > 0) & (frames_B <= logits_BxSxV.shape[1])
    lengths_fit_B = (label_lengths_B >= 0) & (label_lengths_B <= labels_BxL.shape[1])
    known_BxL = (labels_BxL >= lowest) & (labels_BxL < logits_BxSxV.shape[2])
    beyond_BxL = jnp.arange(labels_BxL.shape[1]) >= label_lengths_B[:, None]
    return frames_fit_B & lengths_fit_B & (known_BxL | beyond_BxL).all(axis=1)


def at_least(x: jax.Array, lowest: float) -> jax.Array:
    """`jnp.maximum(x, lowest)` that keeps NaN, which XLA's own drops on CPUs."""
    return jnp.where(x < lowest, lowest, x)


def shifted(logits_BxSxV: jax.Array, frames_B: jax.Array) -> jax.Array:
    """Float32 scores, shifted so that every frame's highest is 0 (invalid frames all 0), which preserves precision."""
    scores_BxSxV = at_least(logits_BxSxV.astype(jnp.float32), IMPOSSIBLE)
    highest_BxSx1 = lax.stop_gradient(scores_BxSxV.max(axis=-1, keepdims=True))
    valid_BxS = jnp.arange(scores_BxSxV.shape[1]) < frames_B[:, None]
    return jnp.where(valid_BxS[:, :, None], scores_BxSxV - highest_BxSx1, 0.0)
