"""Manifests: JSON lines in NeMo's convention, or a table with a header (CSV, TSV); paths are relative to the file."""

import csv
import dataclasses
import functools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from w2l_jax.corpora import SPLITS, Reading, Skipped, Utterance, split_named
from w2l_jax.corpora.rows import BrokenRowError, Place, lines, on_disk
from w2l_jax.errors import UserError

_NAMES = {
    "audio_filepath": "audio audio_path audio_file path file file_name filename wav wav_filename",
    "text": "transcript transcription sentence",
    "id": "utt_id utterance_id",
    "speaker": "speaker_id client_id",
    "lang": "language locale",
    "split": "subset",
    "source": "",
    "offset": "start",
    "end": "",
    "duration": "",
}
"""The fields of a row, with their names in Common Voice, DeepSpeech, Hugging Face and lhotse."""
_FIELD = {other: name for name, others in _NAMES.items() for other in (*reversed(others.split()), name)}
_EXAMPLE = '{"audio_filepath": "a.wav", "text": "hello", "speaker": "anna"}'
ENDINGS = (".jsonl", ".json", ".csv", ".tsv")
_DELIMITERS = "\t,;|"

Row = tuple[Place, dict[str, Any]]


def read(path: str | Path) -> list[Utterance]:
    """Reads the utterances of a manifest; raises UserError if it holds none, or too many broken rows (`Reading.check`).

    A row has `audio_filepath`, `text` and perhaps `id`, `speaker`, `lang`, `split`, `source`, and for a piece of a
    recording `offset` (or `start`) and `duration` (or `end`) in seconds; numbers are names too. Other fields are
    ignored, as is `duration` alone: the audio is measured. The id defaults to the audio file's stem, with its folder if
    others have the same and with the start of a piece; the source is the manifest's stem.
    """
    return list(reading(path).check(Path(path)).utterances)


def reading(path: str | Path) -> Reading:
    """Reads a manifest as `read`, listing broken rows; raises UserError if it holds no utterances."""
    path = Path(path)
    skipped: list[Skipped] = []

    def broken(place: Place, error: BrokenRowError) -> None:
        message = str(error) if str(error).startswith(str(place)) else f"{place}: {error}"
        skipped.append(Skipped(place.path, error.reason, message, error.id, broken=True))

    rows: list[tuple[Place, Utterance, Any]] = []
    for place, read_row in _rows(path, broken):
        try:
            fields = read_row()
            is_whole = not {"offset", "end"} & set(fields)
            rows.append((place, _utterance(path, fields), fields.get("duration") if is_whole else None))
        except BrokenRowError as error:
            broken(place, error)
    cut = {utterance.audio for _, utterance, _ in rows if utterance.start}
    stems = Counter(stem for stem, _ in {(u.audio.stem, u.audio) for _, u, _ in rows if not u.id})
    utterances: dict[str, tuple[Place, Utterance]] = {}
    for place, utterance, duration in rows:
        try:
            if duration is not None and utterance.audio in cut:  # the first piece of a recording, written without 0.0
                utterance = dataclasses.replace(utterance, end=_seconds("duration", duration))
            if not utterance.id:
                utterance = dataclasses.replace(utterance, id=_id(utterance, path.parent, stems))
            first, _ = utterances.setdefault(utterance.id, (place, utterance))
            if first is not place:
                raise BrokenRowError(
                    f"the id {utterance.id!r} is already that of line {first.line}; remove one of the two lines, "
                    'or give them different "id" fields (without one, the id is the audio file\'s name without its '
                    "ending)",
                    "duplicate id",
                    utterance.id,
                )
        except BrokenRowError as error:
            broken(place, error)
    if not utterances:
        why = f"; all {len(skipped)} rows are broken, the first: {skipped[0].message}" if skipped else ""
        raise UserError(f"{path}: holds no utterances; it needs one JSON object per line, such as {_EXAMPLE}{why}")
    return Reading(tuple(utterance for _, utterance in utterances.values()), tuple(skipped))


def _rows(
    path: Path, broken: Callable[[Place, BrokenRowError], None]
) -> Iterator[tuple[Place, Callable[[], dict[str, Any]]]]:
    """Yields each place with a function that reads its fields."""
    row = _json_row
    for number, (place, line) in enumerate(lines(path, "manifest", broken)):
        if not number and not line.lstrip().startswith(("{", "[")):
            delimiter = max(_DELIMITERS, key=line.count)
            header = [_FIELD.get(name.strip(' "').lower(), "") for name in line.split(delimiter)]
            if {"audio_filepath", "text"} <= set(header):
                row = functools.partial(_table_row, delimiter=delimiter, header=header)
                continue
            if path.suffix.lower() in (".csv", ".tsv"):
                names = ("audio_filepath", "text")
                missing = " and ".join(f"{n} (or {', '.join(_NAMES[n].split())})" for n in names if n not in header)
                columns = ", ".join(line.strip().split(delimiter))
                raise UserError(f"{path}: no column {missing}; its columns are {columns}")
        yield place, functools.partial(row, line)


def _split(line: str, delimiter: str) -> list[str]:
    quoting = csv.QUOTE_MINIMAL if delimiter in ",;" else csv.QUOTE_NONE
    try:
        return next(csv.reader([line], delimiter=delimiter, quoting=quoting), [])
    except csv.Error as error:
        raise BrokenRowError(f"not a row of a table ({error})") from None


def _table_row(line: str, delimiter: str, header: list[str]) -> dict[str, Any]:
    values = _split(line, delimiter)
    if len(values) != len(header):
        raise BrokenRowError(f"{len(values)} fields but the header has {len(header)}")
    return {name: value for name, value in zip(header, values, strict=True) if name and value}


def _json_row(line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BrokenRowError(f"not valid JSON ({error}); each line is one object such as {_EXAMPLE}") from None
    if not isinstance(fields, dict):
        raise BrokenRowError(f"each line must be a JSON object, such as {_EXAMPLE}, not {line.strip()[:60]!r}")
    # Null means "unknown"; NeMo's own names are set last, so they override others.
    known = sorted((pair for pair in fields.items() if pair[0] in _FIELD), key=lambda pair: pair[0] in _NAMES)
    return {_FIELD[name]: value for name, value in known if value is not None}


def _utterance(path: Path, fields: dict[str, Any]) -> Utterance:
    """The utterance of a row; its id is "" if the row has none."""
    for name in ("audio_filepath", "text"):
        if name not in fields:
            raise BrokenRowError(f"{name!r} is missing; each row needs it, such as {_EXAMPLE}")
    start, end = _piece(fields)
    text = {name: _text(name, fields.get(name, "")) for name in _NAMES if name not in ("offset", "end", "duration")}
    name = text["audio_filepath"]
    if not name.strip() or "\0" in name:
        raise BrokenRowError(f"'audio_filepath' is empty or not a path; give the recording's path, relative to {path}")
    if text["split"] and not split_named(text["split"]):
        raise BrokenRowError(f"its split is {text['split']!r}; known: {', '.join(SPLITS)}", id=text["id"])
    audio = path.parent / name
    return Utterance(
        id=text["id"],
        audio=on_disk(audio) or audio,
        text=text["text"],
        speaker=text["speaker"],
        language=text["lang"],
        split=split_named(text["split"]),
        source=text["source"] or path.stem,
        start=start,
        end=end,
    )


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BrokenRowError(f"{name!r} must be a string, not {json.dumps(value)[:60]}")
    text = str(value)
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise BrokenRowError(f"{name!r} holds half a character (a lone surrogate); write the file as UTF-8")
    return text


def _piece(fields: dict[str, Any]) -> tuple[float, float | None]:
    """Start and end of a row's piece in seconds; None: the end of the file."""
    if fields.get("offset", fields.get("end")) is None:
        return 0.0, None
    start = _seconds("offset", fields.get("offset", 0.0))
    if fields.get("end") is not None:
        end = _seconds("end", fields["end"])
    elif fields.get("duration") is not None:
        end = start + _seconds("duration", fields["duration"])
    else:
        return start, None
    if not end > start:
        raise BrokenRowError(f"{start:g} s to {end:g} s is not a piece of a recording", "outside the recording")
    return start, end


def _seconds(name: str, value: Any) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise BrokenRowError(f"{name!r} must be a non-negative number of seconds, not {json.dumps(value)[:60]}")
    return seconds


def _id(utterance: Utterance, folder: Path, stems: Counter[str]) -> str:
    audio = utterance.audio
    name = audio.stem
    if stems[name] > 1:
        inside = audio.relative_to(folder) if audio.is_relative_to(folder) else audio
        name = str(inside.with_suffix(""))
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")  # the same in any locale
    return name if not utterance.start and utterance.end is None else f"{name}-{round(1000 * utterance.start):07d}"
