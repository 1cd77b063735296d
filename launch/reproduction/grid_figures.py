"""The report's figures of learning curves: rows of numbers and functions that draw them."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from reproduction import curves, tables
from reproduction.curves import Row
from reproduction.grid import Language, Variant
from reproduction.study import Study


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure."""

    name: str
    """Of its files."""
    caption: str
    rows: Sequence[Row]
    draw: Callable[[Any, Sequence[Row]], None]
    """Fills a matplotlib Figure with the rows."""
    size: tuple[float, float] = (10.5, 5.4)
    """Inches."""


_CURVES = {
    "figure2": "Figure 2. k = 8, with the weights above the frozen layers retained or reinitialised.",
    "figure3": "Figure 3. Networks with k frozen layers.",
    "figure5": "Figure 5. Training from scratch, and transfer with every layer trained (k = 0).",
    "unfreezing": "Layers unfrozen after half of the updates, always frozen, always trained, or trained from scratch.",
}


def curves_of(study: Study, experiment: str) -> Iterator[Picture]:
    """Learning curves of an experiment, one figure per language."""
    for language in study.languages(experiment):
        variants = [v for v in language.variants(experiment) if not v.hours]
        cells = [cell for v in variants for cell in study.cells(language, v)]
        if not cells:
            continue
        styles = {v.text: curves.style(v) for v in variants if study.cells(language, v)}
        window = curves.smoothing(language.steps)
        text = (
            f"{_CURVES[experiment]} {language.name.capitalize()}. Each point of a training curve is the median loss of "
            f"the {window} updates around it. {_seeds(cells)}"
        )
        draw = functools.partial(curves.losses, styles=styles)
        yield Picture(_name(study, experiment, language), text, curves.of(study, cells), draw)


def figure6(study: Study) -> Iterator[Picture]:
    """Error rate and loss on the dev data over time, by hours of training speech."""
    for language in study.languages("figure6"):
        variants = [v for v in language.variants("figure6") if study.cells(language, v)]
        cells = [cell for v in variants for cell in study.cells(language, v)]
        if not cells:
            continue
        hours = tuple(v.hours for v in variants)
        styles = {_amount(v): curves.style(v, hours) for v in variants}
        names = {v.text: _amount(v) for v in variants}
        rows = [row | {"network": names[row["network"]]} for row in curves.of(study, cells)]
        text = (
            f"Figure 6. k = 8 with decreasing amounts of training speech. {language.name.capitalize()}. The network "
            f"overfits where its line rises again. {_seeds(cells)}"
        )
        draw = functools.partial(curves.rates, styles=styles)
        yield Picture(_name(study, "figure6", language), text, rows, draw)


def _amount(variant: Variant) -> str:
    return f"{variant.hours:g} h" if variant.hours else "all"


def _seeds(cells: Sequence[Any]) -> str:
    if len({cell.seed for cell in cells}) == 1:
        return "One seed."
    return "Thick lines are means over seeds, thin lines single seeds."


def _name(study: Study, experiment: str, language: Language) -> str:
    return experiment if len(study.languages(experiment)) == 1 else f"{experiment}_{language.name}"


def forgetting(study: Study) -> Iterator[Picture]:
    """Error rates on the base's language and on the new one over time."""
    base = study.base()
    before = base and tables.rates({0: base}, "greedy")
    for language in study.languages("forgetting"):
        variants = [v for v in language.variants("forgetting") if study.cells(language, v)]
        cells = [cell for v in variants for cell in study.cells(language, v)]
        rows = [row for row in curves.of(study, cells) if row["kind"] != "train"]
        if not any(row["kind"] == "old_dev" for row in rows):
            continue
        start = {"kind": "old_dev", "update": 0, "minutes": 0.0, "TFLOP": 0.0, "loss": None, "WER (%)": None}
        for cell in cells if before else ():
            ler = before["LER (%)"].value
            rows.append(start | {"network": cell.variant.text, "seed": cell.seed, "LER (%)": ler})
        rows.sort(key=lambda row: (row["network"], row["seed"], row["kind"], row["update"]))
        name = language.name.capitalize()
        text = f"Forgetting the base's language while adapting to {name}. Lines start at the base. {_seeds(cells)}"
        draw = functools.partial(curves.old_and_new, styles={v.text: curves.style(v) for v in variants})
        yield Picture(_name(study, "forgetting", language), text, rows, draw)
