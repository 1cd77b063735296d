"""One update of the trained layers: jitted, its state donated, the frozen layers outside differentiation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from w2l_jax import freezing, losses, model
from w2l_jax.dataset.batches import Batch
from w2l_jax.model import LAYERS, WIDE, ModelConfig, Params
from w2l_jax.training import augment
from w2l_jax.training.options import AugmentOptions


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
        """The weights to evaluate and store: the average if there is one."""
        return {**self.params, **(self.average or {})}


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """Everything the compiled step depends on besides shapes."""

    model: ModelConfig
    frozen: frozenset[int] = frozenset()
    first_layer: int = 1
    """The first layer to run: 1 on features, k + 1 on the activations of layer k, the highest of the frozen prefix."""
    dtype: Any = jnp.float32
    seed: int = 0
    max_microbatch_frames: int = 0
    remat: bool = False
    unfold: bool = False
    average_decay: float = 0.0
    augment: AugmentOptions = AugmentOptions()
    mesh: Mesh | None = None
    """The devices that share the rows of a batch (None: the batch's own device)."""

    @property
    def devices(self) -> int:
        """The number of these devices."""
        return self.mesh.size if self.mesh else 1


def init_state(
    params: Params, optimizer: optax.GradientTransformation, frozen: frozenset[int], average: bool = False
) -> TrainState:
    """The state before the first update; frozen layers get no optimizer state and no `average`."""
    mean = jax.tree.map(jnp.array, freezing.partition(params, frozen)[0]) if average else None
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32), mean)


def unfrozen(state: TrainState, optimizer: optax.GradientTransformation) -> TrainState:
    """`state` with all layers trained by `optimizer`: existing state is kept; newly trained layers get fresh state.

    Their average starts at their weights, as if it had existed from the first update.
    """
    fresh = init_state(state.params, optimizer, frozenset(), state.average is not None)
    existing = dict(jax.tree_util.tree_leaves_with_path(state))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: existing.get(path, leaf), fresh)


def to_resume(state: TrainState, frozen: frozenset[int]) -> Any:
    """What a checkpoint needs besides `best_params`: optimizer state and, if those are averages, the last weights."""
    return state.opt_state if state.average is None else (state.opt_state, freezing.partition(state.params, frozen)[0])


def resumed(best_params: Params, stored: Any, step: int, average: bool, frozen: frozenset[int]) -> TrainState:
    """The state from a checkpoint's `best_params` and `to_resume`."""
    if not average:
        return TrainState(best_params, stored, jnp.int32(step))
    opt_state, last = stored
    mean, _ = freezing.partition(best_params, frozen)
    return TrainState({**best_params, **last}, opt_state, jnp.int32(step), mean)


def microbatches(rows: int, frames: int, limit: int) -> int:
    """The number of equal microbatches of a batch [rows, frames] with at most `limit` padded frames each."""
    if limit <= 0:
        return 1
    divisors = [m for m in range(1, rows + 1) if rows % m == 0]
    return next((m for m in divisors if rows // m * frames <= limit), rows)


def remat_chunks(rows: int) -> int:
    """The number of equal parts of `rows` for `remat`: 8, or the next divisor; more would save little."""
    return next((m for m in range(8, rows) if rows % m == 0), rows)


def split_rows(tree: Any, parts: int, devices: int = 1) -> Any:
    """Splits arrays [B, …] into [parts, B / parts, …]; `merge_rows` undoes it.

    With several `devices`, each part has equally many rows of every device, so that no row moves and no device waits.
    """

    def split(x: jax.Array) -> jax.Array:
        rest = x.shape[1:]
        return x.reshape(devices, parts, -1, *rest).swapaxes(0, 1).reshape(parts, -1, *rest)

    return jax.tree.map(split, tree)


def merge_rows(x: jax.Array, devices: int = 1) -> jax.Array:
    """Merges [parts, B / parts, …] of `split_rows` into [B, …]."""
    parts, _, *rest = x.shape
    return x.reshape(parts, devices, -1, *rest).swapaxes(0, 1).reshape(-1, *rest)


def forward(params: Params, batch: Batch, config: StepConfig, dropout_rng: jax.Array | None = None) -> jax.Array:
    """Logits [B, S, V]; no gradient flows into the frozen prefix of layers.

    With `remat` the trained wide layers run on a few utterances at a time, and again in the backward pass.
    """

    def run(x, frames_B, first, last):
        common = {"dtype": config.dtype, "dropout_rng": dropout_rng, "unfold": config.unfold}
        return model.apply(params, x, frames_B, config.model, first=first, last=last, **common)

    k = freezing.frozen_prefix(config.frozen)
    x, frames_B = batch.features_BxTxM, batch.frames_B
    if k >= config.first_layer:
        x = lax.stop_gradient(run(x, frames_B, config.first_layer, k))
    if not config.remat:
        return run(x, frames_B, k + 1, LAYERS)
    if k + 1 < WIDE:
        x = run(x, frames_B, k + 1, WIDE - 1)
    # A loop, because on CPUs XLA merges a plain recomputation with the first computation and frees nothing.
    wide = jax.checkpoint(lambda part: run(*part, max(k + 1, WIDE), LAYERS), prevent_cse=False)
    chunks = remat_chunks(len(frames_B) // config.devices)
    return merge_rows(lax.map(wide, split_rows((x, frames_B), chunks, config.devices)), config.devices)


def make_step(
    optimizer: optax.GradientTransformation, config: StepConfig, rate: Callable[[Any], jax.Array] | None = None
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns the jitted update `(state, batch) → (state, metrics)`; the old state is donated.

    Metrics are scalars: `loss` (mean over feasible utterances, nats), `gradient_norm` (trained layers), `infeasible`
    (utterances without loss), `skipped` (1 if the gradient was not finite: then only `step` changes, so that one
    overflowing utterance cannot destroy the network) and, with `rate(optimizer state)`, `learning_rate`. Only trained
    layers are differentiated: weight gradients of frozen layers, and any gradient below the lowest trained one, are
    never computed, and frozen arrays pass through unchanged.
    """

    out_shardings = NamedSharding(config.mesh, PartitionSpec()) if config.mesh else None

    def loss_sum(trained: Params, frozen: Params, batch: Batch, rng: jax.Array):
        augment_rng, dropout_rng = jax.random.split(rng)
        batch = batch._replace(features_BxTxM=augment.in_step(augment_rng, batch, config.augment))
        params = {**trained, **frozen}
        logits_BxSxV = forward(params, batch, config, dropout_rng if config.model.dropout else None)
        target = (model.output_frames(batch.frames_B), batch.labels_BxL, batch.label_lengths_B)
        criterion = losses.criterion_of(params)
        count = criterion.feasible(logits_BxSxV, *target).sum(dtype=jnp.int32)
        return criterion.loss(logits_BxSxV, *target).sum(), count

    def gradients(trained: Params, frozen: Params, batch: Batch, rng: jax.Array):
        rows, length = batch.features_BxTxM.shape[:2]
        frames = length if config.first_layer == 1 else model.STRIDE * length
        parts = microbatches(rows // config.devices, frames, config.max_microbatch_frames)
        value_and_grad = jax.value_and_grad(loss_sum, has_aux=True)
        if parts == 1:
            (loss, count), grads = value_and_grad(trained, frozen, batch, rng)
        else:
            pieces = split_rows(batch, parts, config.devices)

            def add(total, piece):
                part, i = piece
                (loss, count), grads = value_and_grad(trained, frozen, part, jax.random.fold_in(rng, i))
                return jax.tree.map(jnp.add, total, (loss, count, grads)), None

            zero = (jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, trained))
            (loss, count, grads), _ = lax.scan(add, zero, (pieces, jnp.arange(parts)))
        feasible = jnp.maximum(count, 1)
        return loss / feasible, count, jax.tree.map(lambda g: g / feasible, grads)

    def step(state: TrainState, batch: Batch):
        trained, frozen = freezing.partition(state.params, config.frozen)
        rng = jax.random.fold_in(jax.random.key(config.seed), state.step)
        loss, count, grads = gradients(trained, frozen, batch, rng)
        # The optimizer needs the whole tree; frozen leaves get zeros, whose updates are never read.
        all_grads = {**grads, **jax.tree.map(jnp.zeros_like, frozen)}
        updates, opt_state = optimizer.update(all_grads, state.opt_state, state.params)
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
        if rate:
            metrics["learning_rate"] = rate(state.opt_state)
        average = state.average
        if average is not None:
            # The initial weights, far from the result, are forgotten quickly.
            decay = jnp.minimum(config.average_decay, (1 + state.step) / (10 + state.step))
            decay = jnp.where(usable, decay, 1.0)
            average = jax.tree.map(lambda mean, new: decay * mean + (1 - decay) * new, average, moved)
        return TrainState({**moved, **frozen}, opt_state, state.step + 1, average), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=out_shardings)
