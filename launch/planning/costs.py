"""Variants of training on given data and their costs by the compiler's figures; nothing runs.

A variant is a set of training options. Bytes are those of the compiled update, FLOPs its certificate's.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from planning.plan_options import GB, PlanOptions
from w2l_jax import activations, config, freezing, model, training
from w2l_jax.activations import FrozenLayers
from w2l_jax.alphabet import Alphabet
from w2l_jax.dataset.batches import AHEAD, Source, empty_batch
from w2l_jax.errors import UserError
from w2l_jax.features import FRAME_SECONDS
from w2l_jax.reporting import Report
from w2l_jax.training import muon
from w2l_jax.training.certificate import compile_step
from w2l_jax.training.data import language_of, open_data
from w2l_jax.training.job import make_step_config
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import TrainOptions
from w2l_jax.training.step import microbatches, remat_chunks

# Placeholder for a network to adapt that has no folder yet.
SOME_RUN = "<run>"


@dataclasses.dataclass(frozen=True)
class Work:
    """The data of the updates."""

    source: Source
    alphabet: Alphabet
    """The alphabet of the network's outputs."""
    mels: int
    mean_frames: float
    """Padded frames of an average batch; the forecast of memory is for the longest."""

    @property
    def frames(self) -> int:
        """Padded frames of the longest batch."""
        return self.source.buckets[-1].frames


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one variant: GFLOP and seconds of an average update, bytes of the largest."""

    options: TrainOptions
    microbatches: int
    gflop: float
    memory: int
    disk: int = 0
    """Bytes of cached activations."""
    seconds: float = math.nan
    fill_seconds: float = 0.0

    @property
    def k(self) -> int:
        """The number of frozen layers."""
        return int(self.options.frozen_layers)

    def updates(self, hours: float) -> int:
        """The number of updates in the time left after storing activations; 0 if not timed."""
        left = hours * 3600 - self.fill_seconds
        return int(left / self.seconds) if left > 0 and self.seconds > 0 else 0

    def epochs(self, hours: float, utterances: int) -> float:
        """The number of epochs of these."""
        return self.updates(hours) * self.options.batch_size / utterances

    def text(self) -> str:
        """The variant in a few words."""
        parts = [f"k = {self.k}", self.options.compute_dtype]
        parts += ["cached"] if self.options.freeze.cache_activations else []
        parts += ["remat"] if self.options.memory.remat else []
        return ", ".join([*parts, f"{self.microbatches} microbatch{'es' if self.microbatches > 1 else ''}"])


def look_at(common: TrainOptions, report: Report) -> Work:
    """Opens the data, a manifest prepared first, and measures the batches of an epoch (64 of them at most)."""
    data = dataclasses.replace(common.data, language=language_of(common.data), dev="", old_dev="")
    opened = open_data(dataclasses.replace(common, data=data), report, None)
    source, count = opened.train, min(-(-len(opened.train.dataset) // common.batch_size), 64)
    lengths = [entry.frames for entry in source.dataset.entries]
    batches = map(opened.order.batch, range(count))
    frames = [source.shape(indices, [lengths[i] for i in indices]).frames for indices in batches]
    return Work(source, opened.alphabet, common.features.mels, sum(frames) / count)


def candidates(plan: PlanOptions, common: TrainOptions, report: Report) -> Iterator[TrainOptions]:
    """Every k in every precision, without and with cached activations; reports those that contradict the options."""
    for k in plan.ks:
        init = SOME_RUN if plan.from_scratch and k else common.init
        for dtype in plan.dtypes:
            for cached in (False, True) if k else (False,):
                changes = {"frozen_layers": str(k), "compute_dtype": dtype, "freeze.cache_activations": cached}
                changes |= {"init": init, "from_scratch": plan.from_scratch and not k}
                candidate = config.changed(common, changes)
                try:
                    training.check(candidate)
                except UserError as error:
                    report(f"skipped: k = {k}{', cached' if cached else ''}: {error}")
                else:
                    yield candidate


def frozen_layers_of(options: TrainOptions, work: Work) -> FrozenLayers:
    """The layers whose output would be cached, shapes in place of arrays."""
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), options.model, work.alphabet.size, work.mels))
    dtypes = jnp.dtype(options.compute_dtype), options.freeze.activation_dtype
    return FrozenLayers(params, options.model, int(options.frozen_layers), *dtypes)


def compiled(options: TrainOptions, work: Work) -> tuple[Any, Cost]:
    """Compiles the update for the longest batch; returns it and its forecast.

    Memory counts everything an update holds at once: state, temporaries, its batch and the next ones, and resident
    features. With cached activations it is the larger of this and of computing them.
    """
    frozen = freezing.parse_layers(options.frozen_layers)
    step_config, rows, bucket = make_step_config(options, frozen), options.batch_size, work.source.buckets[-1]
    record, layers = work.source.dataset.record, None
    if options.freeze.cache_activations:
        layers = frozen_layers_of(options, work)
        record, step_config = layers.record, dataclasses.replace(step_config, first_layer=layers.count + 1)
    step, analysis = compile_step(make_optimizer(options, frozen), step_config, rows, bucket, work.alphabet, work.mels)
    batch = sum(x.nbytes for x in jax.tree.leaves(empty_batch(rows, bucket, record)))
    memory = analysis.temporary_bytes + analysis.argument_bytes + analysis.output_bytes - analysis.reused_bytes
    memory += _following() * batch
    parts, disk = microbatches(rows, bucket.frames, options.memory.max_microbatch_frames), 0
    if layers:
        disk = activations.size(work.source.dataset, layers)
    memory += (disk or work.source.bytes) if options.memory.resident == "on" else 0
    if layers:
        memory = max(memory, analysis.argument_bytes - batch + _filling(layers, rows // parts, work))
    fixed = fixed_flops(options, work)
    gflop = ((analysis.flops - fixed) * work.mean_frames / bucket.frames + fixed) / 1e9
    return step, Cost(options, parts, gflop, memory, disk)


def fixed_flops(options: TrainOptions, work: Work) -> float:
    """The FLOPs of an update that do not grow with its utterances, if significant: Muon's."""
    table = model.layers(options.model, work.alphabet.size, work.mels)
    frozen = freezing.parse_layers(options.frozen_layers)
    return muon.flops(table, frozen) if options.optimizer.name == "muon" else 0.0


def _following() -> int:
    """Batches in memory besides the update's: the previous one, waiting ones, the next one, on a CPU its copy."""
    return 1 + AHEAD + 1 + (jax.default_backend() == "cpu")


def _filling(layers: FrozenLayers, rows: int, work: Work) -> int:
    """Bytes to compute the activations of `rows` utterances, besides the network's."""
    rows, bucket = activations.rows_at_once(rows), work.source.buckets[-1]
    analysis = activations.compile_filling(layers, rows, bucket.frames, work.mels).memory_analysis()
    batch = sum(x.nbytes for x in jax.tree.leaves(empty_batch(rows, bucket, work.source.dataset.record)))
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes + (1 + _following()) * batch


def forecasts(plan: PlanOptions, common: TrainOptions, work: Work, memory: int, report: Report) -> list[Cost]:
    """The costs of all variants, each in as few microbatches as fit `memory`, or its least if none do.

    `remat` is tried if microbatches would have to be smaller than `remat`'s own pieces, or do not help: else it costs
    more FLOPs and memory than they do. Raises UserError if nothing fits.
    """
    costs: list[Cost] = []
    for candidate in candidates(plan, common, report):
        variant = _fitting(candidate, work, memory, report)
        costs.append(variant)
        if variant.memory > memory or variant.microbatches > remat_chunks(candidate.batch_size):
            costs.append(_fitting(config.changed(candidate, {"memory.remat": True}), work, memory, report))
    if not costs:
        raise UserError(f"none of --frozen_layers={plan.frozen_layers} agrees with the other options (see above)")
    if common.memory.resident == "auto" and jax.default_backend() != "cpu":
        costs = [with_features(cost, work, memory) for cost in costs]
    least = min(costs, key=lambda cost: cost.memory)
    if least.memory > memory:
        raise UserError(
            f"nothing fits {memory / GB:.3g} GB: the least is {math.ceil(least.memory / 1e6):,} MB ({least.text()}, "
            f"up to {work.frames * FRAME_SECONDS:.0f} s of speech each). Give more --memory, freeze more "
            "--frozen_layers, omit the longest recordings (data.max_seconds), or choose a smaller --batch_size or "
            "network"
        )
    return costs


def with_features(cost: Cost, work: Work, memory: int) -> Cost:
    """The cost with features, or cached activations, on the device if they fit, else without."""
    total = cost.memory + (cost.disk or work.source.bytes)
    resident = "on" if total <= memory else "off"
    options = config.changed(cost.options, {"memory.resident": resident})
    return dataclasses.replace(cost, options=options, memory=total if resident == "on" else cost.memory)


def _fitting(options: TrainOptions, work: Work, memory: int, report: Report) -> Cost:
    """The cost in as few microbatches as fit, or in as many as possible."""

    def cost(parts: int) -> Cost:
        limit = rows // parts * work.frames if parts > 1 else 0
        variant = compiled(config.changed(options, {"memory.max_microbatch_frames": limit}), work)[1]
        report(f"compiled: {variant.text()}: {variant.memory / GB:.3g} GB")
        return variant

    rows = options.batch_size
    undivided = cost(1)
    if undivided.memory <= memory or rows == 1:
        return undivided
    least = cost(rows)
    if least.memory > memory:
        return least
    # Bytes are nearly linear in the rows of a microbatch, so hopeless sizes need not be compiled.
    room = 1 + (rows - 1) * (memory - least.memory) / max(undivided.memory - least.memory, 1)
    for parts in (m for m in range(2, rows) if rows % m == 0 and rows // m <= room):
        if (variant := cost(parts)).memory <= memory:
            return variant
    return least
