"""Bar charts: the cost of an update (Figure 4, section 6.3), and error rates by data."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from reproduction import curves, tables
from reproduction.curves import Row, Style
from reproduction.grid import Variant
from reproduction.grid_figures import Picture
from reproduction.study import Study


def figure4(study: Study) -> Iterator[Picture]:
    """Seconds of an update by k: measured, predicted from FLOPs, and with cached activations."""
    step = {row["k"]: row for row in study.measured("step")}
    if not step:
        return
    flops = {k: row["seconds"] * row["GFLOP/s"] for k, row in step.items()}
    cached = {row["k"]: 1 / row["updates/s"] for row in study.measured("cache") if row["cached"] == "yes"}
    first = min(step)
    rows = [
        {
            "k": k,
            "seconds": row["seconds"],
            "seconds predicted from FLOPs": step[first]["seconds"] * flops[k] / flops[first],
            "seconds with cached activations": cached.get(k),
            "GFLOP": flops[k],
        }
        for k, row in sorted(step.items())
    ]
    text = (
        "Figure 4. Seconds per update by the number k of frozen layers: measured; predicted from the FLOPs at the "
        "speed of k = 0; measured with the frozen layers' activations read from a cache, reading included. "
        f"{study.about('step')}"
    )
    draw = functools.partial(_bars, series=_FIGURE4, unit="seconds per update")
    yield Picture("figure4", text, rows, draw, (8.5, 3.6))


def memory(study: Study) -> Iterator[Picture]:
    """Memory of an update by k, compared with the paper's."""
    measured = study.measured("memory")
    if not measured:
        return
    rows = [
        {
            "k": row["k"],
            "GB": sum(row[name] for name in ("temporary MiB", "held MiB", "updated MiB")) * 2**20 / 1e9,
            "GB in the paper": _PAPER_GB.get(row["k"]),
        }
        for row in sorted(measured, key=lambda row: row["k"])
    ]
    rows.append({"k": "forward only", "GB": None, "GB in the paper": _PAPER_FORWARD_GB})
    text = (
        "Section 6.3. Memory per update by the number k of frozen layers: reported by the compiler (temporary, held "
        "and updated arrays), and the paper's bounds for TensorFlow on a GTX Titan X with 64 utterances of unknown "
        f"length. {study.about('memory')}"
    )
    yield Picture("memory", text, rows, functools.partial(_bars, series=_MEMORY, unit="GB"), (8.5, 3.6))


_PAPER_GB, _PAPER_FORWARD_GB = {0: 10.4, 8: 5.5}, 3.0
_FIGURE4 = {
    "seconds": "measured",
    "seconds predicted from FLOPs": "predicted from FLOPs",
    "seconds with cached activations": "measured with cached activations",
}
_MEMORY = {"GB": "here, by the compiler", "GB in the paper": "the paper"}
_SHADES = (1.0, 0.55, 0.25)


def _bars(figure: Any, rows: Sequence[Row], series: dict[str, str], unit: str) -> None:
    """Horizontal bars, one group per k with one bar per series, labelled with its number."""
    axes, height = figure.subplots(), 0.8 / len(series)
    for i, (field, label) in enumerate(series.items()):
        for place, row in enumerate(rows):
            if row[field] is None:
                continue
            style = {"color": curves.style(Variant(row["k"])).colour, "alpha": _SHADES[i]}
            axes.barh(place + (i - (len(series) - 1) / 2) * height, row[field], height * 0.9, **style)
            place_of = {"xy": (row[field], place + (i - (len(series) - 1) / 2) * height), "va": "center"}
            axes.annotate(f"{row[field]:.3g}", xytext=(3, 0), textcoords="offset points", fontsize=8, **place_of)
        axes.barh(0, 0, color="#808080", alpha=_SHADES[i], label=label)
    axes.set_yticks(range(len(rows)), [f"k = {r['k']}" if isinstance(r["k"], int) else r["k"] for r in rows])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.margins(x=0.1)
    figure.legend(loc="outside upper center", ncols=len(series), frameon=False)


def amounts(study: Study) -> Iterator[Picture]:
    """LER over hours of training speech, one panel per language."""
    rows = [row for row in tables.adapted(study, "amounts").rows if row["search"] == "beam, LM"]
    if not rows:
        return
    text = (
        "Letter error rate by hours of training speech, beam search with a language model; all of the speech is on "
        "the right. Bars are 95 % bootstrap intervals of the means over seeds."
    )
    yield Picture("amounts", text, [_plain(row) for row in rows], _amounts, (7.0, 4.2))


def distance(study: Study) -> Iterator[Picture]:
    """LER from scratch and after transfer, by language."""
    rows = [row for row in tables.adapted(study, "distance").rows if row["search"] == "beam, LM"]
    if rows:
        text = (
            "Letter error rate in a language near the base's and in one far from it, beam search with a language "
            "model. Bars are 95 % bootstrap intervals. Compare the gains of transfer over training from scratch."
        )
        yield Picture("distance", text, [_plain(row) for row in rows], _distance, (6.0, 4.0))


def _plain(row: Row) -> Row:
    ler = row["LER (%)"]
    names = ("language", "network", "hours")
    return {name: row[name] for name in names} | {"LER (%)": ler.value, "low": ler.low, "high": ler.high}


_LOOKS = {v.text: curves.style(v) for v in (Variant(0), Variant(8), Variant(None))}


def _distance(figure: Any, rows: Sequence[Row]) -> None:
    axes = figure.subplots()
    names = list(dict.fromkeys(row["language"] for row in rows))
    for i, (network, look) in enumerate(_LOOKS.items()):
        points = [row for row in rows if row["network"] == network]
        if points:
            x = [names.index(row["language"]) + (i - 1) * 0.12 for row in points]
            _whiskers(axes, x, points, network, dataclasses.replace(look, line=""))
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("LER (%)")
    axes.grid(alpha=0.2, axis="y")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)


def _amounts(figure: Any, rows: Sequence[Row]) -> None:
    languages = list(dict.fromkeys(row["language"] for row in rows))
    plots = figure.subplots(1, len(languages), sharey=True, squeeze=False)[0]
    for axes, language in zip(plots, languages, strict=True):
        here = [row for row in rows if row["language"] == language]
        hours = sorted({row["hours"] for row in here}, key=lambda h: (h == "all", h))
        for i, (name, look) in enumerate(_LOOKS.items()):
            points = sorted((r for r in here if r["network"] == name), key=lambda r: hours.index(r["hours"]))
            if points:
                _whiskers(axes, [hours.index(r["hours"]) + (i - 1) * 0.06 for r in points], points, name, look)
        axes.set_xticks(range(len(hours)), [h if h == "all" else f"{h:g} h" for h in hours])
        axes.set(title=language, xlabel="training speech")
        axes.grid(alpha=0.2)
    plots[0].set_ylabel("LER (%)")
    figure.legend(*plots[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)


def _whiskers(axes: Any, x: Sequence[float], points: Sequence[Row], name: str, look: Style) -> None:
    y, low, high = np.array([(row["LER (%)"], row["low"], row["high"]) for row in points]).T
    style = {"color": look.colour, "linestyle": look.line, "marker": "o", "markersize": 4, "capsize": 3}
    axes.errorbar(x, y, yerr=(y - low, high - y), label=name, **style)
