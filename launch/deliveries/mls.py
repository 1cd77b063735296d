"""Multilingual LibriSpeech, any of its languages, with FLAC or Opus recordings.

The layout (openslr.org/94) is `mls_<language>/{train,dev,test}/transcripts.txt`, each line an id, a tab and the words,
and `audio/<speaker>/<book>/<speaker>_<book>_<number>.flac` beside it.
"""

import re
from pathlib import Path

from deliveries.archives import listing, recordings
from deliveries.collector import Collector
from w2l_jax.corpora import SPLITS, Reading
from w2l_jax.corpora.rows import BrokenRowError
from w2l_jax.errors import UserError

_TRANSCRIPTS = "transcripts.txt"
_LINE = re.compile(r"(([^\s_]+)_[^\s_]+_[^\s_]+)\t(.*)")
_LANGUAGE = re.compile(r"mls_([a-z]+)(_opus)?")


def read(source: Path) -> Reading:
    """Reads a folder with one or several languages at any depth; the splits are the folders with a `transcripts.txt`.

    The language is that of the folder's name, such as mls_german, else open. Raises UserError if there is no
    `transcripts.txt`.
    """
    listed = listing(Path(source))
    folders = [folder for folder, names in listed if _TRANSCRIPTS in names]
    if not folders:
        raise UserError(f"{source}: holds no {_TRANSCRIPTS}; give a folder such as mls_german, with train, dev, test")
    collector = Collector(Path(source), recordings(listed), source="MLS")
    for folder in folders:
        split, language = folder.absolute().name, _language(folder)
        for place, line in collector.lines(folder / _TRANSCRIPTS, "list of transcripts"):
            with collector.row(place):
                match = _LINE.fullmatch(line)
                if not match:
                    raise BrokenRowError(f"{place}: not an id such as 4536_4322_000000, a tab and words")
                id, speaker, text = match.groups()
                where = {"split": split if split in SPLITS else "", "language": language}
                collector.add(place, id, text, speaker=speaker, **where)
    return collector.reading()


def _language(folder: Path) -> str:
    matches = map(_LANGUAGE.fullmatch, reversed(folder.absolute().parts))
    return next((match[1] for match in matches if match), "")
