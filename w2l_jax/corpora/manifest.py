"""JSON-lines manifests in NeMo's convention: one object a line, audio paths relative to the manifest."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from w2l_jax.corpora import Reading, Utterance
from w2l_jax.corpora.archives import lines
from w2l_jax.errors import UserError

_NUMBER = (int, float)
_FIELDS = {
    "audio_filepath": str,
    "text": str,
    "id": str,
    "duration": _NUMBER,
    "speaker": str,
    "lang": str,
    "split": str,
    "source": str,
}
_REQUIRED = ("audio_filepath", "text")


def read(path: str | Path) -> list[Utterance]:
    """Reads a manifest: `audio_filepath`, `text`, optional `id`, `duration`, `speaker`, `lang`, `split`, `source`.

    The id is `id` or the audio file's stem, the source `source` or the manifest's stem; further fields are left
    alone, and so is `duration`: the audio itself is measured. Raises UserError with file and line for anything that
    cannot be read, and for two lines with one id.
    """
    return list(scan(path))


def scan(path: str | Path) -> Iterator[Utterance]:
    """Yields the utterances of a manifest one by one, for whom their texts suffice; raises UserError as `read` does."""
    path = Path(path)
    numbers: dict[str, int] = {}
    for place, line in lines(path, "manifest"):
        where = str(place)
        utterance = _utterance(path, _fields(line, where), where)
        first = numbers.setdefault(utterance.id, place.line)
        if first != place.line:
            raise UserError(
                f"{where}: the id {utterance.id!r} is already that of line {first}; remove one of the two lines, "
                'or give them different "id" fields (without one, the id is the audio file\'s name without its ending)'
            )
        yield utterance
    if not numbers:
        raise UserError(f"{path}: holds no utterances; it needs one JSON object a line, such as {_EXAMPLE}")


def reading(path: Path) -> Reading:
    """Reads a manifest as the catalog's corpora are read; raises UserError as `read` does."""
    return Reading(tuple(read(path)))


_EXAMPLE = '{"audio_filepath": "a.wav", "text": "hello", "speaker": "anna"}'


def _fields(line: str, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON ({error}); each line is one object such as {_EXAMPLE}") from None
    if not isinstance(fields, dict):
        raise UserError(f"{where}: a JSON object is wanted, such as {_EXAMPLE}, not {line.strip()[:60]!r}")
    for name in _REQUIRED:
        if name not in fields:
            raise UserError(f"{where}: the field {name!r} is missing; each line is an object such as {_EXAMPLE}")
    for name, kind in _FIELDS.items():
        # null stands for "not known" in optional fields; true and false are no numbers, though Python's bool is int.
        if fields.get(name) is None and name not in _REQUIRED:
            continue
        if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
            wanted = "a number" if kind is _NUMBER else "a string"
            raise UserError(f"{where}: {name!r} must be {wanted}, not {json.dumps(fields[name])[:60]}")
        if isinstance(fields[name], str) and any("\ud800" <= char <= "\udfff" for char in fields[name]):
            raise UserError(f"{where}: {name!r} holds half a character (a lone surrogate); write the file as UTF-8")
    return fields


def _utterance(path: Path, fields: dict[str, Any], where: str) -> Utterance:
    name = fields["audio_filepath"]
    if not name.strip() or "\0" in name:
        raise UserError(f"{where}: 'audio_filepath' is empty or no path; it names the recording, relative to {path}")
    audio = path.parent / name
    return Utterance(
        id=fields.get("id") or audio.stem,
        audio=audio,
        text=fields["text"],
        speaker=fields.get("speaker") or "",
        language=fields.get("lang") or "",
        split=fields.get("split") or "",
        source=fields.get("source") or path.stem,
    )
