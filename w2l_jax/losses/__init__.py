"""The criteria, per utterance: CTC (Graves et al. 2006) and ASG (Collobert et al. 2016), in nats."""

from w2l_jax.losses.ctc import ctc_loss, feasible, required_frames

__all__ = ["ctc_loss", "feasible", "required_frames"]
