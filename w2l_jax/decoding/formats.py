"""Transcripts as text, JSON, subtitles or a table."""

import html
import itertools
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from w2l_jax.decoding.recordings import Segment, Word
from w2l_jax.text import characters, join_unspaced, unspaced

_LINE, _LINES = 42, 2  # broadcasters' limits for subtitles
_LONGEST, _SHORTEST = 7.0, 1.0  # seconds that a subtitle is shown


class Cue(NamedTuple):
    """A subtitle: at most two lines of text, with start and end in seconds."""

    start: float
    end: float
    text: str


def txt(name: str, segments: Iterable[Segment]) -> Iterator[str]:
    """Yields one line of text per segment (at least one), after the recording's name unless that is empty."""
    start = f"{name}: " if name else ""
    lines = (f"{start}{segment.text}\n" for segment in segments)
    first = next(lines, f"{start}\n")
    yield first
    yield from lines


def tsv(name: str, segments: Iterable[Segment]) -> Iterator[str]:
    """Yields one line per segment: start and end in seconds and text, separated by tabs (Audacity's labels)."""
    for segment in segments:
        yield f"{segment.start:.3f}\t{segment.end:.3f}\t{segment.text}\n"


def json_line(name: str, segments: Iterable[Segment]) -> Iterator[str]:
    """Yields one JSON object: recording, text, and segments with their times, words, confidences and scores."""
    records = [record(segment) for segment in segments]
    text = join_unspaced(" ".join(item["text"] for item in records))
    yield json.dumps({"recording": name, "text": text, "segments": records}, ensure_ascii=False) + "\n"


def manifest(name: str, segments: Iterable[Segment]) -> Iterator[str]:
    """Yields one manifest line per segment: the recording, the piece, and its text."""
    for segment in segments:
        seconds = {"offset": round(segment.start, 3), "duration": round(segment.end - segment.start, 3)}
        yield json.dumps({"audio_filepath": name, **seconds, "text": segment.text}, ensure_ascii=False) + "\n"


def record(segment: Segment) -> dict[str, Any]:
    """A segment for JSON: times, text, words with times and confidences, and scores."""
    content = {"start": segment.start, "end": segment.end, "text": segment.text}
    if best := segment.transcript:
        scores = {"score": best.score, "acoustic_score": best.acoustic_score, "lm_score": best.lm_score}
        content |= {name: round(score, 4) for name, score in scores.items()}
    content["words"] = [
        {"word": word.word, "start": word.start, "end": word.end}
        | ({} if word.confidence is None else {"confidence": round(word.confidence, 4)})
        for word in segment.words
    ]
    return content


def srt(name: str, segments: Iterable[Segment]) -> Iterator[str]:
    """Yields SubRip subtitles of at most two lines of 42 columns, shown for one to seven seconds."""
    for number, cue in enumerate(cues(segments), start=1):
        yield f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text}\n\n"


def vtt(name: str, segments: Iterable[Segment]) -> Iterator[str]:
    """Yields the same subtitles as WebVTT."""
    yield "WEBVTT\n\n"
    for cue in cues(segments):
        text = html.escape(cue.text, quote=False)
        yield f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{text}\n\n"


FORMATS: dict[str, Callable[[str, Iterable[Segment]], Iterator[str]]] = {
    "txt": txt,
    "json": json_line,
    "srt": srt,
    "vtt": vtt,
    "tsv": tsv,
    "manifest": manifest,
}


def cues(segments: Iterable[Segment]) -> Iterator[Cue]:
    """Yields the segments as subtitles, divided at their longest pauses until each is short enough."""
    divided = (cue for segment in segments for cue in _divided(_units(segment.words)))
    for cue, following in itertools.pairwise(itertools.chain(divided, [None])):
        # A single word would disappear before it can be read.
        latest = cue.start + _SHORTEST if following is None else min(cue.start + _SHORTEST, following.start)
        yield cue._replace(end=max(cue.end, latest))


class _Unit(NamedTuple):
    """A unit of a line: a word, or a character of a script without spaces; `space` precedes it."""

    text: str
    start: float
    end: float
    space: str = " "


def _units(words: Iterable[Word]) -> list[_Unit]:
    """The words; those of a script without spaces are divided into characters of equal duration."""
    units: list[_Unit] = []
    for word in words:
        chars = characters(word.word)
        chars = chars if len(chars) > 1 and all(map(unspaced, chars)) else [word.word]
        step = (word.end - word.start) / len(chars)
        for i, char in enumerate(chars):
            glued = units and unspaced(char) and unspaced(units[-1].text[-1])
            end = word.end if i == len(chars) - 1 else word.start + (i + 1) * step
            units.append(_Unit(char, word.start + i * step, end, "" if glued else " "))
    return units


def _divided(units: Sequence[_Unit]) -> Iterator[Cue]:
    lines = _lines(units)
    start, end = units[0].start, units[-1].end
    if len(units) == 1 or (len(lines) <= _LINES and end - start <= _LONGEST):
        yield Cue(start, end, "\n".join(lines))
        return
    # At a pause in the middle half, so that no single word is split off; without a pause in the middle.
    quarter = len(units) // 4
    stops = range(max(1, quarter), max(2, len(units) - quarter))
    stop = max(stops, key=lambda i: (round(units[i].start - units[i - 1].end, 3), -abs(2 * i - len(units))))
    yield from _divided(units[:stop])
    yield from _divided(units[stop:])


def _lines(units: Sequence[_Unit]) -> list[str]:
    lines = [units[0].text]
    for unit in units[1:]:
        longer = f"{lines[-1]}{unit.space}{unit.text}"
        if _columns(longer) <= _LINE:
            lines[-1] = longer
        else:
            lines.append(unit.text)
    return lines


def _columns(text: str) -> int:
    """The width of a text: wide (Chinese) characters take two columns, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _clock(seconds: float, mark: str) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}{mark}{milliseconds % 1000:03d}"
