"""The report's tables: rows of numbers with intervals, which become HTML, CSV and JSON alike."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import results
from pages.comparison import Decoded
from reproduction import evidence
from reproduction.claims import Finding
from reproduction.grid import SCRATCH, Language, Variant
from reproduction.study import Study
from w2l_jax import metrics

Row = dict[str, Any]


class Number(NamedTuple):
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text, numbers and Numbers with common heads."""

    name: str
    """Of its files."""
    caption: str
    rows: list[Row]

    def shown(self) -> list[Row]:
        """For readers: numbers with one decimal (small ones with three digits), followed by intervals."""
        return [{head: shown(cell) for head, cell in row.items()} for row in self.rows]

    def flat(self) -> list[Row]:
        """For programs: exact numbers, intervals in two more columns."""
        return [_flat(row) for row in self.rows]


def shown(cell: Any) -> str:
    """A cell for readers."""
    if isinstance(cell, Number):
        return f"{cell.value:.1f} [{cell.low:.1f}, {cell.high:.1f}]"
    if isinstance(cell, float):
        return f"{cell:,.1f}" if abs(cell) >= 1 else f"{cell:.3g}"
    return "–" if cell is None else f"{cell:,}" if isinstance(cell, int) else str(cell)


def _flat(row: Row) -> Row:
    out: Row = {}
    for head, cell in row.items():
        if isinstance(cell, Number):
            out |= {head: cell.value, f"{head} low": cell.low, f"{head} high": cell.high}
        else:
            out[head] = cell
    return out


_RATES = {name: f"{title} (%)" for name, title in results.RATES.items()}


def table1(study: Study) -> Table:
    """Error rates of networks from scratch (S) and of the best transfer (TL) on each data, with language model."""
    out = []
    for language in study.languages("table1"):
        best = best_transfer(study, language)
        for data in (language.dev, *language.tests):
            for kind, variant in (("S", SCRATCH), ("TL", best)):
                found = variant and rates(study.decoded(language, variant, data), "beam")
                if found:
                    out.append({"data": Path(data).name, "network": kind, "trained": variant.text, **found})
    base = study.base()
    if found := base and rates({0: base}, "greedy"):
        start = {"data": Path(study.scale.base_data).name, "network": "base"}
        out.append({**start, "trained": "before transfer; greedy", **found})
    out += [_paper(out, *row) for row in _PAPER_TABLE1] if out else []
    caption = (
        "Table 1. Training from scratch (S) and the best transfer (TL: the network with the lowest LER on the dev "
        "data, which slightly favours it there): beam search with a language model, after the same number of updates. "
        "Means over seeds with 95 % bootstrap intervals. The paper's rows are for other data and far longer training"
    )
    return Table("table1", caption, out)


_PAPER_TABLE1 = (
    ("all German corpora", "S", "from scratch", 22.78, 58.36),
    ("all German corpora", "TL", "k = 0", 15.05, 42.49),
    ("LibriSpeech test-clean", "base", "before transfer", 13.66, 43.58),
)
_PAPER_TABLE3 = (
    ("all German corpora", "k = 0", "greedy", 16.77, 56.14),
    ("all German corpora", "k = 0", "beam, LM", 15.05, 42.49),
)


def _paper(rows: Sequence[Row], data: str, second: str, third: str, ler: float, wer: float) -> Row:
    """A row of the paper under the heads of `rows`."""
    row = dict.fromkeys(rows[0])
    known = dict(zip(rows[0], (f"paper: {data}", second, third), strict=False))
    return row | known | {_RATES["ler"]: ler, _RATES["wer"]: wer}


def table3(study: Study) -> Table:
    """Greedy, beam search without and with language model."""
    out = []
    for language in study.languages("table3"):
        for variant in language.variants("table3"):
            for data in (language.dev, *language.tests):
                decoded = study.decoded(language, variant, data)
                for search, name in results.TABLE3.items():
                    if found := rates(decoded, search):
                        out.append({"data": Path(data).name, "network": variant.text, "search": name, **found})
    out += [_paper(out, *row) for row in _PAPER_TABLE3] if out else []
    caption = "Table 3. With and without a language model; means over seeds with 95 % bootstrap intervals"
    return Table("table3", caption, out)


def best_transfer(study: Study, language: Language, experiment: str = "table1") -> Variant | None:
    """The adapted network with the lowest LER on the dev data, with language model, among an experiment's."""
    lers = {}
    for variant in language.variants(experiment):
        found = evidence.pooled(study.decoded(language, variant, language.dev), "beam")
        if variant != SCRATCH and found:
            lers[variant] = metrics.rates(found.values()).ler
    return min(lers, key=lers.get) if lers else None


def rates(decoded: Mapping[int, Decoded], search: str) -> Row | None:
    """The four rates in percent, means over seeds, with intervals; None without this search."""
    errors = evidence.pooled(decoded, search)
    if not errors:
        return None
    found, seeds = list(errors.values()), [one for one in decoded.values() if search in one.errors]
    units, of = metrics.resampling_units([seeds[0].records[name].get("speaker", "") for name in errors])
    values, spans = dataclasses.asdict(metrics.rates(found)), metrics.intervals(found, units)
    row: Row = {head: Number(*(100 * x for x in (values[name], *spans[name]))) for name, head in _RATES.items()}
    lers = [100 * metrics.rates(s.errors[search].values()).ler for s in seeds]
    spread = f"{min(lers):.1f} to {max(lers):.1f}" if len(seeds) > 1 else "–"
    return row | {"LER over seeds (%)": spread, "seeds": len(seeds), "resampled": f"{len(set(units))} {of}"}


def adapted(study: Study, experiment: str) -> Table:
    """Error rates of every network of an experiment on the dev data, greedy and with language model."""
    out = []
    for language in study.languages(experiment):
        for variant in language.variants(experiment):
            decoded = study.decoded(language, variant, language.dev)
            for search in ("greedy", "beam"):
                if found := rates(decoded, search):
                    far = f" ({language.distance})" if language.distance else ""
                    network = {"network": variant._replace(hours=0.0).text, "hours": variant.hours or "all"}
                    start = {"language": f"{language.name}{far}"}
                    out.append({**start, **network, "search": results.TABLE3[search], **found})
    return Table(experiment, f"Error rates ({experiment}); 95 % bootstrap intervals", out)


def gains(study: Study, experiment: str) -> Table:
    """The relative reduction of LER by transfer, by language and hours of speech."""
    out = []
    for language in study.languages(experiment):
        for variant in language.variants(experiment):
            fresh = SCRATCH._replace(hours=variant.hours)
            ours, theirs = (study.decoded(language, v, language.dev) for v in (variant, fresh))
            found = None if variant == fresh else evidence.gain(ours, theirs)
            if found:
                network = {"network": variant._replace(hours=0.0).text, "hours": variant.hours or "all"}
                gain = Number(found[0].value, *found[0].span)
                start = {"language": language.name, "distance": language.distance or "–"}
                out.append({**start, **network, "LER reduction over scratch (%)": gain, "seeds": len(found[0].seeds)})
    caption = f"Gain of transfer over training from scratch ({experiment}), with a language model; 95 % intervals"
    return Table(f"{experiment}_gains", caption, out)


def forgetting(study: Study) -> Table:
    """The base's own language before adaptation and after it, greedy."""
    out = []
    base = study.base()
    before = base and rates({0: base}, "greedy")
    for language in study.languages("forgetting"):
        for variant in language.variants("forgetting"):
            ends = [line for cell in study.cells(language, variant) for line in last(study.course(cell), "old_dev")]
            if ends:
                lers, wers = ([100 * line[name] for line in ends] for name in ("ler", "wer"))
                out.append(
                    {
                        "adapted to": language.name, "network": variant.text, "updates": ends[0]["step"],
                        "LER before (%)": before and before[_RATES["ler"]], "LER after (%)": _spread(lers),
                        "WER before (%)": before and before[_RATES["wer"]], "WER after (%)": _spread(wers),
                        "seeds": len(ends),
                    }
                )  # fmt: skip
    caption = (
        "Greedy error rates on the base's own language: before adaptation with the 95 % bootstrap interval, after it "
        "with the range over seeds"
    )
    return Table("forgetting", caption, out)


def last(course: Sequence[Row], kind: str) -> list[Row]:
    """The last line of a kind of a run's metrics, if there is one."""
    return [line for line in course if line["kind"] == kind][-1:]


def _spread(values: Sequence[float]) -> Number:
    return Number(float(np.mean(values)), min(values), max(values))


def worst(study: Study, language: Language, count: int = 10) -> Table:
    """The utterances with the highest WER of the best transfer's first seed, as in section 6.6."""
    best, out = best_transfer(study, language), []
    for data in (language.dev, *language.tests) if best else ():
        decoded = next(iter(study.decoded(language, best, data).values()), None)
        if decoded is None or "beam" not in decoded.errors:
            continue
        ranked = sorted(decoded.errors["beam"].items(), key=lambda item: (-item[1].wer, -item[1].ler, item[0]))
        for name, errors in ranked[:count]:
            record = decoded.records[name]
            text = {"expected": record["expected"], "predicted": record["predicted"]}
            out.append(
                {"data": Path(data).name, **text, "LER (%)": 100 * errors.ler, "WER (%)": 100 * errors.wer}
                | {"loss (nats)": record["loss"], "utterance": name}
            )
    text = (
        f"{language.name}, {best.text if best else ''}: the utterances with the highest word error rates (section 6.6)"
    )
    return Table(f"worst_{language.name}", text, out)


def findings(name: str, caption: str, found: Sequence[Finding]) -> Table:
    """Claims with their verdicts."""
    heads = {"section": "section", "claim": "claim", "where": "tested on", "verdict": "verdict"}
    heads |= {"found": "numbers, or why there are none", "rule": "rule"}
    return Table(name, caption, [{head: getattr(f, field) for field, head in heads.items()} for f in found])
