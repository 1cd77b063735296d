"""Learning curves: rows of numbers from training, and their drawing (Figures 2, 3, 5 and 6)."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reproduction.grid import Cell, Variant
from reproduction.study import Study

Row = dict[str, Any]

_SMOOTH = 10  # a curve's training losses are medians over this part of all updates


@dataclasses.dataclass(frozen=True)
class Style:
    """The style of a network in all figures."""

    colour: str
    line: str = "-"


# Okabe and Ito's colours for colour-blind readers, without those invisible on white or black.
_COLOURS = {0: "#0072b2", 6: "#56b4e9", 8: "#009e73", 9: "#e69f00", 10: "#d55e00"}
_SCRATCH, _REINITIALIZED, _UNFROZEN = Style("#808080", "--"), Style("#cc79a7", "--"), Style("#b09000", "-.")
_AMOUNTS = ("-", "--", ":")


def style(variant: Variant, amounts: Sequence[float] = ()) -> Style:
    """The network's style; with `amounts`, for networks that differ only in hours of speech, by the hours."""
    if variant.reinitialized:
        return _REINITIALIZED
    if variant.unfrozen:
        return _UNFROZEN
    if variant.frozen_layers is None:
        return _SCRATCH
    line = _AMOUNTS[amounts.index(variant.hours) % len(_AMOUNTS)] if variant.hours in amounts else "-"
    return Style(_COLOURS.get(variant.frozen_layers, "#808080"), line)


def work(study: Study, cell: Cell) -> dict[int, float]:
    """Update → TFLOP of training up to it, from the certificate, scaled by each batch's padded frames."""
    certificate = study.certificate(cell)
    if not certificate:
        return {}
    change = cell.language.steps // 2 if cell.variant.unfrozen else 0
    total, totals = 0.0, {}
    for line in study.course(cell):
        if line["kind"] == "train":
            cost = certificate.get("before_unfreezing", certificate) if line["step"] <= change else certificate
            total += cost["flops"] * line["padded_frames"] / cost["frames"] / 1e12
            totals[line["step"]] = total
    return totals


def smoothing(steps: int) -> int:
    """Updates whose median is one point of a curve of training losses: one batch in a thousand may explode."""
    return max(10, steps // _SMOOTH)


def rows(study: Study, cell: Cell) -> list[Row]:
    """One row per point of a cell's curves: `train` is the median loss of the updates around it, others are
    evaluations.
    """
    done, course = work(study, cell), study.course(cell)
    start = {"network": cell.variant.text, "seed": cell.seed}

    def place(line: Row) -> Row:
        return {"update": line["step"], "minutes": line.get("seconds", 0) / 60, "TFLOP": done.get(line["step"])}

    points = []
    for line in course:
        if line["kind"] in ("dev", "old_dev"):
            rates = {"LER (%)": 100 * line["ler"], "WER (%)": 100 * line["wer"]}
            points.append({**start, "kind": line["kind"], **place(line), "loss": line["loss"], **rates})
    updates, half = [line for line in course if line["kind"] == "train"], smoothing(cell.language.steps) // 2
    # Clocks are read at the end of a block of updates.
    ends = [i for i, (a, b) in enumerate(itertools.pairwise(updates), 1) if a["seconds"] != b["seconds"]]
    for end in ends:
        around = [line["loss"] for line in updates[max(end - half, 0) : end + half]]
        losses = [loss for loss in around if math.isfinite(loss)]  # skipped updates have none
        if len(around) == 2 * half and losses:
            loss = {"loss": float(np.median(losses)), "LER (%)": None, "WER (%)": None}
            points.append({**start, "kind": "train", **place(updates[end - 1]), **loss})
    return points


def of(study: Study, cells: Sequence[Cell]) -> list[Row]:
    """The rows of several cells."""
    return [row for cell in cells for row in rows(study, cell)]


_AXES = {"minutes": "minutes of training", "TFLOP": "TFLOP of training", "update": "updates"}
_TRAIN_LOSS = ("train", "loss", "training loss\n(nats per utterance)")
_DEV_LOSS = ("dev", "loss", "dev loss\n(nats per utterance)")
_OLD_LER = ("old_dev", "LER (%)", "LER (%), greedy\nbase's language")
_DEV_LER = ("dev", "LER (%)", "dev LER (%)\ngreedy")


def losses(figure: Any, rows: Sequence[Row], styles: Mapping[str, Style]) -> None:
    """Training loss and dev loss over time, over work and over updates."""
    _grid(figure, rows, styles, (_TRAIN_LOSS, _DEV_LOSS))


def rates(figure: Any, rows: Sequence[Row], styles: Mapping[str, Style]) -> None:
    """Dev LER and dev loss over time, over work and over updates."""
    _grid(figure, rows, styles, (_DEV_LER, _DEV_LOSS))


def old_and_new(figure: Any, rows: Sequence[Row], styles: Mapping[str, Style]) -> None:
    """LER on the base's language and on the new one, over time, over work and over updates."""
    _grid(figure, rows, styles, (_OLD_LER, _DEV_LER))


def _grid(figure: Any, rows: Sequence[Row], styles: Mapping[str, Style], shown: Sequence[tuple[str, str, str]]) -> None:
    plots = figure.subplots(len(shown), len(_AXES), sharey="row", sharex="col", squeeze=False)
    for line, (kind, field, label) in zip(plots, shown, strict=True):
        line[0].set_ylabel(label)
        for axes, x in zip(line, _AXES, strict=True):
            for name, look in styles.items():
                points = [r for r in rows if r["network"] == name and r["kind"] == kind and r[x] is not None]
                _draw(axes, points, x, field, name, look)
            axes.grid(alpha=0.2)
    for axes, label in zip(plots[-1], _AXES.values(), strict=True):
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)
    handles, labels = plots[-1, -1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)


def _draw(axes: Any, points: Sequence[Row], x: str, y: str, name: str, look: Style) -> None:
    """One thin line per seed, and a thick one for the means of the updates that all seeds have reached."""
    seeds = sorted({row["seed"] for row in points})
    lines = {seed: {r["update"]: (r[x], r[y]) for r in points if r["seed"] == seed} for seed in seeds}
    if not lines:
        return
    shared = sorted(set.intersection(*map(set, lines.values())))
    mean = np.array([np.mean([line[update] for line in lines.values()], axis=0) for update in shared]).reshape(-1, 2)
    common = {"color": look.colour, "linestyle": look.line}
    marker = {"marker": "o", "markersize": 3} if points[0]["kind"] != "train" else {}
    axes.plot(*mean.T, linewidth=1.8, label=name, **common, **marker)
    if len(seeds) > 1:
        for line in lines.values():
            axes.plot(*np.array(list(line.values())).T, linewidth=0.6, alpha=0.6, **common)
