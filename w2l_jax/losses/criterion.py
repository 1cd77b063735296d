"""A network's criterion as a value: its functions, bound to the network's own criterion parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from w2l_jax.alphabet import Alphabet
from w2l_jax.losses.ctc import ctc_loss, feasible

TRANSITIONS = "transitions"


class Criterion(NamedTuple):
    """The functions of a criterion; a target is `(frames_B, labels_BxL, label_lengths_B)`."""

    loss: Callable[..., jax.Array]
    """`(logits_BxSxV, *target)` → nats [B], 0 where the target has no path."""
    feasible: Callable[..., jax.Array]
    """`(logits_BxSxV, *target)` → whether [B] the target has a path."""
    best_path: Callable[[jax.Array, jax.Array], jax.Array]
    """`(logits_BxSxV, frames_B)` → the most likely label of every frame [B, S]; values beyond the end are undefined."""


def own_parameters(alphabet: Alphabet) -> dict[str, Any]:
    """Parameters that a fresh tree holds besides the layers: transition scores for an ASG alphabet, else none.

    Initially a label is three times as likely to stay as to change, so that it lasts four frames, as letters do.
    """
    if not alphabet.repetitions:
        return {}
    # With equal transitions training soon fills most of an utterance with one letter, and hardly leaves that minimum.
    stay = jnp.log(jnp.float32(3 * (alphabet.size - 1)))
    return {TRANSITIONS: {"scores": stay * jnp.eye(alphabet.size, dtype=jnp.float32)}}


def criterion_of(params: dict[str, Any]) -> Criterion:
    """The criterion of a network's parameters: ASG if they hold transition scores, else CTC."""
    if TRANSITIONS not in params:
        return Criterion(ctc_loss, feasible, lambda logits_BxSxV, frames_B: logits_BxSxV.argmax(axis=-1))
    from w2l_jax.losses import asg

    transitions_VxV = params[TRANSITIONS]["scores"]
    return Criterion(
        lambda emissions_BxSxV, *target: asg.asg_loss(emissions_BxSxV, transitions_VxV, *target),
        asg.asg_feasible,
        lambda emissions_BxSxV, frames_B: asg.asg_viterbi(emissions_BxSxV, transitions_VxV, frames_B)[0],
    )
