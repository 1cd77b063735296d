"""The jitted step, the loop around it, and the certificate of a step's cost."""

from w2l_jax.training.checks import check
from w2l_jax.training.job import Job, create
from w2l_jax.training.loop import Result, train
from w2l_jax.training.options import TrainOptions
from w2l_jax.training.position import Position

__all__ = ["Job", "Position", "Result", "TrainOptions", "check", "create", "train"]
