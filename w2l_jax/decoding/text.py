"""Text for language models: files and manifests → normalised sentences, everything left out counted."""

import collections
import dataclasses
import glob
import gzip
import lzma
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from w2l_jax.alphabet import Alphabet, normalize
from w2l_jax.corpora import manifest
from w2l_jax.errors import UserError

_MANIFESTS = (".jsonl", ".json")
_OPEN = {".gz": gzip.open, ".xz": lzma.open}

# A sentence ends at . ! ? …, closing quotes and white space, if what follows begins with a capital letter.
_END = re.compile(r"[.!?…][\"'»«”“’)\]]*\s+(?=[^\w\s]*(\w))")


@dataclasses.dataclass
class Counts:
    """What `sentences` yielded and left out."""

    sentences: int = 0
    words: int = 0
    held_out: int = 0
    """Utterances of manifests left out by their id."""
    dropped: int = 0
    """Sentences left out because normalising could not bring them into the alphabet."""
    dropped_characters: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """In how many dropped sentences each character outside the alphabet stood."""


def find(texts: Iterable[Path | str]) -> list[Path]:
    """Returns the files that paths and glob patterns name, in that order; raises UserError if one names none."""
    found: list[Path] = []
    for text in map(str, texts):
        paths = [Path(text)] if Path(text).is_file() else [Path(path) for path in sorted(glob.glob(text))]
        paths = [path for path in paths if path.is_file()]
        if not paths:
            raise UserError(f"{text}: no such text file; give plain text, .gz, .xz or a .jsonl manifest, or a pattern")
        packed = [path for path in paths if path.suffix in _OPEN and Path(path.stem).suffix in _MANIFESTS]
        if packed:
            raise UserError(f"{packed[0]}: a manifest has to be unpacked first (`xz -d`, `gzip -d`)")
        found += [path for path in paths if path not in found]
    if not found:
        raise UserError("a language model needs at least one text file or manifest")
    return found


def sentences(path: Path, alphabet: Alphabet, held_out_ids: Collection[str], counts: Counts) -> Iterator[str]:
    """Yields the sentences of one file in `alphabet`, and adds them to `counts`.

    A line of plain text (.gz, .xz too) is split into sentences; an utterance of a manifest (.jsonl, .json) is one
    sentence. Raises UserError for a file that cannot be read, with the line.
    """
    for sentence in _manifest(path, held_out_ids, counts) if path.suffix in _MANIFESTS else _plain(path):
        text = normalize(sentence, alphabet)
        unknown = alphabet.unknown(text)
        if unknown:
            counts.dropped += 1
            counts.dropped_characters.update(unknown)
        elif text:
            counts.sentences += 1
            counts.words += text.count(" ") + 1
            yield text


def split(line: str) -> Iterator[str]:
    """Yields the sentences of a paragraph: a full stop, ! or ? ends one where white space and a capital follow."""
    start = 0
    for end in _END.finditer(line):
        if end[1].isupper():
            yield line[start : end.end()]
            start = end.end()
    yield line[start:]


def _manifest(path: Path, held_out_ids: Collection[str], counts: Counts) -> Iterator[str]:
    for utterance in manifest.read(path):
        if utterance.id in held_out_ids:
            counts.held_out += 1
        else:
            yield utterance.text


def _plain(path: Path) -> Iterator[str]:
    number = 0
    try:
        with _OPEN.get(path.suffix, open)(path, "rt", encoding="utf-8-sig", newline="\n") as file:
            for line in file:
                number += 1
                yield from split(line)
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 after line {number}; convert it, e.g. `iconv -f latin1 -t utf-8`") from None
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise UserError(f"{path}: cannot be read after line {number} ({error}); is the file complete?") from None
