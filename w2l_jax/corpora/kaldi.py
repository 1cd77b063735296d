"""Kaldi data directories: `wav.scp`, `text`, `utt2spk`, and where there are such, `segments` and `utt2lang`.

Every file is a list of lines `<key> <value>`, separated by blanks or tabs (kaldi-asr.org, "Data preparation").
"""

import math
import re
from pathlib import Path
from typing import Any

from w2l_jax.corpora import Reading
from w2l_jax.corpora.archives import SPLITS, Collector, Place, lines
from w2l_jax.errors import UserError

Table = dict[str, tuple[Place, str]]
"""Key → where it stands and its value."""

_BLANKS = re.compile(r"[ \t]+")


def read(source: Path, root: str | Path | None = None) -> Reading:
    """Reads a data directory, or those of `train`, `dev` and `test` in `source` that there are, as these splits.

    Relative paths in wav.scp start at `root`, by default at the data directory; absolute ones are as good. With
    `segments`, utterances are pieces of recordings. Nothing is run: a pipe in wav.scp raises UserError, and so does a
    malformed line, a key given twice, and an utterance without speaker.
    """
    source = Path(source)
    folders = {"": source} if (source / "wav.scp").is_file() else {split: source / split for split in SPLITS}
    folders = {split: folder for split, folder in folders.items() if (folder / "wav.scp").is_file()}
    if not folders:
        raise UserError(f"{source}: no Kaldi data directory: wav.scp is neither in it nor in its train, dev or test")
    collector = Collector(source, _recordings(folders.values(), root), source=source.absolute().name)
    for split, folder in folders.items():
        _collect(collector, folder, split)
    return collector.reading()


def _recordings(folders: Any, root: str | Path | None) -> dict[str, Path]:
    audio: dict[str, Path] = {}
    for folder in folders:
        for name, (place, entry) in _table(folder / "wav.scp").items():
            if entry.endswith("|"):
                raise UserError(f"{place}: a pipe, which is not run; write its output to a file and name that")
            if re.search(r"\.ark:\d+$", entry):
                raise UserError(f"{place}: a place in an archive; copy the recordings to files (wav-copy)")
            path = Path(root or folder) / entry
            if audio.setdefault(name, path) != path:
                raise UserError(f"{place}: the recording {name!r} is already {audio[name]}; rename one of the two")
    return audio


def _collect(collector: Collector, folder: Path, split: str) -> None:
    """Adds the utterances of one data directory."""
    texts, speakers = _table(folder / "text", values=False), _table(folder / "utt2spk")
    languages = _table(folder / "utt2lang") if (folder / "utt2lang").is_file() else {}
    segmented = (folder / "segments").is_file()
    segments = _table(folder / "segments") if segmented else {}
    for id, (place, text) in texts.items():
        if id not in speakers:
            raise UserError(f"{place}: {id!r} has no speaker in {folder / 'utt2spk'}; if unknown, repeat the id")
        fields = {"speaker": speakers[id][1], "language": languages.get(id, (place, ""))[1], "split": split}
        if not segmented:
            collector.add(place, id, text, **fields)
        elif id in segments:
            collector.add(place, id, text, **_piece(*segments[id]), **fields)
        else:
            collector.leave_out(place, id, "missing audio", f"{id!r} is not in {folder / 'segments'}")
    for id, (place, entry) in segments.items():
        if id not in texts:
            recording = _piece(place, entry)["recording"]
            collector.leave_out(place, id, "no transcript", f"{id!r} is not in {folder / 'text'}", recording)


def _piece(place: Place, entry: str) -> dict[str, Any]:
    """Returns the recording, start and end (seconds; −1: that of the recording) of a line of `segments`."""
    try:
        recording, first, last = _BLANKS.split(entry)
        start, end = float(first), float(last)
    except ValueError:
        raise UserError(f"{place}: not `<utterance> <recording> <start> <end>`; correct or delete the line") from None
    if not (0 <= start < math.inf and (start < end < math.inf or end == -1)):
        raise UserError(f"{place}: from {first} to {last} s is no piece of a recording; correct or delete the line")
    return {"recording": recording, "start": start, "end": None if end == -1 else end}


def _table(path: Path, values: bool = True) -> Table:
    """Reads a list; raises UserError where a key comes twice or, with `values`, has none."""
    table: Table = {}
    for place, line in lines(path, "file of a Kaldi data directory"):
        key, _, value = _BLANKS.sub(" ", line.strip(" \t"), count=1).partition(" ")
        if values and not value:
            raise UserError(f"{place}: {key!r} has no value; correct or delete the line")
        first, _ = table.setdefault(key, (place, value))
        if first is not place:
            raise UserError(f"{place}: {key!r} is already in line {first.line}; remove or rename one of the two")
    return table
