"""The weights of two networks compared: distributions, changes, and filters (§6.5).

Only kernels, without biases; the output layer is omitted, since alphabets differ.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import w2l_jax
from w2l_jax.errors import UserError
from w2l_jax.freezing import parse_layers
from w2l_jax.model import LAYERS, Params, layer_name
from w2l_jax.recognizer import Recognizer
from w2l_jax.run import Run

COMPARED = range(1, LAYERS)
SMALL = 0.2
"""Most weights of the paper's networks are within ± this value."""
_BINS = 40  # at most; the paper's range of weights gets the paper's bins, 0.2 wide
_SHAPE = ("width", "top_width", "activation")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The parameters of a run at some step, and their name in figures."""

    name: str
    params: Params


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """A base and the states, from early to final, of a run that was adapted from it."""

    base: Checkpoint
    stages: tuple[Checkpoint, ...]
    inherited: frozenset[int] = frozenset(COMPARED)
    """Layers that started from the base's weights, not reinitialised or trained from scratch."""


@dataclasses.dataclass(frozen=True)
class LayerNumbers:
    """The weights of one layer in one checkpoint and, except for the base, their absolute change from the base's."""

    layer: int
    checkpoint: str
    weights: int
    mean: float
    deviation: float
    largest: float
    small: float
    """Fraction of the weights between −SMALL and SMALL."""
    rms_change: float | None = None
    largest_change: float | None = None
    relative_change: float | None = None
    """RMS of the change over the RMS of the base's weights."""


@dataclasses.dataclass(frozen=True)
class Histograms:
    """Fractions of weights in bins that are the same for all checkpoints and layers."""

    edges: np.ndarray
    fractions: Mapping[str, np.ndarray]
    """By checkpoint: [layers, bins]."""


@dataclasses.dataclass(frozen=True)
class FilterNumbers:
    """One filter of the input layer, counted from 1: its change, and its Euclidean norms."""

    filter: int
    largest_change: float
    rms_change: float
    base_norm: float
    adapted_norm: float


@dataclasses.dataclass(frozen=True)
class Findings:
    """The numbers behind figures, tables and claims."""

    base: str
    stages: tuple[str, ...]
    """Names of the adapted run's checkpoints, the final one last."""
    inherited: frozenset[int]
    layers: tuple[LayerNumbers, ...]
    weights: Histograms
    changes: Histograms
    filters: tuple[FilterNumbers, ...]
    """The most changed first."""
    base_KxMxC: np.ndarray
    """The input layer's kernel: frames, mel bands, filters."""
    adapted_KxMxC: np.ndarray

    def of(self, checkpoint: str) -> list[LayerNumbers]:
        """The layers of one checkpoint, from 1."""
        return [row for row in self.layers if row.checkpoint == checkpoint]


def read(
    run: str | Path, base: str | Path = "", checkpoint: str = "best", base_checkpoint: str = "", early: str = ""
) -> Adaptation:
    """Reads the checkpoints of two run folders to compare.

    `base` and `base_checkpoint` default to what the run was adapted from. `early` lists steps of the run (`100,1000`)
    or is `none`; by default the run's earliest checkpoint, if from the first half of training. Raises UserError for
    missing checkpoints and for networks whose weights do not correspond.
    """
    adapted = Run.open(run)
    options = adapted.config()
    origin = options.get("init", "")
    if not base and not origin:
        raise UserError(f"{run}: trained from scratch, so there is no base to compare it with; name one with --base")
    if not base:
        base_checkpoint = base_checkpoint or options["freeze"]["init_checkpoint"]
    try:
        other = w2l_jax.load(base or origin, base_checkpoint or "best", lm="none")
    except UserError as error:
        if base:
            raise
        raise UserError(f"{run}: was adapted from {origin}; give its path with --base ({error})") from None
    _check(adapted, other, str(base or origin))
    step = adapted.step_of(checkpoint)
    stages = tuple(
        Checkpoint(f"{adapted.folder.resolve().name}, step {s}", adapted.restore_params(str(s)))
        for s in [*_early(adapted, early, step), step]
    )
    name = f"{Path(base or origin).resolve().name}, step {other.step} (base)"
    return Adaptation(Checkpoint(name, other.params), stages, _inherited(options))


def _check(adapted: Run, base: Recognizer, called: str) -> None:
    pairs = {f"model.{name}": (getattr(adapted.model, name), getattr(base.model, name)) for name in _SHAPE}
    for name in (field.name for field in dataclasses.fields(adapted.features)):
        pairs[f"features.{name}"] = (getattr(adapted.features, name), getattr(base.features, name))
    if wrong := [f"{name} ({one} and {other})" for name, (one, other) in pairs.items() if one != other]:
        raise UserError(
            f"{adapted.folder} and {called} differ in {', '.join(wrong)}, so their weights do not correspond; "
            "name another --base"
        )


def _early(run: Run, early: str, step: int) -> list[int]:
    if early == "none":
        return []
    if not early:
        return [s for s in run.steps()[:1] if s <= step // 2]
    steps = sorted({run.step_of(part.strip()) for part in early.split(",")})
    if steps[-1] >= step:
        raise UserError(f"--early={early}: step {steps[-1]} is not before the checkpoint compared, step {step}")
    return steps


def _inherited(options: Mapping[str, object]) -> frozenset[int]:
    if not options.get("init") or options.get("from_scratch"):
        return frozenset()
    if options.get("reinitialize"):
        return parse_layers(str(options["frozen_layers"])) & frozenset(COMPARED)
    return frozenset(COMPARED)


def measure(adaptation: Adaptation) -> Findings:
    """Computes all numbers; seconds for the paper's network."""
    base, stages = adaptation.base, adaptation.stages
    rows: list[LayerNumbers] = []
    for layer in COMPARED:
        base_KxCxD = _kernel(base, layer)
        rows.append(_numbers(layer, base.name, base_KxCxD))
        rows += [_numbers(layer, stage.name, _kernel(stage, layer), base_KxCxD) for stage in stages]
    span, reach = max(row.largest for row in rows), max(row.largest_change or 0.0 for row in rows)
    weights: dict[str, list[np.ndarray]] = {checkpoint.name: [] for checkpoint in (base, *stages)}
    changes: dict[str, list[np.ndarray]] = {stage.name: [] for stage in stages}
    for layer in COMPARED:
        base_KxCxD = _kernel(base, layer)
        weights[base.name].append(_histogram(base_KxCxD, span, signed=True))
        for stage in stages:
            weights_KxCxD = _kernel(stage, layer)
            weights[stage.name].append(_histogram(weights_KxCxD, span, signed=True))
            changes[stage.name].append(_histogram(np.abs(weights_KxCxD - base_KxCxD), reach, signed=False))
    base_KxMxC, adapted_KxMxC = _kernel(base, 1), _kernel(stages[-1], 1)
    return Findings(
        base.name,
        tuple(stage.name for stage in stages),
        adaptation.inherited,
        tuple(rows),
        Histograms(_edges(span, signed=True), {name: np.stack(rows) for name, rows in weights.items()}),
        Histograms(_edges(reach, signed=False), {name: np.stack(rows) for name, rows in changes.items()}),
        _filters(base_KxMxC, adapted_KxMxC),
        base_KxMxC,
        adapted_KxMxC,
    )


def _kernel(checkpoint: Checkpoint, layer: int) -> np.ndarray:
    return np.asarray(checkpoint.params[layer_name(layer)]["kernel"])


def _numbers(layer: int, name: str, weights: np.ndarray, base: np.ndarray | None = None) -> LayerNumbers:
    numbers = LayerNumbers(
        layer,
        name,
        weights.size,
        mean=float(weights.mean(dtype=np.float64)),
        deviation=float(weights.std(dtype=np.float64)),
        largest=float(np.abs(weights).max()),
        small=float((np.abs(weights) <= SMALL).mean()),
    )
    if base is None:
        return numbers
    change = weights - base
    rms = _rms(change)
    return dataclasses.replace(
        numbers,
        rms_change=rms,
        largest_change=float(np.abs(change).max()),
        relative_change=rms / _rms(base) if base.any() else None,
    )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean(dtype=np.float64)))


def _edges(largest: float, *, signed: bool) -> np.ndarray:
    """Bins of a round width from zero, or with `signed` from the negative, to the largest value."""
    least = (largest or 1.0) * (2 if signed else 1) / _BINS
    power = 10.0 ** math.floor(math.log10(least))
    width = next(step * power for step in (1, 2, 5, 10) if step * power >= least)
    count = max(math.ceil(largest / width), 1)
    return width * np.arange(-count if signed else 0, count + 1)


def _histogram(values: np.ndarray, largest: float, *, signed: bool) -> np.ndarray:
    edges = _edges(largest, signed=signed)
    # With a number of bins instead of edges NumPy need not sort.
    counts, _ = np.histogram(values, len(edges) - 1, (edges[0], edges[-1]))
    return counts / values.size


def _filters(base_KxMxC: np.ndarray, adapted_KxMxC: np.ndarray) -> tuple[FilterNumbers, ...]:
    changes_CxN = np.abs(adapted_KxMxC - base_KxMxC).reshape(-1, base_KxMxC.shape[-1]).T
    numbers = [
        FilterNumbers(
            index + 1,
            float(change_N.max()),
            _rms(change_N),
            float(np.linalg.norm(base_KxMxC[..., index])),
            float(np.linalg.norm(adapted_KxMxC[..., index])),
        )
        for index, change_N in enumerate(changes_CxN)
    ]
    return tuple(sorted(numbers, key=lambda row: (-row.largest_change, row.filter)))
