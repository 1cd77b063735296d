"""BAS Partitur files (BPF, `.par`): a header, then one line per item, `KEY:` and fields between blanks or tabs."""

import dataclasses
import re
from collections.abc import Collection, Iterator

from deliveries.bas.annotation import Annotation, AnnotationError, Span, Word, union
from deliveries.bas.markers import decode

# The five classes of tiers: the fields before the label, which is the rest of the line.
_CLASSES = {
    ("link",): "KAN ORT TRL TR2 SUP DAS PRS NOI POS LMA",
    ("start", "duration"): "IPA",
    ("start",): "PRM LBG LBP",
    ("start", "duration", "link"): "SAP MAU WOR PHO MAS USP TRN",
    ("start", "link"): "PRB",
}
FIELDS = {tier: fields for fields, tiers in _CLASSES.items() for tier in tiers.split()}

_HEADER = ("SAM", "SPN")
_SEGMENTS = ("MAU", "MAS", "PHO")
"""The tiers with the times of words, preferred ones first."""

_LINE = re.compile(r"[ \t]*([A-Z][A-Z0-9]{2}):[ \t]*(.*)", flags=re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,15}")
_LINK = re.compile(r"(-1|[0-9]{1,9})([,;](-1|[0-9]{1,9}))*")


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """A line of a tier; fields that its class lacks have defaults."""

    tier: str
    label: str
    link: str = ""
    """The words it belongs to: `3`, `3,4`, `-1` (none) or `3;4` (between the two)."""
    start: int = 0
    """In samples."""
    duration: int = 0
    """In samples, less one: the item covers `start` … `start + duration`, both included."""

    @property
    def words(self) -> tuple[int, ...]:
        """The numbers of the words it belongs to."""
        return () if ";" in self.link else tuple(n for n in map(int, self.link.split(",")) if n >= 0)

    @property
    def span(self) -> Span:
        """The samples it covers."""
        return self.start, self.start + self.duration + 1


def read_items(text: str, tiers: Collection[str], place: str) -> list[Item]:
    """Returns the items of some tiers in the order of their lines; other lines are ignored.

    Raises AnnotationError, beginning with `place` and the line's number, for one that is not of its tier's class.
    """
    return [_item(key, rest, f"{place}:{number}") for number, key, rest in _lines(text) if key in tiers]


def read(content: bytes, place: str) -> Annotation:
    """Reads a Partitur file: words from ORT in the order of their links, times from MAU (else MAS, PHO), TR2, SPN.

    Raises AnnotationError with `place` and line if the words cannot be read; a file without ORT has none. Unreadable
    times are ignored, and `problem` says why.
    """
    text = decode(content)
    header = {key: rest for _, key, rest in _lines(text) if key in _HEADER}
    items = sorted(read_items(text, ("ORT", "TR2"), place), key=lambda item: item.words)
    words = [item for item in items if item.tier == "ORT"]
    problem, spans = "", [None] * len(words)
    try:
        spans = _spans(words, read_items(text, _SEGMENTS, place))
    except AnnotationError as error:
        problem = str(error)
    rate = int(header["SAM"]) if _NUMBER.fullmatch(header.get("SAM", "")) else 0
    if any(spans) and not rate:
        problem = f"{place}: no sample rate (SAM:) to turn its word times into seconds"
    return Annotation(
        words=tuple(Word(item.label, span) for item, span in zip(words, spans, strict=True)),
        rate=rate,
        tr2=tuple(item.label for item in items if item.tier == "TR2" and item.words),
        speaker=header.get("SPN", ""),
        problem=problem,
    )


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """Line numbers from 1, keys and the rest of the lines that have a key."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        match = _LINE.fullmatch(line)
        if match:
            yield number, match[1], match[2].strip(" \t")


def _item(tier: str, rest: str, place: str) -> Item:
    names = FIELDS[tier]
    values = re.split(r"[ \t]+", rest, maxsplit=len(names))
    fields: dict[str, str | int] = {}
    for name, value in zip(names, values, strict=False):
        if not (_LINK if name == "link" else _NUMBER).fullmatch(value):
            break
        fields[name] = value if name == "link" else int(value)
    if len(fields) < len(names):
        raise AnnotationError(
            f"{place}: {tier + ': ' + rest[:60]!r} is not {tier}: {' '.join(f'<{name}>' for name in names)} <label>; "
            "correct the line or remove the file"
        )
    item = Item(tier, values[len(names)] if len(values) > len(names) else "", **fields)
    if tier == "ORT" and not item.words:
        raise AnnotationError(f"{place}: a word needs a number, not the link {item.link!r}; correct the line")
    return item


def _spans(words: list[Item], segments: list[Item]) -> list[Span | None]:
    """For each word the union of its segments in the first tier that has any."""
    by_word: dict[tuple[str, int], list[Span]] = {}
    for segment in segments:
        for word in segment.words:
            by_word.setdefault((segment.tier, word), []).append(segment.span)
    spans = []
    for item in words:
        of_tiers = ([span for n in item.words for span in by_word.get((tier, n), [])] for tier in _SEGMENTS)
        spans.append(union(next(filter(None, of_tiers), [])))
    return spans
