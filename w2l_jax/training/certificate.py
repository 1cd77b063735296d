"""The cost of an update, read from the compiled step and compared with the layer table's prediction."""

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import jax
import optax

from w2l_jax import freezing, model, transfer
from w2l_jax.alphabet import Alphabet
from w2l_jax.dataset.batches import Batch, Bucket, empty_batch
from w2l_jax.dataset.shards import Record
from w2l_jax.model import LAYERS, WIDE, Layer, output_frames
from w2l_jax.reporting import Report
from w2l_jax.training.step import StepConfig, TrainState, init_state, make_step, microbatches, remat_chunks
from w2l_jax.workers import usable_cores


def predicted_flops(
    table: tuple[Layer, ...],
    rows: int,
    frames: int,
    frozen: frozenset[int],
    first: int = 1,
    *,
    remat: bool = False,
    loops: bool = True,
) -> float:
    """FLOPs of the convolutions of one update on a batch [rows, frames] that enters at layer `first`.

    All layers from there run forward; each trained layer needs its weight gradient; each layer above the lowest trained
    one passes a gradient down; with `remat` the wide layers above the frozen ones run forward twice. Each of these is 2
    · S · kernel · C_in · C_out per utterance. Without `loops` the body of `remat`'s loop counts once.
    """
    lowest = freezing.frozen_prefix(frozen) + 1
    total = 0.0
    for number, layer in enumerate(table, start=1):
        once = 2 * rows * output_frames(frames) * layer.kernel * layer.channels_in * layer.channels_out
        looped = remat and number >= max(lowest, WIDE)
        times = (number >= first) + (number not in frozen) + (number > lowest) + looped
        total += once * times / (remat_chunks(rows) if looped and not loops else 1)
    return total


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The cost of one update on the largest batch shape. Bytes are the compiler's figures per device."""

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
    """Layers below it are not run: the batch holds their output."""
    devices: int = 1

    def to_json(self, earlier: Mapping[str, Any] = MappingProxyType({})) -> str:
        """The content of a run's `certificate.json`; includes `earlier` content from before layers were unfrozen."""
        before = dict(earlier.get("before_unfreezing", earlier))
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
            f"arguments, of which {self.reused_bytes / mib:,.0f} MiB are donated "
            f"(optimizer "
            f"{self.optimizer_bytes / mib:,.0f} MiB)"
        )


def certify(
    compiled: Any, state: TrainState, table: tuple[Layer, ...], shape: tuple[int, int], config: StepConfig
) -> Certificate:
    """Reads the certificate of the step that `config` describes, compiled for a batch of `shape` (rows, frames).

    The compiler counts the body of a loop once: the repetitions of microbatches and `remat` are added from the layer
    table. The share compares the FLOPs with the layer table's for the same update without freezing or `remat`, where
    everything but convolutions (loss, Adam) is assumed to cost the same. Muon's saved work on frozen kernels is not
    counted, so with Muon the share is too high.
    """
    frozen, (rows, frames) = config.frozen, shape
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    predicted = predicted_flops(table, *shape, frozen, config.first_layer, remat=config.remat)
    share = rows // config.devices
    part = share // microbatches(share, frames, config.max_microbatch_frames)
    counted = predicted_flops(table, part, frames, frozen, config.first_layer, remat=config.remat, loops=False)
    reported = float((cost[0] if isinstance(cost, list) else cost)["flops"])  # one device's
    flops = predicted + config.devices * (reported - counted)
    saved = predicted_flops(table, *shape, frozenset()) - predicted
    trained, held = freezing.partition(state.params, frozen)
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
        first_layer=config.first_layer,
        devices=config.devices,
    )


def compile_step(
    optimizer: optax.GradientTransformation,
    config: StepConfig,
    rows: int,
    bucket: Bucket,
    alphabet: Alphabet,
    mels: int = 128,
) -> tuple[Any, Certificate]:
    """Compiles an update for `rows` utterances padded to `bucket`; allocates and runs nothing.

    `alphabet` determines outputs and criterion; a batch that enters above layer 1 holds float16 activations. Returns
    the executable `(state, batch) → (state, metrics)` and its certificate.
    """
    params = jax.eval_shape(lambda: transfer.init(jax.random.key(0), config.model, alphabet, mels))
    state = jax.eval_shape(lambda p: init_state(p, optimizer, config.frozen, config.average_decay > 0), params)
    table = model.layers(config.model, alphabet.size, mels)
    record = Record(mels)
    if config.first_layer > 1:
        record = Record(table[config.first_layer - 2].channels_out, stride=model.STRIDE)
    batch = jax.eval_shape(lambda: empty_batch(rows, bucket, record, config.augment.speed > 0))
    compiled = make_step(optimizer, config).lower(state, batch).compile()
    return compiled, certify(compiled, state, table, (rows, bucket.frames), config)


def _shape(batch: Batch) -> tuple[tuple[int, ...], ...]:
    return batch.features_BxTxM.shape, batch.labels_BxL.shape


class CompiledStep:
    """A jitted step compiled ahead of time, once per batch shape; the certified executable is the one that runs."""

    def __init__(self, step: Any):
        self._step = step
        self._by_shape: dict[Any, Any] = {}
        self._seconds = 0.0

    def prepare(self, state: TrainState, batches: Sequence[Batch], report: Report) -> Iterator[Any]:
        """Compiles for the shapes of all `batches` at once; yields the executables in their order.

        `report` is told of the start and, with several shapes, of each finished one.
        """
        count, started = len(batches), time.perf_counter()
        what = "the update" if count == 1 else f"the update for {count} padded shapes, longest first"
        report(f"compiling {what}: minutes the first time, later read from a cache")
        threads = ThreadPoolExecutor(min(count, usable_cores()), "compile")
        try:
            # Tracing holds Python's lock, so it is done here, one shape at a time; XLA compiles in threads.
            running = [threads.submit(self._step.lower(state, batch).compile) for batch in batches]
            for done, (batch, compiling) in enumerate(zip(batches, running, strict=True), start=1):
                self._by_shape[_shape(batch)] = compiling.result()
                seconds, frames = time.perf_counter() - started, batch.features_BxTxM.shape[1]
                if count > 1:
                    report(f"compiled {done} of {count} shapes after {seconds:.0f} s: up to {frames} frames")
                yield self._by_shape[_shape(batch)]
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def compiled(self, state: TrainState, batch: Batch) -> Any:
        """The executable for the shapes of `batch` (arrays or shapes)."""
        shape = _shape(batch)
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
