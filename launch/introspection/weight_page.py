"""The findings of introspection as parts of an HTML page, and as a folder of files."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from introspection import weight_figures as figures
from introspection.weight_changes import SMALL, FilterNumbers, Findings
from introspection.weight_claims import claims
from pages import html as report
from w2l_jax.errors import UserError
from w2l_jax.files import write_atomically

_EXTREMES = 2  # the paper shows four filters: two that changed more, two that changed less
_LAYER_HEADS = {
    "layer": "layer",
    "checkpoint": "checkpoint",
    "weights": "weights",
    "mean": "mean",
    "deviation": "standard deviation",
    "largest": "largest absolute weight",
    "small": f"fraction within ±{SMALL}",
    "rms_change": "RMS change",
    "largest_change": "largest change",
    "relative_change": "RMS change / RMS weight of base",
}
_FILTER_HEADS = {
    "filter": "filter",
    "largest_change": "largest change",
    "rms_change": "RMS change",
    "base_norm": "norm in base",
    "adapted_norm": "norm in adapted",
}
FIGURE_7 = (
    "Fraction of weights in bins of equal width, on a log10 scale: the weights of both networks (left), and their "
    "changes from the base (right)."
)
FIGURE_8 = (
    "Filters of the input layer: absolute change, adapted network, base. Changes have one scale; weights have one for "
    "each filter."
)
SHEET = "Every filter of the input layer, the most changed first: absolute change, adapted network, base."


def parse_filters(text: str, count: int) -> tuple[int, ...]:
    """Filters from an option such as `3,17`, of `count` that are numbered from 1; raises UserError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := [part for part in parts if not part.isdecimal() or not 1 <= int(part) <= count]:
        raise UserError(f"--filters={text}: {wrong[0]} does not exist; the input layer has filters 1 to {count}")
    return tuple(dict.fromkeys(map(int, parts)))


def selected(findings: Findings, numbers: Sequence[int] = ()) -> list[tuple[str, FilterNumbers]]:
    """The filters to show, each with the reason: the most changed, the least changed, and those in `numbers`."""
    ranked = findings.filters
    by_number = {row.filter: row for row in ranked}
    extremes = [("most changed", row) for row in ranked[:_EXTREMES]]
    extremes += [("least changed", row) for row in ranked[_EXTREMES:][-_EXTREMES:]]
    return [*extremes, *(("chosen", by_number[number]) for number in numbers)]


def layer_rows(findings: Findings) -> list[dict[str, str]]:
    """The table of layers: a row for each layer of each checkpoint."""
    return _rows(findings.layers, _LAYER_HEADS)


def filter_rows(findings: Findings) -> list[dict[str, str]]:
    """The table of the input layer's filters, the most changed first."""
    return _rows(findings.filters, _FILTER_HEADS)


def claim_rows(findings: Findings) -> list[dict[str, str]]:
    """The table of the paper's claims."""
    return [
        {"the paper's claim": c.claim, "counts as confirmed": c.criterion, "here": c.verdict, "found": c.found}
        for c in claims(findings)
    ]


def _rows(rows: Sequence[Any], heads: Mapping[str, str]) -> list[dict[str, str]]:
    return [{head: _cell(getattr(row, name)) for name, head in heads.items()} for row in rows]


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def sections(findings: Findings, numbers: Sequence[int] = ()) -> list[tuple[str, str]]:
    """The parts of a page, each a heading and HTML, for `report.page`; the last one is megabytes, with every filter."""
    shown = selected(findings, numbers)
    names = f"{', '.join(findings.stages)}, against {findings.base}."
    drawn = {
        FIGURE_7: functools.partial(figures.distributions, findings=findings),
        FIGURE_8: functools.partial(figures.filters, findings=findings, shown=shown),
        SHEET: functools.partial(figures.contact_sheet, findings=findings),
    }
    figure_7, figure_8, sheet = (report.figure(draw, description) for description, draw in drawn.items())
    note = "Weights of kernels, without biases. The output layer is omitted, since alphabets differ."
    return [
        (
            "Weights and their changes (Figure 7)",
            report.paragraph(f"{names} {note}")
            + figure_7
            + report.table(layer_rows(findings), "Weights of each layer"),
        ),
        ("The paper's claims about weights (section 6.5)", report.table(claim_rows(findings), "Claims and findings")),
        ("Filters of the input layer (Figure 8)", figure_8),
        ("Every filter of the input layer", sheet + report.table(filter_rows(findings), "Filters, numbered from 1")),
    ]


def write(findings: Findings, folder: str | Path, numbers: Sequence[int] = ()) -> None:
    """Writes index.html, figure7.png, figure8.png, filters.png, layers.csv, filters.csv and introspection.json."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{findings.stages[-1]}, against {findings.base}"
    write_atomically(folder / "index.html", report.page(title, sections(findings, numbers)))
    shown = selected(findings, numbers)
    # The drawing functions set their sizes.
    report.save(folder / "figure7.png", (1, 1), lambda figure: figures.distributions(figure, findings))
    report.save(folder / "figure8.png", (1, 1), lambda figure: figures.filters(figure, findings, shown))
    report.save(folder / "filters.png", (1, 1), lambda figure: figures.contact_sheet(figure, findings))
    write_atomically(folder / "layers.csv", report.comma_separated(layer_rows(findings)))
    write_atomically(folder / "filters.csv", report.comma_separated(filter_rows(findings)))
    write_atomically(folder / "introspection.json", json.dumps(_record(findings), indent=1, ensure_ascii=False))


def _record(findings: Findings) -> dict[str, Any]:
    """All numbers in full precision, with the histograms behind Figure 7."""
    return {
        "base": findings.base,
        "stages": findings.stages,
        "inherited_layers": sorted(findings.inherited),
        "layers": [dataclasses.asdict(row) for row in findings.layers],
        "claims": [dataclasses.asdict(claim) for claim in claims(findings)],
        "filters": [dataclasses.asdict(row) for row in findings.filters],
        "histograms": {
            name: {"edges": h.edges.tolist(), **{n: f.tolist() for n, f in h.fractions.items()}}
            for name, h in (("weights", findings.weights), ("changes", findings.changes))
        },
    }
