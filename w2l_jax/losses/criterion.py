"""A network's criterion as a value: its functions, with those parameters of the network that are the criterion's."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from w2l_jax.alphabet import Alphabet
from w2l_jax.losses.asg import asg_feasible, asg_loss, asg_viterbi
from w2l_jax.losses.ctc import ctc_loss, feasible

TRANSITIONS = "transitions"
# A letter lasts several frames. Where all transitions begin at 0, training soon finds one letter that fills most of an
# utterance, the others squeezed beside it, and seldom leaves that again.
_STAY = 3.0


class Criterion(NamedTuple):
    """What training and decoding ask of a criterion; a target is `(frames_B, labels_BxL, label_lengths_B)`."""

    loss: Callable[..., jax.Array]
    """`(logits_BxSxV, *target)` → nats [B], 0 where the target has no path."""
    feasible: Callable[..., jax.Array]
    """`(*target)` → whether [B] it has one."""
    best_path: Callable[[jax.Array, jax.Array], jax.Array]
    """`(logits_BxSxV, frames_B)` → the most likely label of every frame [B, S]; those beyond the end mean nothing."""


def own_parameters(alphabet: Alphabet) -> dict[str, Any]:
    """What a fresh tree holds beside the layers: for an alphabet of ASG transition scores, else nothing.

    They begin at 0 but for those from a label to itself, 3 nats.
    """
    return {TRANSITIONS: {"scores": _STAY * jnp.eye(alphabet.size)}} if alphabet.repetitions else {}


def criterion_of(params: dict[str, Any]) -> Criterion:
    """The criterion that a network's parameters are trained with: ASG where there are transition scores, else CTC."""
    if TRANSITIONS not in params:
        return Criterion(ctc_loss, feasible, lambda logits_BxSxV, frames_B: logits_BxSxV.argmax(axis=-1))
    transitions_VxV = params[TRANSITIONS]["scores"]
    return Criterion(
        lambda emissions_BxSxV, *target: asg_loss(emissions_BxSxV, transitions_VxV, *target),
        asg_feasible,
        lambda emissions_BxSxV, frames_B: asg_viterbi(emissions_BxSxV, transitions_VxV, frames_B)[0],
    )
