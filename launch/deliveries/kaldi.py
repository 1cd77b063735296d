"""Kaldi data directories: `wav.scp`, `text`, `utt2spk`, and optionally `segments` and `utt2lang`.

Every file is a list of lines `<key> <value>`, separated by blanks or tabs (kaldi-asr.org, "Data preparation").
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deliveries.collector import Collector
from w2l_jax.corpora import SPLITS, Reading, split_named
from w2l_jax.corpora.rows import BrokenRowError, Place
from w2l_jax.errors import UserError

Table = dict[str, tuple[Place, str]]
"""Key → its place and value."""
Audio = dict[str, list[Path]]

_BLANKS = re.compile(r"[ \t]+")
_MARKS = (  # of the recipes' corpora, by their documentation
    (re.compile(r"(?<!\S)!?(SIL|SPN|NSN|LAU)(?!\S)"), " "),  # silence and noises that are not words
    (re.compile(r"\[laughter-([^][]+)\]", re.IGNORECASE), r"\1"),  # Switchboard: a word spoken while laughing
    (re.compile(r"\[([^][/]+)/[^][]+\]"), r"\1"),  # Switchboard: as pronounced / as intended
    (re.compile(r"(?<=\w)\[[^][/]+\](?=[-\w]|$)|(?<!\S)-?\[[^][/]+\](?=\w)"), ""),  # the rest of a broken-off word
    (re.compile(r"(?<=\w)(\([0-9]\)|_[0-9])(?!\S)"), ""),  # TED-LIUM, Switchboard: which pronunciation of a word
)


def read(source: Path, root: str | Path | None = None) -> Reading:
    """Reads a data directory, or all directly in `source`; the beginning of their names is their split.

    `test_clean`, `eval2000`, `dev_other`, `train_si284` are such names; others leave the split open. Relative paths in
    wav.scp start at `root`, by default at the data directory; absolute ones work too. With `segments`, utterances are
    pieces of recordings. Pipes in wav.scp are never run but count as broken rows. Raises UserError if there is no data
    directory.
    """
    source = Path(source)
    folders = [source] if (source / "wav.scp").is_file() else [path.parent for path in source.glob("*/wav.scp")]
    folders.sort(key=lambda folder: ((*SPLITS, "").index(split_named(folder.name)), folder))
    if not folders:
        raise UserError(f"{source}: not a Kaldi data directory: neither it nor its folders have wav.scp")
    audio: Audio = {}
    collector = Collector(source, audio, source=source.absolute().name)
    notes = []
    for folder in folders:
        audio.update(_recordings(collector, folder, root, audio))
        split = split_named(folder.absolute().name)
        notes.append(f"{folder}: {f'all of it is {split} data, as its name says' if split else 'split by speaker'}")
        _collect(collector, folder, split)
    return collector.reading(notes=[f"{note} (override with --as)" for note in notes])


def _recordings(
    collector: Collector, folder: Path, root: str | Path | None, known: Audio
) -> Iterator[tuple[str, list[Path]]]:
    """Yields the recordings of one data directory by name."""
    for name, (place, entry) in _table(collector, folder / "wav.scp").items():
        with collector.row(place):
            if entry.endswith("|"):
                raise BrokenRowError(f"{place}: a pipe, which is not run; write its output to a file and name that")
            if re.search(r"\.ark:\d+$", entry):
                raise BrokenRowError(f"{place}: an offset in an archive; copy the recordings to files (wav-copy)")
            path = Path(root or folder) / entry
            if known.get(name, [path]) != [path]:
                raise BrokenRowError(f"{place}: the recording {name!r} is already {known[name][0]}", "duplicate id")
            yield name, [path]


def _collect(collector: Collector, folder: Path, split: str) -> None:
    """Adds the utterances of one data directory."""
    texts, speakers = (_table(collector, folder / name, values=name != "text") for name in ("text", "utt2spk"))
    languages = _table(collector, folder / "utt2lang") if (folder / "utt2lang").is_file() else {}
    segmented = (folder / "segments").is_file()
    segments = _table(collector, folder / "segments") if segmented else {}
    for id, (place, text) in texts.items():
        with collector.row(place):
            if id not in speakers:
                message = f"{place}: {id!r} has no speaker in {folder / 'utt2spk'}; if unknown, repeat the id"
                raise BrokenRowError(message, "no speaker", id)
            if segmented and id not in segments:
                raise BrokenRowError(f"{place}: {id!r} is not in {folder / 'segments'}", "missing audio", id)
            fields = {"speaker": speakers[id][1], "language": languages.get(id, (place, ""))[1], "split": split}
            piece = _piece(*segments[id], id) if segmented else {}
            for mark, spoken in _MARKS:
                text = mark.sub(spoken, text)
            collector.add(place, id, text, **piece, **fields)
    for id, (place, entry) in segments.items():
        if id not in texts:
            with collector.row(place):
                recording = _piece(place, entry, id)["recording"]
                collector.skip(place, id, "no transcript", f"{id!r} is not in {folder / 'text'}", recording)


def _piece(place: Place, entry: str, id: str) -> dict[str, Any]:
    """Returns the recording, start and end (seconds; −1: that of the recording) of a line of `segments`."""
    try:
        recording, first, last = _BLANKS.split(entry)
        start, end = float(first), float(last)
    except ValueError:
        raise BrokenRowError(f"{place}: not `<utterance> <recording> <start> <end>`", id=id) from None
    if not (0 <= start < math.inf and (start < end < math.inf or end == -1)):
        raise BrokenRowError(f"{place}: {first} to {last} s is not a piece of a recording", id=id)
    return {"recording": recording, "start": start, "end": None if end == -1 else end}


def _table(collector: Collector, path: Path, values: bool = True) -> Table:
    """Reads a list; a row with a repeated key or, with `values`, without a value is broken."""
    table: Table = {}
    for place, line in collector.lines(path, "file of a Kaldi data directory"):
        key, _, value = _BLANKS.sub(" ", line.strip(" \t"), count=1).partition(" ")
        with collector.row(place):
            if values and not value:
                raise BrokenRowError(f"{place}: {key!r} has no value", id=key)
            first, _ = table.setdefault(key, (place, value))
            if first is not place:
                raise BrokenRowError(f"{place}: {key!r} is already in line {first.line}", "duplicate id", key)
    return table
