"""The optimizer of a training run."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from w2l_jax import freezing
from w2l_jax.model import Params
from w2l_jax.training.options import TrainOptions


def learning_rate_schedule(options: TrainOptions) -> optax.Schedule:
    """α over updates: linear warm-up from 0, then constant, or falling to 0 at `steps`."""
    peak, warmup = options.learning_rate, options.optimizer.warmup_steps
    rest = max(options.steps - warmup, 1)
    tail = {
        "none": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, 0.0, rest),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest),
    }[options.optimizer.decay]()
    # The first update uses α/(warmup+1), not 0.
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rise, tail], [warmup]) if warmup else tail


def applied_rate(options: TrainOptions, opt_state: Any) -> jax.Array:
    """The learning rate of the update that starts from `opt_state`: skipped updates do not advance its schedule."""

    def counts(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    (state,) = filter(counts, jax.tree.leaves(opt_state, is_leaf=counts))
    return jnp.float32(learning_rate_schedule(options)(state.count))


def make_optimizer(
    options: TrainOptions, frozen: frozenset[int], late: frozenset[int] = frozenset()
) -> optax.GradientTransformation:
    """The paper's Adam (§3), or Muon, on all but the `frozen` layers; `late` layers have a separate state.

    Optional clipping comes first, by the norm over all trained layers (frozen gradients are 0 here); the learning rate,
    the same for all, comes last. Weight decay is AdamW's (Loshchilov and Hutter 2019), on the trained kernels only.
    """
    group = options.optimizer
    clip = optax.clip_by_global_norm(group.clip_norm) if group.clip_norm > 0 else optax.identity()
    inner = optax.scale_by_adam(group.beta1, group.beta2, group.epsilon)
    if group.name == "muon":
        from w2l_jax.training import muon

        inner = muon.transformation(inner)
    if group.weight_decay > 0:
        inner = optax.chain(inner, optax.add_decayed_weights(group.weight_decay, mask=_is_kernel))
    rate = optax.scale_by_learning_rate(learning_rate_schedule(options))
    return optax.chain(clip, freezing.freeze(inner, frozen, late=late), rate)


def _is_kernel(params: Params) -> Params:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
