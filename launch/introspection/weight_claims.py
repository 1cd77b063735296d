"""The paper's testable claims about weights (§6.5), and their verdicts for two networks."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from introspection.weight_changes import COMPARED, SMALL, Findings, LayerNumbers

_OUTER, _INNER = (COMPARED[0], COMPARED[-1]), COMPARED[1:-1]
_SHIFT = 0.05
_TINY = 1e-30


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the paper and the finding here."""

    name: str
    claim: str
    criterion: str
    """The condition for confirmation."""
    holds: bool | None
    """None if these two networks cannot decide it; `found` says why."""
    found: str
    numbers: dict[str, list[float]]
    """The values behind it, for layers 1 to 10 if there are ten."""

    @property
    def verdict(self) -> str:
        """The verdict as text."""
        return {True: "confirmed", False: "not confirmed", None: "not testable"}[self.holds]


def claims(findings: Findings) -> tuple[Claim, ...]:
    """Returns every claim; those about changes need adapted layers, two of them an early checkpoint."""
    return (
        _outer_weights(findings),
        _means(findings),
        _small(findings),
        _alike(findings),
        _outer_changes(findings, "largest_change", "largest change"),
        _outer_changes(findings, "rms_change", "RMS change"),
        _growing(findings),
        _input_late(findings),
    )


def _outer_weights(findings: Findings) -> Claim:
    networks = _networks(findings)
    values = {name: [row.largest for row in rows] for name, rows in networks.items()}
    return Claim(
        "outer_weights",
        "The largest absolute weights are in the input layer and the top layer.",
        "In both networks, the largest absolute weights of layers 1 and 10 exceed those of layers 2 to 9.",
        all(min(_outer(v)) > max(_inner(v)) for v in values.values()),
        "; ".join(f"{name}: {_ends(v)}, in between at most {_peak(v, _INNER)}" for name, v in values.items()),
        values,
    )


def _means(findings: Findings) -> Claim:
    values = {name: [abs(r.mean) / max(r.deviation, _TINY) for r in rows] for name, rows in _networks(findings).items()}
    return Claim(
        "means",
        "The weights of each layer have a mean close to zero.",
        "In every layer of both networks, the mean is less than half a standard deviation from zero.",
        max(map(max, values.values())) < 0.5,
        "; ".join(f"{name}: at most {_peak(v, COMPARED)} standard deviations" for name, v in values.items()),
        values,
    )


def _small(findings: Findings) -> Claim:
    values = {name: [row.small for row in rows] for name, rows in _networks(findings).items()}
    return Claim(
        "small_variance",
        f"The variance is very small: most weights are between -{SMALL} and {SMALL}.",
        "In every layer of both networks, more than half of the weights are in that range.",
        min(map(min, values.values())) > 0.5,
        "; ".join(f"{name}: at least {min(v):.1%} of a layer" for name, v in values.items()),
        values,
    )


def _alike(findings: Findings) -> Claim:
    base, final = (findings.weights.fractions[name] for name in (findings.base, findings.stages[-1]))
    moved = (np.abs(base - final).sum(axis=1) / 2).tolist()
    width = findings.weights.edges[1] - findings.weights.edges[0]
    claim = Claim(
        "distributions_alike",
        "The two models' distributions of weights differ only slightly.",
        f"In every layer, the two distributions (bins {width:g} wide) differ by less than {_SHIFT:.0%} of the weights.",
        max(moved) < _SHIFT,
        f"at most {max(moved):.2%} (layer {COMPARED[int(np.argmax(moved))]})",
        {"fraction in other bins": moved},
    )
    return _unless(claim, _not_inherited(findings))


def _outer_changes(findings: Findings, field: str, what: str) -> Claim:
    values = [getattr(row, field) for row in findings.of(findings.stages[-1])]
    claim = Claim(
        f"outer_changes_{field.split('_')[0]}",
        f"The outer layers change more than the inner ones ({what}).",
        f"The {what}s of layers 1 and 10 are both above the mean of layers 2 to 9.",
        min(_outer(values)) > np.mean(_inner(values)).item(),
        f"{_ends(values)}, mean in between: {np.mean(_inner(values)):.3g}",
        {what: values},
    )
    return _unless(claim, _not_inherited(findings) or _frozen(findings, findings.stages[-1:]))


def _growing(findings: Findings) -> Claim:
    values = {name: [r.largest_change for r in findings.of(name)] for name in findings.stages}
    largest = [max(v) for v in values.values()]
    claim = Claim(
        "changes_grow",
        "Early in training, weights have changed little (at most 0.1); in the final model, by up to 0.36.",
        "The largest early change is at most half of the largest final change.",
        largest[0] <= largest[-1] / 2,
        "; ".join(f"{name}: at most {max(v):.3g}" for name, v in values.items()),
        values,
    )
    return _unless(claim, _not_early(findings) or _not_inherited(findings) or ("" if largest[-1] else "all is frozen"))


def _input_late(findings: Findings) -> Claim:
    values = {name: [r.rms_change for r in findings.of(name)] for name in findings.stages}
    ratios = {name: v[0] / max(np.mean(v[1:]).item(), _TINY) for name, v in values.items()}
    first, last = ratios[findings.stages[0]], ratios[findings.stages[-1]]
    claim = Claim(
        "input_changes_late",
        "Middle and top layers change first; as training progresses, the input layer changes more.",
        "The RMS change of layer 1, divided by the mean of layers 2 to 10, is below 1 early and larger at the end.",
        first < 1 and first < last,
        "; ".join(f"{name}: ratio {ratio:.3g}" for name, ratio in ratios.items()),
        values,
    )
    return _unless(claim, _not_early(findings) or _not_inherited(findings) or _frozen(findings, findings.stages))


def _unless(claim: Claim, reason: str) -> Claim:
    return dataclasses.replace(claim, holds=None, found=f"{reason} ({claim.found})") if reason else claim


def _not_inherited(findings: Findings) -> str:
    others = [layer for layer in COMPARED if layer not in findings.inherited]
    return f"{_named(others)} did not start from the base's weights" if others else ""


def _frozen(findings: Findings, stages: Sequence[str]) -> str:
    frozen = sorted({row.layer for stage in stages for row in findings.of(stage) if row.largest_change == 0})
    return f"{_named(frozen)} did not change at all: frozen" if frozen else ""


def _not_early(findings: Findings) -> str:
    return "" if len(findings.stages) > 1 else "no early checkpoint is stored (train.py --log.keep_steps=100)"


def _named(layers: Sequence[int]) -> str:
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"


def _networks(findings: Findings) -> dict[str, list[LayerNumbers]]:
    return {name: findings.of(name) for name in (findings.base, findings.stages[-1])}


def _outer(values: Sequence[float]) -> list[float]:
    return [values[layer - 1] for layer in _OUTER]


def _inner(values: Sequence[float]) -> list[float]:
    return [values[layer - 1] for layer in _INNER]


def _ends(values: Sequence[float]) -> str:
    return ", ".join(f"layer {layer}: {values[layer - 1]:.3g}" for layer in _OUTER)


def _peak(values: Sequence[float], layers: Sequence[int]) -> str:
    layer = max(layers, key=lambda layer: values[layer - 1])
    return f"{values[layer - 1]:.3g} (layer {layer})"
