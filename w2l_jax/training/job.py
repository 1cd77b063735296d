"""Builds a training job from options: data, alphabet, network, optimizer and run folder."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from w2l_jax import freezing, model, transfer
from w2l_jax.activations import FrozenLayers, on_activations
from w2l_jax.alphabet import Alphabet
from w2l_jax.config import differences, from_table, to_toml
from w2l_jax.dataset.batches import Source
from w2l_jax.dataset.order import MixedOrder, Order
from w2l_jax.errors import UserError
from w2l_jax.files import read, write_atomically
from w2l_jax.model import LAYERS
from w2l_jax.recognizer import Recognizer
from w2l_jax.reporting import Progress, Report
from w2l_jax.run import Run
from w2l_jax.training.data import Data, open_data
from w2l_jax.training.devices import Devices
from w2l_jax.training.frozen import remember
from w2l_jax.training.optimizer import make_optimizer
from w2l_jax.training.options import TrainOptions
from w2l_jax.training.resolve import Resolved, resolve, resumes
from w2l_jax.training.step import StepConfig, TrainState, init_state, microbatches, resumed, to_resume, unfrozen


@dataclasses.dataclass(frozen=True)
class Job:
    """A training job ready to run. `meta` is the position to start at (empty for a new run).

    `frozen` layers do not train now, `late` layers did not until `unfreeze_after`. `lock`, held by the first process,
    keeps others from the run folder; `train` closes it.
    """

    options: TrainOptions
    run: Run
    alphabet: Alphabet
    train: Source
    dev: Source | None
    old_dev: Source | None
    order: Order | MixedOrder
    frozen: frozenset[int]
    late: frozenset[int]
    optimizer: optax.GradientTransformation
    step_config: StepConfig
    devices: Devices
    state: TrainState
    meta: dict[str, Any]
    lock: contextlib.ExitStack


def phase(layers: frozenset[int], unfreeze_after: int, step: int) -> tuple[frozenset[int], frozenset[int]]:
    """The frozen and the late layers after `step` updates; at `unfreeze_after` the late ones still have no moments."""
    return (frozenset(), layers) if 0 < unfreeze_after < step else (layers, frozenset())


def unfreeze(job: Job, state: TrainState) -> tuple[Job, TrainState]:
    """The job and the state after its last frozen update, with every layer trained from now on."""
    frozen, late = frozenset(), job.frozen
    optimizer = make_optimizer(job.options, frozen, late)
    config = dataclasses.replace(job.step_config, frozen=frozen)
    job = dataclasses.replace(job, frozen=frozen, late=late, optimizer=optimizer, step_config=config)
    return job, unfrozen(state, optimizer)


def create(options: TrainOptions, report: Report = print, progress: Progress | None = None) -> Job:
    """Opens the data (preparing manifests), the network to adapt, and the run folder, new or resumed.

    `report` takes lines for the user, `progress` that of preparation. Raises UserError for anything that does not fit.
    """
    resolved = resolve(options, report)
    devices = Devices.choose(options.devices.count, options.batch_size, report)
    with contextlib.ExitStack() as lock:
        _take(lock, resolved.options, options.resume, devices)
        return _create(resolved, devices, lock, report, progress)


def _take(lock: contextlib.ExitStack, options: TrainOptions, asked: bool, devices: Devices) -> None:
    """Locks the run in the first process before writing to it; raises UserError in all processes on failure."""
    refusal = ""
    if devices.first:
        try:
            lock.enter_context(Run(Path(options.run)).locked())
            # Another process may have begun or trained it meanwhile.
            if resumes(options.run, asked) != options.resume:
                refusal = f"{options.run}: another process has just trained this run; start again"
        except UserError as error:
            refusal = str(error)
    if refusal := devices.consensus(refusal):
        raise UserError(refusal)


def _create(
    resolved: Resolved, devices: Devices, lock: contextlib.ExitStack, report: Report, progress: Progress | None
) -> Job:
    options, layers, base = resolved
    data = open_data(options, report, progress)
    step = Run.open(options.run).position()["step"] if options.resume else 0
    frozen, late = phase(layers, options.freeze.unfreeze_after, step)
    optimizer = make_optimizer(options, frozen, late)
    step_config = make_step_config(options, frozen, devices.mesh)
    if options.resume:
        run, state, meta = _resumed(options, frozen, optimizer, data.fingerprints, devices, report)
    else:
        params, remap = _initial_params(options, base, data.alphabet, frozen)
        state = init_state(params, optimizer, frozen, options.optimizer.average_decay > 0)
    if options.freeze.cache_activations:
        data, step_config = _cached(options, state.params, data, step_config, report, progress)
    if not options.resume:
        if remap:
            report(remap.text())
        if devices.first:
            _write_run(options, data, remap)
            if options.freeze.verify:
                remember(Path(options.run), params, frozen)
        devices.consensus()
        run, meta = Run.open(options.run), {}
    state = devices.replicate(state)
    sources = (data.train, data.dev, data.old_dev, data.order)
    training = (optimizer, step_config, devices, state, meta, lock.pop_all())
    return Job(options, run, data.alphabet, *sources, frozen, late, *training)


def make_step_config(options: TrainOptions, frozen: frozenset[int], mesh: Mesh | None = None) -> StepConfig:
    """What `options` say about the compiled step, on batches of features, with these layers frozen."""
    return StepConfig(
        model=options.model,
        frozen=frozen,
        dtype=jnp.dtype(options.compute_dtype),
        seed=options.seed,
        max_microbatch_frames=options.memory.max_microbatch_frames,
        remat=options.memory.remat,
        unfold=options.memory.unfold,
        average_decay=options.optimizer.average_decay,
        augment=options.augment,
        mesh=mesh,
    )


def _as_stored(options: TrainOptions) -> TrainOptions:
    """The options without those of one command only."""
    return dataclasses.replace(options, resume=False, log=dataclasses.replace(options.log, profile=""))


def _write_run(options: TrainOptions, data: Data, remap: transfer.Remap | None) -> None:
    (Path(options.run) / "run.json").unlink(missing_ok=True)  # of a run without a checkpoint
    run = Run.create(options.run, _as_stored(options), data.alphabet)
    if remap:
        write_atomically(run.folder / "remap.json", json.dumps(dataclasses.asdict(remap), ensure_ascii=False))
    about = {**data.fingerprints, "speaker_overlap": data.overlap, "options": run.config()}
    write_atomically(run.folder / "data.json", json.dumps(about))


def _initial_params(options: TrainOptions, base: Recognizer | None, alphabet: Alphabet, frozen: frozenset[int]):
    """Initial weights: fresh ones, or the base's with its outputs moved to the alphabet."""
    fresh = transfer.init(jax.random.key(options.seed), options.model, alphabet, options.features.mels)
    if base is None:
        return fresh, None
    carried, remap = transfer.carry_output(base.params, base.alphabet, alphabet, options.freeze.new_characters)
    if (remap.new or remap.criterion) and LAYERS in frozen and not options.freeze.unfreeze_after:
        what = repr(remap.new) if remap.new else f"loss={options.loss}"
        raise UserError(
            f"frozen_layers={options.frozen_layers} freezes the output layer, which has to learn {what}: "
            f"omit layer {LAYERS}, or unfreeze it with freeze.unfreeze_after=<updates>"
        )
    if not options.reinitialize:
        return carried, remap
    return freezing.reinitialize(carried, fresh, frozen), remap if LAYERS in frozen else None


def _cached(
    options: TrainOptions,
    params: model.Params,
    data: Data,
    config: StepConfig,
    report: Report,
    progress: Progress | None,
) -> tuple[Data, StepConfig]:
    """The data as activations of the frozen layers of `params`, and the step that starts above these."""
    k = freezing.frozen_prefix(config.frozen)
    layers = FrozenLayers(params, config.model, k, config.dtype, options.freeze.activation_dtype)
    rows = options.batch_size // config.devices
    rows //= microbatches(rows, data.train.buckets[-1].frames, options.memory.max_microbatch_frames)
    sources = {name: getattr(data, name) for name in ("train", "dev", "old_dev") if getattr(data, name)}
    stored = on_activations(list(sources.values()), layers, options.data.cache, rows, report, progress)
    data = dataclasses.replace(data, **dict(zip(sources, stored, strict=True)))
    return data, dataclasses.replace(config, first_layer=k + 1)


def _resumed(
    options: TrainOptions, frozen, optimizer, data: dict[str, str], devices: Devices, report: Report
) -> tuple[Run, TrainState, dict[str, Any]]:
    run = Run.open(options.run)
    stored = read(run.folder / "data.json", lambda text: dict(json.loads(text)))
    # Not those of config.toml, which may have been edited since.
    before = from_table(TrainOptions, stored.get("options") or run.config(), f"{run.folder}/data.json")
    for name, was, now, metadata in differences(before, options):
        if not metadata.get("resume"):
            raise UserError(f"{run.folder}: {name} was {was!r} when the run began and is {now!r} now")
    steps = run.config()["steps"]  # of the last resume
    if options.optimizer.decay != "none" and options.steps != steps:
        report(f"note: the learning rate decays over {options.steps:,} steps now, not {steps:,}, so it jumps")
    for name, fingerprint in data.items():
        if stored.get(name, "") != fingerprint:
            raise UserError(f"{run.folder}: the {name} data changed since the run began; start a new run")
    if devices.first:
        # Store options that may change on resuming, such as the number of steps, with their latest value.
        kept = _as_stored(options)
        write_atomically(run.folder / "config.toml", to_toml(kept))
    params = run.restore_params("last")
    average, meta = options.optimizer.average_decay > 0, run.position()
    like = jax.eval_shape(lambda p: to_resume(init_state(p, optimizer, frozen, average), frozen), params)
    stored = run.restore_optimizer("last", like)
    return run, resumed(params, stored, meta["step"], average, frozen), meta
