"""Who is faster: networks compared over time, over work (FLOPs) and over updates, seed by seed."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from reproduction import curves
from reproduction.evidence import Evidence, over_seeds
from reproduction.grid import Cell, Language, Variant
from reproduction.study import Study

CLOCKS = {"TFLOP": "work", "minutes": "measured time", "update": "updates"}
"""Clocks and their names. Work comes first: it is exact on shared machines."""
_UNITS = {"TFLOP": " TFLOP", "minutes": " minutes", "update": ""}
_POINTS = 200

_Curve = np.ndarray  # [points, 2]: clock, loss


def to_reach(curve_Nx2: _Curve, loss: float) -> float:
    """The clock when a curve first reaches `loss`, interpolated linearly between evaluations.

    Infinity if it never does; the first point, an upper bound, if it is already there.
    """
    before = None
    for clock, value in curve_Nx2:
        if value <= loss:
            if before is None:
                return float(clock)
            return float(before[0] + (clock - before[0]) * (before[1] - loss) / (before[1] - value))
        before = (clock, value)
    return math.inf


def head_start(study: Study, language: Language, ours: Variant, theirs: Variant, clock: str) -> Evidence | None:
    """The fraction of the other's training after which ours reaches its last dev loss; below 1: sooner."""
    ratios = []
    for a, b in _seeds(study, language, [ours, theirs]):
        mine, other = (_curve(study, cell, "dev", clock) for cell in (a, b))
        if len(mine) and len(other) and other[-1, 0]:
            ratios.append(to_reach(mine, other[-1, 1]) / other[-1, 0])
    return over_seeds(ratios, f"of the other network's {CLOCKS[clock]}", ".2f")


def outperformed(
    study: Study, language: Language, variant: Variant, others: Sequence[Variant], clock: str
) -> Evidence | None:
    """Percentage of the time in which some other network has a lower training loss."""
    return _share(study, language, [variant, *others], clock, lambda losses_VxP: losses_VxP[0] > losses_VxP[1:].min(0))


def out_of_order(study: Study, language: Language, variants: Sequence[Variant], clock: str) -> Evidence | None:
    """Percentage of the time, over all pairs, in which the earlier network of a pair has the higher training loss."""

    def wrong(losses_VxP: np.ndarray) -> np.ndarray:
        return np.array([a > b for a, b in itertools.combinations(losses_VxP, 2)])

    return _share(study, language, variants, clock, wrong)


def _share(
    study: Study,
    language: Language,
    variants: Sequence[Variant],
    clock: str,
    wrong: Callable[[np.ndarray], np.ndarray],
) -> Evidence | None:
    shares, compared = [], ""
    for cells in _seeds(study, language, variants):
        courses = [_curve(study, cell, "train", clock) for cell in cells]
        if not all(map(len, courses)):
            continue
        first, last = max(c[0, 0] for c in courses), min(c[-1, 0] for c in courses)
        if first < last:
            points = np.linspace(first, last, _POINTS)
            losses_VxP = np.stack([np.interp(points, *c.T) for c in courses])
            shares.append(100 * float(np.mean(wrong(losses_VxP))))
            total = _curve(study, cells[0], "dev", clock)[-1, 0]
            compared = compared or f" compared ({first:.3g} to {last:.3g} of {total:.3g}{_UNITS[clock]})"
    return over_seeds(shares, f"% of the {CLOCKS[clock]}{compared}")


def _seeds(study: Study, language: Language, variants: Sequence[Variant]) -> list[tuple[Cell, ...]]:
    """The cells of some networks, seed by seed, if all of them are complete."""
    columns = zip(*([Cell(language, v, seed) for seed in range(language.seeds)] for v in variants), strict=True)
    return [cells for cells in columns if all(map(study.complete, cells))]


def _curve(study: Study, cell: Cell, kind: str, clock: str) -> _Curve:
    rows = [r for r in curves.rows(study, cell) if r["kind"] == kind and r[clock] is not None]
    return np.array([(r[clock], r["loss"]) for r in rows]).reshape(-1, 2)
