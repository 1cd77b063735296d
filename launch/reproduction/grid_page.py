"""The report as files: index.html with everything, and the same as Markdown, PNG, CSV and JSON."""

import collections
import datetime
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pages import comparison
from pages import html as report
from reproduction import bars, beyond, claims_of_cost, claims_of_quality, inventory, tables, tasks, weights
from reproduction import grid_figures as figures
from reproduction.grid import Scale
from reproduction.grid_figures import Picture
from reproduction.study import Study
from reproduction.tables import Table
from reproduction.tasks import lasting
from w2l_jax.files import write_atomically


def write(scale: Scale) -> Path:
    """Writes a report of the results so far to the scale's folder; returns the page's path."""
    study, files = Study(scale), _Files(Path(scale.out))
    title, sections, markdown = scale.title or "The paper's experiments", [], []
    for heading, build in _SECTIONS.items():
        if content := build(study, files):
            sections.append((heading, content))
            markdown += [f"## {heading}", *files.markdown]
        files.markdown.clear()
    path = Path(scale.out) / "index.html"
    write_atomically(path.with_name("report.md"), "\n\n".join([f"# {title}", *markdown]) + "\n")
    write_atomically(path, report.page(title, sections))
    return path


class _Files:
    """Writes a figure or table beside the page and returns it as HTML; collects its Markdown."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.markdown: list[str] = []

    def text(self, text: str) -> str:
        self.markdown.append(text)
        return report.paragraph(text)

    def pictures(self, pictures: Iterable[Picture]) -> str:
        return "".join(map(self._picture, pictures))

    def _picture(self, picture: Picture) -> str:
        self._rows("figures", picture.name, picture.rows)

        def draw(figure: Any) -> None:
            picture.draw(figure, picture.rows)

        file = f"figures/{picture.name}.png"
        report.save(self.folder / file, picture.size, draw)
        self.markdown += [f"![{picture.name}]({file})", picture.caption]
        return report.figure(draw, picture.caption, picture.size)

    def table(self, table: Table) -> str:
        if not table.rows:
            return ""
        self._rows("tables", table.name, table.flat())
        self.markdown += [f"{table.caption}:", comparison.markdown(table.shown()).strip()]
        return report.table(table.shown(), table.caption)

    def _rows(self, kind: str, name: str, rows: Sequence[tables.Row]) -> None:
        folder = self.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{name}.csv", report.comma_separated(rows))
        write_atomically(folder / f"{name}.json", json.dumps(rows, indent=1, ensure_ascii=False))


def _head(study: Study, files: _Files) -> str:
    scale, every = study.scale, tasks.tasks(study.scale)
    missing = [task for task in every if not task.done()]
    seconds = sum(study.seconds().values())
    facts = {
        "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "grid": f"{len(every) - len(missing)} of {len(every)} tasks done, {seconds / 3600:.1f} hours of computing time",
        "experiments": ", ".join(scale.experiments),
        "base": scale.base,
    }
    for language in scale.languages:
        amounts = f", also {' and '.join(f'{h:g} h' for h in language.amounts)} of it" if language.amounts else ""
        data = ", ".join(Path(data).name for data in (language.dev, *language.tests))
        facts[language.name] = (
            f"trained on {Path(language.train).name}{amounts}; {language.steps} updates; number of seeds: "
            f"{language.seeds}; tested on {data}"
        )
    if about := study.about("step"):
        facts["measured"] = about
    if written := [path.stat().st_mtime for path in Path(scale.out).glob("runs/*/metrics.jsonl")]:
        facts["trained"] = f"first network finished {_time(min(written))}, last {_time(max(written))}"
    out = files.text(scale.note) if scale.note else ""
    files.markdown.append("\n".join(f"- {name}: {fact}" for name, fact in facts.items()))
    out += report.facts(facts) + files.table(inventory.data(study))
    if missing:
        files.markdown.append(f"Missing: {', '.join(task.name for task in missing)}.")
        out += report.folded(f"{len(missing)} tasks are missing", report.lines(task.name for task in missing))
    commands = [lasting(task) or task.name for task in every if task.done()]
    out += report.folded(f"{len(commands)} commands", report.lines(commands)) if commands else ""
    runs = files.table(inventory.runs(study))
    return out + (report.folded("Every training run", runs) if runs else "")


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _claims(study: Study, files: _Files) -> str:
    parts = (claims_of_cost, weights, claims_of_quality)
    found = sorted((f for part in parts for f in part.findings(study)), key=lambda finding: finding.section)
    counts = collections.Counter(finding.verdict for finding in found)
    summary = f"{len(found)} tests of claims: {', '.join(f'{count} {name}' for name, count in counts.most_common())}."
    text = files.text(summary) + files.text(_HOW)
    asked = files.table(tables.findings("claims", "The paper's claims, by section", found))
    beyond_it = files.table(tables.findings("questions", "Beyond the paper", list(beyond.findings(study))))
    return text + asked + beyond_it


_HOW = (
    "The rules are the same for all data and independent of the numbers. A difference is the network that the claim "
    "favours minus the other one, so a value below zero supports the claim. A claim is confirmed if the whole interval "
    "and every seed are below zero (or below the rule's threshold), refuted here if all of them are above it, and "
    "undecided otherwise. Intervals are 95 % and paired: means over seeds are resampled over utterances and, if at "
    "least ten speakers are known, over speakers, which then decides. They cover other sentences and voices; only the "
    "agreement of seeds covers other training runs. Times, work and updates have no utterances: the range over seeds "
    "serves as their interval, and a single seed decides nothing. Error rates are those of a beam search. Its language "
    "model is built from all training transcripts (even if a network was trained on part of the speech) and the "
    "language's extra text, if any; its weights are the paper's, 0.8 and 2.3, not tuned for these networks."
)


def _pictures(*builders: Callable[[Study], Iterable[Picture]]) -> Callable[[Study, _Files], str]:
    return lambda study, files: "".join(files.pictures(build(study)) for build in builders)


def _tables(*builders: Callable[[Study], Table]) -> Callable[[Study, _Files], str]:
    return lambda study, files: "".join(files.table(build(study)) for build in builders)


def _curves(experiment: str) -> Callable[[Study, _Files], str]:
    return lambda study, files: files.pictures(figures.curves_of(study, experiment))


def _adapted(experiment: str) -> Callable[[Study, _Files], str]:
    return _tables(lambda study: tables.adapted(study, experiment))


def _gains(experiment: str) -> Callable[[Study, _Files], str]:
    return _tables(lambda study: tables.gains(study, experiment))


def _both(*parts: Callable[[Study, _Files], str]) -> Callable[[Study, _Files], str]:
    return lambda study, files: "".join(part(study, files) for part in parts)


def _worst(study: Study, files: _Files) -> str:
    return "".join(files.table(tables.worst(study, language)) for language in study.languages("table1"))


def _weights(number: int) -> Callable[[Study, _Files], str]:
    def build(study: Study, files: _Files) -> str:
        for language in study.languages(f"figure{number}"):
            files.markdown.append(f"![figure{number}](weights_{language.name}/figure{number}.png)")
        return weights.figures(study, number)

    return build


_SECTIONS: dict[str, Callable[[Study, _Files], str]] = {
    "What was run": _head,
    "The paper's claims, tested here": _claims,
    "Retaining or reinitialising weights (Figure 2)": _curves("figure2"),
    "How many layers to freeze (Figure 3)": _curves("figure3"),
    "Time per update (Figure 4)": _pictures(bars.figure4),
    "Memory (section 6.3)": _pictures(bars.memory),
    "Training from scratch or from English (Figure 5)": _curves("figure5"),
    "Less training speech (Figure 6)": _pictures(figures.figure6),
    "Weights and their changes (Figure 7)": _weights(7),
    "Filters of the input layer (Figure 8)": _weights(8),
    "Error rates (Table 1)": _tables(tables.table1),
    "Gain from the language model (Table 3)": _tables(tables.table3),
    "Worst utterances (section 6.6)": _worst,
    "Forgetting the base's language": _both(_pictures(figures.forgetting), _tables(tables.forgetting)),
    "Freezing first, then training all layers": _both(_curves("unfreezing"), _adapted("unfreezing")),
    "Hours of training speech": _both(_pictures(bars.amounts), _gains("amounts"), _adapted("amounts")),
    "Near and far languages (section 6.8)": _both(_pictures(bars.distance), _gains("distance"), _adapted("distance")),
}
