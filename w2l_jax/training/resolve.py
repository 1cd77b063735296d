"""Completes the options of a training job once: defaults are filled in, text becomes values."""

import dataclasses
from typing import NamedTuple, TypeVar

from w2l_jax import config, freezing, recognizer
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.model import ModelConfig
from w2l_jax.recognizer import Recognizer
from w2l_jax.reporting import Report
from w2l_jax.run import Run
from w2l_jax.training.checks import check
from w2l_jax.training.data import language_of
from w2l_jax.training.options import TrainOptions, specified

T = TypeVar("T", ModelConfig, FeatureConfig)


class Resolved(NamedTuple):
    """The completed options."""

    options: TrainOptions
    """With run folder, language, a ModelConfig and a FeatureConfig."""
    frozen: frozenset[int]
    """The layers of `frozen_layers`."""
    base: Recognizer | None
    """The network to adapt; None from scratch or when resuming."""


def resolve(options: TrainOptions, report: Report) -> Resolved:
    """Completes the options from data, run folder and `init`; raises UserError for contradictions."""
    check(options)
    language = language_of(options.data)
    folder = options.run or f"runs/{language}_{'k' + options.frozen_layers if options.init else 'scratch'}"
    resume = resumes(folder, options.resume)
    if options.resume and not resume:
        report(f"{folder}: stopped before its first checkpoint, so it starts again")
    options = config.changed(options, {"data.language": language, "run": folder, "resume": resume})
    base = None
    if options.init and not resume:
        base = recognizer.load(options.init, options.freeze.init_checkpoint, lm="none")
        if Run.exists(options.init) and not Run.complete(options.init):
            report(f"note: init={options.init} is unfinished: its checkpoint of step {base.step} is adapted")
    frozen = freezing.parse_layers(options.frozen_layers)
    return Resolved(complete(options, Run.open(folder) if resume else base), frozen, base)


def complete(options: TrainOptions, base: Recognizer | Run | None) -> TrainOptions:
    """`options` with the architecture and features of `base`; without `base` the paper's are the defaults. Raises
    UserError if given values differ from `base`'s, which an adapted network keeps; only dropout may differ.
    """
    groups = {"model": ModelConfig, "features": FeatureConfig}
    return dataclasses.replace(options, **{name: _completed(name, options, cls, base) for name, cls in groups.items()})


def _completed(group: str, options: TrainOptions, cls: type[T], base: Recognizer | Run | None) -> T:
    values = specified(getattr(options, group))
    if base is None:
        return cls(**values)
    stored = getattr(base, group)
    for name, value in values.items():
        if name != "dropout" and value != getattr(stored, name):
            origin = options.run if options.resume else f"init={options.init}"
            raise UserError(
                f"{group}.{name}={value} contradicts {origin}, which has {getattr(stored, name)}: an adapted network "
                "keeps its architecture and features; omit it, or train from_scratch"
            )
    return dataclasses.replace(stored, **values)


def resumes(folder: str, asked: bool) -> bool:
    """Whether the run has a checkpoint to resume; raises UserError as `resolve` does."""
    if Run.exists(folder) and not asked:
        raise UserError(f"{folder}: a run exists; continue it with `resume`, or name another folder with `run`")
    if asked and not Run.exists(folder):
        raise UserError(f"{folder}: no run to resume; start it without resume")
    return asked and bool(Run.open(folder).pointers())
