"""Criteria per utterance, in nats: CTC (Graves et al. 2006); ASG is in `losses.asg`."""

from w2l_jax.losses.criterion import TRANSITIONS, Criterion, criterion_of, own_parameters
from w2l_jax.losses.ctc import ctc_loss, feasible, required_frames

__all__ = ["TRANSITIONS", "Criterion", "criterion_of", "ctc_loss", "feasible", "own_parameters", "required_frames"]
