"""LJSpeech, and the many corpora in its layout: `metadata.csv` beside a folder with recordings, `wavs/`.

A line is a file name without suffix, a text and perhaps a third column, separated by `|`, without quoting or header.
M-AILABS, with one such folder per book, can be read as a whole.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path

from rapidfuzz import fuzz

from deliveries.archives import listing, recordings, without_ending
from deliveries.collector import Collector
from w2l_jax.corpora import Reading
from w2l_jax.corpora.rows import BrokenRowError
from w2l_jax.errors import UserError

_METADATA = "metadata.csv"
_SPELLED = ("id", "text", "normalized")
_NAMES = {*_SPELLED, "speaker", "-"}
_SIMILAR = 50  # of 100; a text and the same with numbers spelled out have 80 and more on average, other pairs under 40


def read(source: Path, language: str = "", speaker: str = "", columns: str = "") -> Reading:
    """Reads every `metadata.csv` at and below `source`; the text with spelled-out numbers is preferred.

    The meaning of the third column is inferred from all rows: the text again, its length, the speaker before the text,
    or a label after it; `columns` overrides it, such as `id,speaker,text` or `id,text,-`. Without speakers (`speaker`
    names a single reader), a random split has the same voices on both sides. Raises UserError if there is no
    `metadata.csv`, or the columns are ambiguous.
    """
    listed = listing(Path(source))
    folders = [folder for folder, names in listed if _METADATA in names]
    if not folders:
        raise UserError(f"{source}: holds no {_METADATA}; give the folder with {_METADATA} and wavs/")
    audio = recordings(listed)
    collector = Collector(Path(source), audio, source=Path(source).absolute().name, language=language, speaker=speaker)
    notes = []
    for folder in folders:
        table = folder / _METADATA
        rows = [(place, line.split("|")) for place, line in collector.lines(table, "table of LJSpeech")]
        names = _named(columns) if columns else _columns(table, [fields for _, fields in rows])
        if names not in (_SPELLED, _SPELLED[:2]):
            notes.append(f"{table}: its columns are {'|'.join(names)} (to override: columns={','.join(names)})")
        for place, fields in rows:
            with collector.row(place):
                short = len(fields) == 2 and names[1] == "text"
                if not fields[0].strip() or "/" in fields[0] or not (short or len(fields) == len(names)):
                    raise BrokenRowError(f"{place}: not a file name and {len(names) - 1} columns between |")
                row = {name: field.strip() for name, field in zip(names, fields, strict=not short)}
                stem = without_ending(row["id"])
                id = stem if len(audio.get(stem, ())) < 2 else str(folder.relative_to(source) / stem)
                speaker_field = {"speaker": row["speaker"]} if row.get("speaker") else {}
                collector.add(place, id, row.get("normalized") or row["text"], stem, **speaker_field)
    if not speaker and not any(utterance.speaker for utterance in collector.utterances):
        notes.append(f"{source}: {_METADATA} names no speakers, so a random split may have the same on both sides")
    return collector.reading(notes=notes)


def _named(columns: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in columns.split(","))
    if names[0] != "id" or "text" not in names or not set(names) <= _NAMES:
        raise UserError(f"columns={columns!r}: give names of {', '.join(sorted(_NAMES))}, id first, such as id,text,-")
    return names


def _columns(table: Path, rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Returns the meaning of a table's columns, as far as the content determines it."""
    second, third = ([fields[i].strip() for fields in rows if len(fields) == 3] for i in (1, 2))
    if not second:
        if max(map(len, rows), default=2) > 3:
            raise UserError(f"{table}: more than three columns; name them, such as columns=id,speaker,text,-")
        return _SPELLED[:2]
    pairs = [(a, b) for a, b in zip(second, third, strict=True) if a and b]
    if not pairs or statistics.mean(fuzz.ratio(a.lower(), b.lower()) for a, b in pairs) > _SIMILAR:
        return _SPELLED
    numbers = all(value.replace(".", "", 1).isdecimal() for value in third)
    if (numbers or _labels(third)) and not _labels(second):
        return ("id", "text", "-")
    if _labels(second) and not (numbers or _labels(third)):
        return ("id", "speaker", "text")
    raise UserError(
        f"{table}: its third column {third[0]!r} is neither the text {second[0]!r} again nor clearly something else; "
        "name the columns: columns=id,text,normalized or id,speaker,text or id,text,-"
    )


def _labels(values: Sequence[str]) -> bool:
    """Whether a column holds names that recur rather than sentences."""
    return not any(" " in value for value in values) and 2 * len(set(values)) <= len(values)
