"""EMU annotations (`<id>_annot.json`): levels of labelled items, and links from words to the segments below them."""

import json
from typing import Any

from deliveries.bas.annotation import Annotation, AnnotationError, Span, Word, union
from deliveries.bas.markers import decode

_WORDS = ("ORT", "word")
_SEGMENTS = (("PHO", "phonetic"), ("MAS",), ("MAU",))
"""The levels with the times of words, preferred ones first."""

Json = dict[str, Any]


def read(content: bytes, place: str) -> Annotation:
    """Reads an EMU annotation: words from the level labelled ORT (else word), times from PHO (else MAS, MAU), TR2.

    Raises AnnotationError with `place` if the words cannot be read; a file without such a level has none. Unreadable
    times are ignored, and `problem` says why.
    """
    document = _document(content, place)
    levels = _objects(document, "levels", place)
    words = next(filter(None, (_labelled(levels, name, place) for name in _WORDS)), [])
    problem, rate, spans = "", 0, [None] * len(words)
    try:
        spans = _spans(document, levels, [number for number, _ in words], place)
        if "sampleRate" in document or any(spans):
            rate = _samples(document, "sampleRate", place)
    except AnnotationError as error:
        problem, spans = str(error), [None] * len(words)
    return Annotation(
        words=tuple(Word(label, span) for (_, label), span in zip(words, spans, strict=True)),
        rate=rate,
        tr2=tuple(label for _, label in _labelled(levels, "TR2", place)),
        problem=problem,
    )


def _document(content: bytes, place: str) -> Json:
    try:
        document = json.loads(decode(content))
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{place}: not valid JSON ({error}); fetch the file again or remove it") from None
    if not isinstance(document, dict):
        raise AnnotationError(f"{place}: not an EMU annotation, which is a JSON object; remove the file")
    return document


def _objects(parent: Json, name: str, place: str) -> list[Json]:
    found = parent.get(name, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise AnnotationError(f"{place}: {name!r} must be a list of JSON objects; correct or remove the file")
    return found


def _labelled(levels: list[Json], name: str, place: str) -> list[tuple[Any, str]]:
    """Number and label `name` of the items of the first level that has such labels; [] if none has."""
    for level in levels:
        found, has_any = [], False
        for item in _objects(level, "items", place):
            labels = [label.get("value") for label in _objects(item, "labels", place) if label.get("name") == name]
            found.append((item.get("id"), _text(labels[0], place) if labels else ""))
            has_any = has_any or bool(labels)
        if has_any:
            return found
    return []


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or any("\ud800" <= char <= "\udfff" for char in value):
        raise AnnotationError(f"{place}: a word must be a string of whole characters, not {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return f"a {type(value).__name__}" if isinstance(value, dict | list) else json.dumps(value)[:60]


def _samples(parent: Json, name: str, place: str) -> int:
    value = parent.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**15:
        raise AnnotationError(f"{place}: {name!r} must be a number of samples, not {_shown(value)}")
    return value


def _number(parent: Json, name: str, place: str) -> int:
    value = parent.get(name)
    if not isinstance(value, int):
        raise AnnotationError(f"{place}: {name!r} must be an item's number, not {_shown(value)}")
    return value


def _spans(document: Json, levels: list[Json], words: list[Any], place: str) -> list[Span | None]:
    """For each word the union of the segments below it in the first level that has any."""
    below: dict[int, list[int]] = {}
    for link in _objects(document, "links", place):
        below.setdefault(_number(link, "fromID", place), []).append(_number(link, "toID", place))
    kinds = [_segments(levels, names, place) for names in _SEGMENTS]
    spans = []
    for word in words:
        items = _descendants(word, below) if isinstance(word, int) else set()
        found = ([segments[item] for item in items if item in segments] for segments in kinds)
        spans.append(union(next(filter(None, found), [])))
    return spans


def _segments(levels: list[Json], names: tuple[str, ...], place: str) -> dict[int, Span]:
    spans = {}
    for level in levels:
        if level.get("type") == "SEGMENT" and level.get("name") in names:
            for item in _objects(level, "items", place):
                start = _samples(item, "sampleStart", place)
                # Both the first and the last sample belong to a segment: start … start + duration.
                spans[_number(item, "id", place)] = start, start + _samples(item, "sampleDur", place) + 1
    return spans


def _descendants(item: int, below: dict[int, list[int]]) -> set[int]:
    """All items linked below an item; syllables may be between a word and its phonemes."""
    found: set[int] = set()
    todo = [item]
    while todo:
        new = [child for child in below.get(todo.pop(), []) if child not in found]
        found.update(new)
        todo += new
    return found
