"""The criteria, per utterance: CTC (Graves et al. 2006) and ASG (Collobert et al. 2016), in nats."""

from w2l_jax.losses.asg import asg_feasible, asg_loss, asg_viterbi
from w2l_jax.losses.ctc import ctc_loss, feasible, required_frames

__all__ = ["asg_feasible", "asg_loss", "asg_viterbi", "ctc_loss", "feasible", "required_frames"]
