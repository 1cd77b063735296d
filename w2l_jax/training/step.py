"""One update of the trained layers: jitted, its state donated, the frozen layers outside differentiation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax

from w2l_jax import losses, model, transfer
from w2l_jax.dataset.batches import Batch
from w2l_jax.model import LAYERS, WIDE, ModelConfig, Params
from w2l_jax.training.augment import spec_augment
from w2l_jax.training.options import AugmentOptions, TrainOptions


@flax.struct.dataclass
class TrainState:
    """All that changes in training. `step` counts finished updates (int32)."""

    params: Params
    opt_state: Any
    step: jax.Array
    average: Params | None = None
    """Moving average of the trained layers, where one is kept."""

    @property
    def best_params(self) -> Params:
        """The weights to evaluate and to keep: averaged ones where there are such."""
        return {**self.params, **(self.average or {})}


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What the compiled step depends on besides shapes."""

    model: ModelConfig
    frozen: frozenset[int] = frozenset()
    dtype: Any = jnp.float32
    seed: int = 0
    max_microbatch_frames: int = 0
    remat: bool = False
    average_decay: float = 0.0
    augment: AugmentOptions = AugmentOptions()


def learning_rate_schedule(options: TrainOptions) -> optax.Schedule:
    """α over updates: linear warm-up from 0, then constant, or falling to 0 at `steps`."""
    peak, warmup = options.learning_rate, options.warmup_steps
    rest = max(options.steps - warmup, 1)
    tail = {
        "none": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, 0.0, rest),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest),
    }[options.decay]()
    # The first update already moves: α/(warmup+1), not 0.
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rise, tail], [warmup]) if warmup else tail


def make_optimizer(options: TrainOptions) -> optax.GradientTransformation:
    """The paper's Adam (§3), after clipping by the norm of the trained layers' gradient where asked for.

    With weight decay it is AdamW (Loshchilov and Hutter 2019) on kernels; biases do not decay.
    """
    settings = learning_rate_schedule(options), options.beta1, options.beta2, options.epsilon
    adam = optax.adam(*settings)
    if options.weight_decay > 0:
        adam = optax.adamw(*settings, weight_decay=options.weight_decay, mask=_is_kernel)
    return optax.chain(optax.clip_by_global_norm(options.clip_norm), adam) if options.clip_norm > 0 else adam


def _is_kernel(params: Params) -> Params:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def init_state(
    params: Params, optimizer: optax.GradientTransformation, frozen: frozenset[int], average: bool = False
) -> TrainState:
    """The state before the first update; frozen layers get no optimizer state and no `average`."""
    opt_state = transfer.optimizer(optimizer, params, frozen).init(params)
    mean = jax.tree.map(jnp.array, transfer.partition(params, frozen)[0]) if average else None
    return TrainState(params, opt_state, jnp.zeros((), jnp.int32), mean)


def to_resume(state: TrainState, frozen: frozenset[int]) -> Any:
    """What a checkpoint needs beside `best_params`: optimizer state and, where those are averages, the last weights."""
    return state.opt_state if state.average is None else (state.opt_state, transfer.partition(state.params, frozen)[0])


def resumed(best_params: Params, stored: Any, step: int, average: bool, frozen: frozenset[int]) -> TrainState:
    """The state that a checkpoint's `best_params` and `to_resume` were made of."""
    if not average:
        return TrainState(best_params, stored, jnp.int32(step))
    opt_state, last = stored
    mean, _ = transfer.partition(best_params, frozen)
    return TrainState({**best_params, **last}, opt_state, jnp.int32(step), mean)


def microbatches(rows: int, frames: int, limit: int) -> int:
    """Into how many equal parts a batch [rows, frames] is cut so that each has at most `limit` padded frames."""
    if limit <= 0:
        return 1
    divisors = [m for m in range(1, rows + 1) if rows % m == 0]
    return next((m for m in divisors if rows // m * frames <= limit), rows)


def remat_chunks(rows: int) -> int:
    """Into how many equal parts `remat` cuts `rows`: 8, or as few more as divide them; more would save little."""
    return next((m for m in range(8, rows) if rows % m == 0), rows)


def _cut(tree: Any, parts: int) -> Any:
    """Arrays [B, …] as [parts, B / parts, …]."""
    return jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), tree)


def forward(params: Params, batch: Batch, config: StepConfig, dropout_rng: jax.Array | None = None) -> jax.Array:
    """Logits [B, S, V]; no gradient flows into the unbroken run of frozen layers at the bottom.

    With `remat` the trained ones of the wide layers run on a few utterances at a time, forward and, again, backward.
    """

    def run(x, frames_B, first, last):
        common = {"dtype": config.dtype, "dropout_rng": dropout_rng}
        return model.apply(params, x, frames_B, config.model, first=first, last=last, **common)

    k = transfer.frozen_prefix(config.frozen)
    x, frames_B = batch.features_BxTxM, batch.frames_B
    if k:
        x = lax.stop_gradient(run(x, frames_B, 1, k))
    if not config.remat:
        return run(x, frames_B, k + 1, LAYERS)
    if k + 1 < WIDE:
        x = run(x, frames_B, k + 1, WIDE - 1)
    # A loop, because XLA merges a plain second computation with the first on CPU and frees nothing.
    wide = jax.checkpoint(lambda part: run(*part, max(k + 1, WIDE), LAYERS), prevent_cse=False)
    logits = lax.map(wide, _cut((x, frames_B), remat_chunks(len(frames_B))))
    return logits.reshape(-1, *logits.shape[2:])


def make_step(
    optimizer: optax.GradientTransformation, config: StepConfig
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns the jitted update `(state, batch) → (state, metrics)`; the old state's buffers are reused.

    Metrics are scalars: `loss` (mean over feasible utterances, nats), `gradient_norm` (trained layers), `infeasible`
    (utterances without loss), `skipped` (1 where the gradient was not finite: one utterance whose activations
    overflow must not destroy the network, so nothing but `step` changes then). Only the trained layers are
    differentiated, so neither weight gradients of frozen layers nor anything below the lowest trained one is computed,
    and frozen arrays pass through untouched.
    """

    def loss_sum(trained: Params, frozen: Params, batch: Batch, rng: jax.Array):
        augment_rng, dropout_rng = jax.random.split(rng)
        features = spec_augment(augment_rng, batch.features_BxTxM, batch.frames_B, config.augment)
        batch = batch._replace(features_BxTxM=features)
        logits_BxSxV = forward({**trained, **frozen}, batch, config, dropout_rng if config.model.dropout else None)
        target = (model.output_frames(batch.frames_B), batch.labels_BxL, batch.label_lengths_B)
        return losses.ctc_loss(logits_BxSxV, *target).sum(), losses.feasible(*target).sum()

    def gradients(trained: Params, frozen: Params, batch: Batch, rng: jax.Array):
        parts = microbatches(*batch.features_BxTxM.shape[:2], config.max_microbatch_frames)
        value_and_grad = jax.value_and_grad(loss_sum, has_aux=True)
        if parts == 1:
            (loss, count), grads = value_and_grad(trained, frozen, batch, rng)
        else:
            pieces = _cut(batch, parts)

            def add(total, piece):
                part, i = piece
                (loss, count), grads = value_and_grad(trained, frozen, part, jax.random.fold_in(rng, i))
                return jax.tree.map(jnp.add, total, (loss, count, grads)), None

            zero = (jnp.zeros(()), jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, trained))
            (loss, count, grads), _ = lax.scan(add, zero, (pieces, jnp.arange(parts)))
        feasible = jnp.maximum(count, 1)
        return loss / feasible, count, jax.tree.map(lambda g: g / feasible, grads)

    def step(state: TrainState, batch: Batch):
        trained, frozen = transfer.partition(state.params, config.frozen)
        rng = jax.random.fold_in(jax.random.key(config.seed), state.step)
        loss, count, grads = gradients(trained, frozen, batch, rng)
        # multi_transform wants the whole tree; what stands for frozen leaves is never read (set_to_zero).
        whole = {**grads, **jax.tree.map(jnp.zeros_like, frozen)}
        transform = transfer.optimizer(optimizer, state.params, config.frozen)
        updates, opt_state = transform.update(whole, state.opt_state, state.params)
        moved = optax.apply_updates(trained, {name: updates[name] for name in trained})
        norm = optax.tree.norm(grads)
        usable = jnp.isfinite(norm)
        moved, opt_state = jax.tree.map(
            lambda new, old: jnp.where(usable, new, old), (moved, opt_state), (trained, state.opt_state)
        )
        metrics = {
            "loss": loss,
            "gradient_norm": norm,
            "infeasible": batch.frames_B.shape[0] - count,
            "skipped": 1 - usable,
        }
        average = state.average
        if average is not None:
            # The first weights, far from where training leads, are forgotten quickly.
            decay = jnp.minimum(config.average_decay, (1 + state.step) / (10 + state.step))
            average = jax.tree.map(lambda mean, new: decay * mean + (1 - decay) * new, average, moved)
        return TrainState({**moved, **frozen}, opt_state, state.step + 1, average), metrics

    return jax.jit(step, donate_argnums=0)
