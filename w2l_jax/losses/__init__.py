"""The criteria, per utterance: CTC (Graves et al. 2006) and ASG (Collobert et al. 2016), in nats."""

from w2l_jax.losses.asg import asg_feasible, asg_loss, asg_viterbi
from w2l_jax.losses.criterion import TRANSITIONS, Criterion, criterion_of, own_parameters
from w2l_jax.losses.ctc import ctc_loss, feasible, required_frames

__all__ = [
    "TRANSITIONS", "Criterion", "asg_feasible", "asg_loss", "asg_viterbi", "criterion_of", "ctc_loss", "feasible",
    "own_parameters", "required_frames",
]  # fmt: skip
