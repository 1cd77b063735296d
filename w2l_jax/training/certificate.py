"""What an update costs, read from the compiled step itself and set beside what the layer table predicts."""

import dataclasses
import json
import time
from typing import Any

import jax

from w2l_jax import transfer
from w2l_jax.dataset.batches import Batch
from w2l_jax.model import LAYERS, Layer, output_frames
from w2l_jax.training.step import TrainState


def predicted_flops(table: tuple[Layer, ...], rows: int, frames: int, frozen: frozenset[int], first: int = 1) -> float:
    """FLOPs of the convolutions of one update on a batch [rows, frames] that enters at layer `first`.

    All layers from there run forward; each trained layer needs its weight gradient; each layer above the lowest
    trained one passes a gradient down. Each of the three is 2 · S · kernel · C_in · C_out per utterance.
    """
    lowest = transfer.frozen_prefix(frozen) + 1
    total = 0
    for number, layer in enumerate(table, start=1):
        once = 2 * rows * output_frames(frames) * layer.kernel * layer.channels_in * layer.channels_out
        total += once * ((number >= first) + (number not in frozen) + (number > lowest))
    return float(total)


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The cost of one update on the largest batch shape. Bytes are the compiler's own figures, for each device."""

    rows: int
    frames: int
    frozen_layers: tuple[int, ...]
    flops: float
    flops_share_of_k0: float
    temporary_bytes: int
    argument_bytes: int
    output_bytes: int
    reused_bytes: int
    optimizer_bytes: int
    frozen_parameters: int
    trained_parameters: int
    first_layer: int = 1
    """Layers below it are not run: the batch holds what they give."""
    devices: int = 1

    def to_json(self, earlier: str = "") -> str:
        """The content of a run's `certificate.json`; `earlier` content, while layers were frozen, is kept within."""
        before = json.loads(earlier or "{}")
        before = before.get("before_unfreezing", before)
        values = dataclasses.asdict(self)
        return json.dumps({**values, "before_unfreezing": before} if before else values, indent=1)

    def text(self) -> str:
        """A few lines for people."""
        mib = 2**20
        layers = ", ".join(map(str, self.frozen_layers)) or "none"
        where = f" of each of {self.devices} devices" if self.devices > 1 else ""
        skipped = f"layers 1 to {self.first_layer - 1} are not run: their output is cached\n"
        return (
            f"frozen layers: {layers} of {LAYERS} ({self.frozen_parameters:,} parameters frozen, "
            f"{self.trained_parameters:,} trained)\n"
            f"{skipped if self.first_layer > 1 else ''}"
            f"one update of {self.rows} utterances of up to {self.frames} frames: {self.flops / 1e9:,.1f} GFLOP, "
            f"{self.flops_share_of_k0:.1%} of training every layer\n"
            f"memory{where}: {self.temporary_bytes / mib:,.0f} MiB temporary, {self.argument_bytes / mib:,.0f} MiB "
            f"arguments, of which {self.reused_bytes / mib:,.0f} MiB are reused "
            f"(optimizer {self.optimizer_bytes / mib:,.0f} MiB)"
        )


def certify(
    compiled: Any,
    state: TrainState,
    table: tuple[Layer, ...],
    shape: tuple[int, int],
    frozen: frozenset[int],
    first: int = 1,
    devices: int = 1,
) -> Certificate:
    """Reads the certificate of a step compiled for `devices` and a batch of `shape` (rows, frames) entering at `first`.

    The share compares the compiled FLOPs with those the layer table predicts for the same update without freezing;
    what is not a convolution (the loss, Adam) is taken to cost the same there.
    """
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    flops = devices * float((cost[0] if isinstance(cost, list) else cost)["flops"])  # the compiler's are one device's
    saved = predicted_flops(table, *shape, frozenset()) - predicted_flops(table, *shape, frozen, first)
    trained, held = transfer.partition(state.params, frozen)
    return Certificate(
        rows=shape[0],
        frames=shape[1],
        frozen_layers=tuple(sorted(frozen)),
        flops=flops,
        flops_share_of_k0=flops / (flops + saved),
        temporary_bytes=memory.temp_size_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        reused_bytes=memory.alias_size_in_bytes,
        optimizer_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.opt_state)),
        frozen_parameters=sum(leaf.size for leaf in jax.tree.leaves(held)),
        trained_parameters=sum(leaf.size for leaf in jax.tree.leaves(trained)),
        first_layer=first,
        devices=devices,
    )


class CompiledStep:
    """A jitted step compiled ahead once per batch shape; what runs is what was certified."""

    def __init__(self, step: Any):
        self._step = step
        self._by_shape: dict[Any, Any] = {}
        self._seconds = 0.0

    def compiled(self, state: TrainState, batch: Batch) -> Any:
        """The executable for the shapes of `batch` (arrays or shapes)."""
        shape = (batch.features_BxTxM.shape, batch.labels_BxL.shape)
        if shape not in self._by_shape:
            started = time.perf_counter()
            self._by_shape[shape] = self._step.lower(state, batch).compile()
            self._seconds += time.perf_counter() - started
        return self._by_shape[shape]

    def take_compile_seconds(self) -> float:
        """Seconds spent compiling since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        return self.compiled(state, batch)(state, batch)
