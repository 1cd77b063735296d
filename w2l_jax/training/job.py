"""From options to everything a training loop needs: data, alphabet, network, optimizer and a run folder."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from w2l_jax import alphabet as alphabets
from w2l_jax import model, transfer
from w2l_jax.alphabet import Alphabet
from w2l_jax.checkpoint import Run, to_toml, write_atomically
from w2l_jax.corpora import manifest
from w2l_jax.dataset.batches import Order, Source
from w2l_jax.dataset.prepare import PrepareConfig, custom_characters, open_or_prepare
from w2l_jax.dataset.store import Dataset, check_speakers, open_dataset
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.model import ModelConfig
from w2l_jax.training.log import Report
from w2l_jax.training.options import DataOptions, TrainOptions
from w2l_jax.training.profile import traced_updates
from w2l_jax.training.step import StepConfig, TrainState, init_state, make_optimizer, resumed, to_resume

Progress = Callable[[int, int, str], None]

# Options that may change when a run goes on: they decide how long, how often and where, not what is computed.
_FREE_ON_RESUME = {
    "config", "run", "resume", "steps", "max_hours", "patience", "eval_every", "checkpoint_every", "keep_steps",
    "log_every", "profile", "init", "init_config",
}  # fmt: skip
_FREE_DATA = {"cache", "synthesize", "workers", "lm_text", "corpora", "dev_fraction"}


@dataclasses.dataclass(frozen=True)
class Job:
    """A training job ready to run. `meta` is the position to start at (empty for a new run)."""

    options: TrainOptions
    run: Run
    alphabet: Alphabet
    train: Source
    dev: Source | None
    order: Order
    frozen: frozenset[int]
    optimizer: optax.GradientTransformation
    step_config: StepConfig
    state: TrainState
    meta: dict[str, Any]


def check(options: TrainOptions) -> frozenset[int]:
    """Refuses contradictions before any work; returns the frozen layers."""
    frozen = transfer.parse_layers(options.frozen_layers)
    if options.from_scratch and options.init:
        raise UserError("--from_scratch and --init contradict each other: give one")
    if options.from_scratch and frozen:
        raise UserError("--from_scratch trains every layer: leave --frozen_layers away")
    if frozen and not options.init:
        raise UserError(
            f"--frozen_layers={options.frozen_layers} needs --init=<run>, the network whose layers are kept"
        )
    if options.reinitialize and not frozen:
        raise UserError("--reinitialize keeps the frozen layers only: give --frozen_layers (or use --from_scratch)")
    if not options.data.train:
        raise UserError("no training data: --data.train=<manifest.jsonl or prepared folder>")
    traced = traced_updates(options.profile)
    if traced and traced[-1] > options.steps:
        raise UserError(f"--profile={options.profile} traces up to update {traced[-1]}, but --steps={options.steps}")
    return frozen


def create(options: TrainOptions, report: Report = print, progress: Progress | None = None) -> Job:
    """Opens the data (manifests are prepared first), the network to adapt, and the run folder, new or to go on with.

    `report` takes lines for the user, `progress(done, total, description)` that of preparation. Raises UserError for
    anything that does not fit together.
    """
    frozen = check(options)
    options = dataclasses.replace(options, data=dataclasses.replace(options.data, language=_language(options.data)))
    folder = options.run or f"runs/{options.data.language}_{'k' + options.frozen_layers if options.init else 'scratch'}"
    options = dataclasses.replace(options, run=str(folder))
    if Run.exists(folder) and not options.resume:
        raise UserError(f"{folder}: a run is there already; go on with --resume, or name another with --run=<folder>")
    if options.resume and not Run.exists(folder):
        raise UserError(f"{folder}: no run to resume; leave --resume away to start it")
    base = Run.open(options.init) if options.init and not options.resume else None
    if base or options.resume:
        known = base or Run.open(folder)
        options = dataclasses.replace(
            options, model=_same(options, known, "model"), features=_same(options, known, "features")
        )

    train_data = _open(options.data.train, options, progress)
    if options.data.train_hours:
        train_data = train_data.subset(options.data.train_hours, options.seed)
    alphabet = train_data.alphabet
    dev_data = _open(options.data.dev, options, progress, alphabet) if options.data.dev else None
    overlap = check_speakers(train_data, dev_data, options.allow_speaker_overlap) if dev_data else ()
    if overlap:
        report(f"note: speakers in both training and dev data, as allowed: {', '.join(overlap)}")
    rows, speed = options.batch_size, options.augment.speed
    train = Source.create(train_data, alphabet, options.data.buckets, rows, speed)
    dev = Source.create(dev_data, alphabet, options.data.buckets, rows) if dev_data else None

    optimizer = make_optimizer(options)
    step_config = StepConfig(
        model=options.model,
        frozen=frozen,
        dtype=jnp.dtype(options.compute_dtype),
        seed=options.seed,
        max_microbatch_frames=options.max_microbatch_frames,
        average_decay=options.average_decay,
        augment=options.augment,
    )
    lengths = tuple(entry.frames for entry in train_data.entries)
    order = Order(lengths, options.batch_size, options.seed, options.data.sorted_first_epoch)
    data = {"train": train_data.fingerprint, "dev": dev_data.fingerprint if dev_data else ""}
    if options.resume:
        run, state, meta = _resumed(options, frozen, optimizer, data)
    else:
        params, remap = _initial_params(options, base, alphabet, frozen)
        state = init_state(params, optimizer, frozen, options.average_decay > 0)
        run, meta = Run.create(folder, options, alphabet), {}
        if remap:
            write_atomically(run.folder / "remap.json", json.dumps(dataclasses.asdict(remap), ensure_ascii=False))
            report(f"alphabet: kept {remap.kept!r}, new {remap.new!r}, dropped {remap.dropped!r}")
        write_atomically(run.folder / "data.json", json.dumps({**data, "speaker_overlap": overlap}))
    state = jax.tree.map(jnp.array, state)  # fresh buffers: the step donates them
    return Job(options, run, alphabet, train, dev, order, frozen, optimizer, step_config, state, meta)


def _language(data: DataOptions) -> str:
    if data.language:
        return alphabets.language_name(data.language)
    if Path(data.train).is_dir():
        return open_dataset(data.train).language
    found = {utterance.language for utterance in manifest.read(data.train)}
    if len(found) != 1 or not all(found):
        raise UserError(f"{data.train}: the language is not clear from its `lang` fields; give --data.language")
    return alphabets.language_name(found.pop())


def _open(path: str, options: TrainOptions, progress: Progress | None, alphabet: Alphabet | None = None) -> Dataset:
    config = PrepareConfig(
        language=options.data.language,
        max_seconds=options.data.max_seconds,
        unknown_characters=options.data.unknown_characters,
        features=options.features,
        alphabet=custom_characters(alphabet, options.data.language) if alphabet else "",
    )
    workers = options.data.workers or None
    return open_or_prepare(Path(path), Path(options.data.cache), config, workers=workers, progress=progress)


def _same(options: TrainOptions, base: Run, group: str) -> ModelConfig | FeatureConfig:
    """The base run's model or features, unless the options say otherwise, which is an error."""
    asked, there = getattr(options, group), getattr(base, group)
    free = {"dropout"}  # a choice of training, not of architecture
    for field in dataclasses.fields(asked):
        value, kept = getattr(asked, field.name), getattr(there, field.name)
        if value != kept and value != field.default and field.name not in free:
            raise UserError(
                f"--{group}.{field.name}={value} contradicts {base.folder}, where it is {kept}: an adapted network "
                "keeps the architecture and features of its --init"
            )
    return dataclasses.replace(there, dropout=asked.dropout) if group == "model" else there


def _initial_params(options: TrainOptions, base: Run | None, alphabet: Alphabet, frozen: frozenset[int]):
    """Order of initialisation: fresh weights; the base's where there is one; its outputs moved to the alphabet."""
    fresh = model.init(jax.random.key(options.seed), options.model, alphabet.size, options.features.mels)
    if base is None:
        return fresh, None
    carried, remap = transfer.carry_output(base.restore_params(options.init_checkpoint), base.alphabet, alphabet)
    return (transfer.reinitialize(carried, fresh, frozen) if options.reinitialize else carried), remap


def _resumed(options: TrainOptions, frozen, optimizer, data: dict[str, str]) -> tuple[Run, TrainState, dict[str, Any]]:
    run = Run.open(options.run)
    asked, before = json.loads(json.dumps(dataclasses.asdict(options))), run.config()
    defaults = json.loads(json.dumps(dataclasses.asdict(TrainOptions())))  # of options younger than the run
    for group, free in (
        (None, _FREE_ON_RESUME),
        ("data", _FREE_DATA),
        ("model", ()),
        ("features", ()),
        ("augment", ()),
    ):
        new = asked[group] if group else asked
        old = {**defaults[group], **before[group]} if group else {**defaults, **before}
        for name, value in new.items():
            if name not in free and not isinstance(value, dict) and old.get(name) != value:
                option = f"--{group}.{name}" if group else f"--{name}"
                raise UserError(f"{run.folder}: {option} was {old.get(name)!r} when the run began and is {value!r} now")
    stored = json.loads((run.folder / "data.json").read_text())
    for name, fingerprint in data.items():
        if stored[name] != fingerprint:
            raise UserError(f"{run.folder}: the {name} data changed since the run began; start a new run")
    # What may change when a run goes on, such as its steps, is what it was trained with in the end.
    write_atomically(run.folder / "config.toml", to_toml(dataclasses.replace(options, resume=False)))
    params = run.restore_params("last")
    average, meta = options.average_decay > 0, run.pointers()["meta"]
    like = jax.eval_shape(lambda p: to_resume(init_state(p, optimizer, frozen, average), frozen), params)
    stored = run.restore_optimizer("last", like)
    return run, resumed(params, stored, meta["step"], average, frozen), meta
