"""Multilingual LibriSpeech, any of its languages, with FLAC or Opus recordings.

The layout (openslr.org/94) is `mls_<language>/{train,dev,test}/transcripts.txt`, each line an id, a tab and the words,
and `audio/<speaker>/<book>/<speaker>_<book>_<number>.flac` beside it.
"""

import re
from pathlib import Path

from w2l_jax.corpora import Reading
from w2l_jax.corpora.archives import SPLITS, Collector, lines, listing, recordings
from w2l_jax.errors import UserError

_TRANSCRIPTS = "transcripts.txt"
_LINE = re.compile(r"(([^\s_]+)_[^\s_]+_[^\s_]+)\t(.*)")
_LANGUAGE = re.compile(r"mls_([a-z]+)(_opus)?")


def read(source: Path) -> Reading:
    """Reads a folder with one or several languages at any depth; the splits are the folders `transcripts.txt` lies in.

    The language is that of the folder's name, such as mls_german; else it is left open. Raises UserError for a
    malformed line, an id given twice, and where there is no `transcripts.txt`.
    """
    found = listing(Path(source))
    folders = [folder for folder, names in found if _TRANSCRIPTS in names]
    if not folders:
        raise UserError(f"{source}: holds no {_TRANSCRIPTS}; give a folder such as mls_german, with train, dev, test")
    collector = Collector(Path(source), recordings(found), source="MLS")
    for folder in folders:
        split = folder.absolute().name
        for place, line in lines(folder / _TRANSCRIPTS, "list of transcripts"):
            match = _LINE.fullmatch(line)
            if not match:
                raise UserError(f"{place}: not an id such as 4536_4322_000000, a tab and words; correct or delete it")
            id, speaker, text = match.groups()
            split_and_language = {"split": split if split in SPLITS else "", "language": _language(folder)}
            collector.add(place, id, text, speaker=speaker, **split_and_language)
    return collector.reading()


def _language(folder: Path) -> str:
    matches = map(_LANGUAGE.fullmatch, reversed(folder.absolute().parts))
    return next((match[1] for match in matches if match), "")
