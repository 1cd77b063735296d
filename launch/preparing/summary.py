"""Summaries of corpora: a few lines, the columns of the paper's Table 1, and label frequencies."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pages.html import as_csv
from w2l_jax.corpora import SPLITS, Utterance
from w2l_jax.dataset import filters
from w2l_jax.dataset.identity import PrepareConfig
from w2l_jax.dataset.shards import Row
from w2l_jax.dataset.store import EXCLUDED, Dataset

Table = list[list[str]]
"""A header and rows, as text."""


@dataclasses.dataclass
class CorpusSummary:
    """The utterances of one corpus, or of several together."""

    utterances: Counter[str] = dataclasses.field(default_factory=Counter)
    """By split."""
    seconds: Counter[str] = dataclasses.field(default_factory=Counter)
    """By split; empty if no audio was read."""
    speakers: set[str] = dataclasses.field(default_factory=set)
    excluded: Counter[str] = dataclasses.field(default_factory=Counter)
    """By reason."""
    labels: Counter[str] = dataclasses.field(default_factory=Counter)
    """By character of the alphabet."""

    def add(self, split: str, speaker: str, transcript: str, seconds: float = 0.0) -> None:
        """Counts an utterance."""
        self.utterances[split] += 1
        self.seconds[split] += seconds
        self.labels.update(transcript)
        if speaker:
            self.speakers.add(speaker)


class Summary:
    """The summaries of the corpora by name, and of all if there are several."""

    def __init__(self) -> None:
        self._corpora: dict[str, CorpusSummary] = {}

    def corpus(self, source: str) -> CorpusSummary:
        """Returns the summary of the corpus `source`, to add to."""
        return self._corpora.setdefault(source, CorpusSummary())

    def add_skipped(self, rows: Iterable[Row]) -> None:
        """Counts rows without an utterance."""
        for row in rows:
            self.corpus(row.get("source", "")).excluded[row["reason"]] += 1

    @property
    def lines(self) -> dict[str, CorpusSummary]:
        """The summaries by corpus, and of all as "all"."""
        lines = dict(sorted(self._corpora.items()))
        if len(lines) > 1:
            total = CorpusSummary()
            for name, line in lines.items():
                total.speakers |= {f"{name}\0{speaker}" for speaker in line.speakers}
                for field in ("utterances", "seconds", "excluded", "labels"):
                    getattr(total, field).update(getattr(line, field))
            lines["all"] = total
        return lines


def of_datasets(datasets: Mapping[str, Dataset], skipped: Iterable[Row] = ()) -> Summary:
    """Summarises prepared datasets, by split; `skipped` are rows excluded before preparation."""
    summary = Summary()
    summary.add_skipped(skipped)
    for split, dataset in datasets.items():
        for entry in dataset.entries:
            summary.corpus(entry.source).add(split, entry.speaker, entry.transcript, entry.duration)
        with (dataset.folder / EXCLUDED).open("rb") as file:
            summary.add_skipped(map(json.loads, file))
    return summary


def of_texts(splits: Mapping[str, Sequence[Utterance]], config: PrepareConfig, skipped: Iterable[Row] = ()) -> Summary:
    """Summarises utterances before reading audio: no hours, and exclusions by text only.

    Raises UserError as preparation would for their texts.
    """
    summary = Summary()
    summary.add_skipped(skipped)
    for split, utterances in splits.items():
        filters.check_languages(utterances, config.language)
        transcripts, excluded = filters.check_texts(
            utterances, config.labels, config.unknown_characters, **config.cleaning
        )
        for utterance in utterances:
            corpus = summary.corpus(utterance.source)
            if utterance.id in transcripts:
                corpus.add(split, utterance.speaker, transcripts[utterance.id])
            else:
                corpus.excluded[excluded[utterance.id].reason] += 1
    return summary


def corpora_table(summary: Summary) -> Table:
    """Table 1: hours, known speakers, utterances, hours (else utterances) per split, exclusions by reason."""
    lines = summary.lines
    timed = any(sum(line.seconds.values()) for line in lines.values())
    splits = [name for name in SPLITS if any(line.utterances[name] for line in lines.values())]
    reasons = sorted({reason for line in lines.values() for reason in line.excluded})
    header = ["corpus", "hours", "speakers", "utterances"]
    header += [f"{split} {'hours' if timed else 'utterances'}" for split in splits]
    table = [[*header, "skipped", *reasons]]
    for name, line in lines.items():
        row = [name, _hours(sum(line.seconds.values())) if timed else "", str(len(line.speakers))]
        row.append(str(line.utterances.total()))
        row += [_hours(line.seconds[split]) if timed else str(line.utterances[split]) for split in splits]
        table.append([*row, str(line.excluded.total()), *(str(line.excluded[reason]) for reason in reasons)])
    return table


def labels_table(summary: Summary) -> Table:
    """The label histogram: the count of each character in the transcripts of each corpus, and in total."""
    lines = summary.lines
    characters = sorted({character for line in lines.values() for character in line.labels})
    table = [["label", *lines]]
    for character in characters:
        shown = "space" if character == " " else character
        table.append([shown, *(str(line.labels[character]) for line in lines.values())])
    return [*table, ["total", *(str(line.labels.total()) for line in lines.values())]]


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}"


def as_text(table: Table) -> str:
    """Returns a table with aligned columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    rows = []
    for name, *cells in table:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        rows.append("  ".join([name.ljust(widths[0]), *aligned]).rstrip())
    return "\n".join(rows)


def as_markdown(table: Table) -> str:
    """Returns a table in Markdown."""
    header, *rows = [[cell.replace("|", r"\|") for cell in row] for row in table]
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [header, rule, *rows])


def write(summary: Summary, stem: Path) -> list[Path]:
    """Writes `<stem>.csv`, `<stem>_labels.csv` and both tables to `<stem>.md`; returns the files."""
    corpora, labels = corpora_table(summary), labels_table(summary)
    contents = {
        ".csv": as_csv(corpora),
        "_labels.csv": as_csv(labels),
        ".md": f"{as_markdown(corpora)}\n{as_markdown(labels)}",
    }
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = []
    for ending, content in contents.items():
        files.append(stem.with_name(stem.name + ending))
        files[-1].write_text(content, "utf-8")
    return files


def report_skipped(what: str, rows: Sequence[Row], listed: Path, examples: int) -> None:
    """Counts the skipped `rows` of a kind (`what`) by reason, with `examples` for each, and names the file with all."""
    if not rows:
        print(f"skipped none{what}")
        return
    reasons = Counter(row["reason"] for row in rows)
    print(f"skipped {len(rows):,}{what}, listed in {listed}:\n{filters.table(reasons)}")
    for reason in reasons:
        for row in [row for row in rows if row["reason"] == reason][:examples]:
            print(f"    {row['id']}: {reason}: {row['message']}")


def report(dataset: Dataset, examples: int) -> None:
    """Summarises a prepared dataset, with `examples` of skipped utterances per reason."""
    print(f"prepared {dataset.folder} ({dataset.language})")
    print(f"kept {len(dataset):,} utterances, {dataset.hours:.2f} h, speakers known: {len(dataset.speakers):,}")
    listed = dataset.folder / EXCLUDED
    report_skipped("", list(map(json.loads, listed.read_bytes().splitlines())), listed, examples)
    print(f"fingerprint {dataset.fingerprint}")
