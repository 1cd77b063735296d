"""Text for language models: files and transcripts → normalised sentences; everything skipped is counted."""

import collections
import dataclasses
import functools
import glob
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from lm_building import packed
from lm_building.counting import LineSet
from w2l_jax.alphabet import Alphabet
from w2l_jax.corpora import manifest
from w2l_jax.corpora.rows import Place, decoded
from w2l_jax.dataset.store import PREPARED, open_dataset
from w2l_jax.errors import UserError
from w2l_jax.spelling import spell_numbers
from w2l_jax.text import clean, unquoted

_MANIFESTS = manifest.ENDINGS

# A sentence ends at . ! ? …, closing quotes and white space, if a capital letter or one of a script without capitals
# follows; after one or two digits a full stop is that of an ordinal (3. Mai). It always ends at 。 ！ ？.
_END = re.compile(r"(?:(?<!\W\d)(?<!\W\d\d)\.|[!?…؟۔।])[\"'»«”“’)\]]*\s+(?=[^\w\s]*(\w))|[。！？]+[」』”’]*")


@dataclasses.dataclass
class Counts:
    """Counts of what a `Reader` yielded and skipped."""

    sentences: int = 0
    words: int = 0
    held_out: int = 0
    """Utterances excluded by id."""
    matching: int = 0
    """Sentences of plain text excluded by text."""
    repeated_lines: int = 0
    """Repeated lines of plain text; skipped unless all are to be kept."""
    repeated_transcripts: int = 0
    """Utterances with a repeated text; skipped only on demand, since read prompts recur across speakers."""
    dropped: int = 0
    """Sentences skipped because they cannot be written in the alphabet."""
    dropped_characters: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """The number of dropped sentences with each character outside the alphabet."""


def find(texts: Iterable[Path | str]) -> list[Path]:
    """Returns the sources of paths and glob patterns, in that order; raises UserError if one matches nothing."""
    found: list[Path] = []
    for text in map(str, texts):
        paths = [Path(text)] if Path(text).exists() else [Path(path) for path in sorted(glob.glob(text))]
        paths = [path for path in paths if path.is_file() or is_prepared(path)]
        if not paths:
            raise UserError(
                f"{text}: no such text; give plain text (also {', '.join(packed.ENDINGS)}), a manifest "
                f"({', '.join(_MANIFESTS)}), a prepared folder, or a pattern"
            )
        unread = [path for path in paths if path.suffix in packed.ENDINGS and Path(path.stem).suffix in _MANIFESTS]
        if unread:
            raise UserError(f"{unread[0]}: decompress the manifest first (`xz -d`, `gzip -d`)")
        found += [path for path in paths if path not in found]
    if not found:
        raise UserError("a language model needs at least one text file, manifest or prepared folder")
    return found


def is_prepared(path: Path) -> bool:
    """Whether `path` is a prepared dataset's folder."""
    return (path / PREPARED).is_file()


def transcripts(path: Path) -> Iterator[tuple[str, str]]:
    """Yields id and text of every utterance of a manifest or prepared folder; raises UserError if it is neither."""
    if path.is_dir():
        yield from ((entry.id, entry.transcript) for entry in open_dataset(path).entries)
    else:
        yield from ((utterance.id, utterance.text) for utterance in manifest.read(path))


def spells_numbers(numbers: bool, language: str, alphabet: Alphabet) -> bool:
    """Whether to spell numbers: on demand, unless the alphabet has digits.

    Raises UserError if they cannot be spelled (`spelling.spell_numbers`).
    """
    numbers = numbers and bool(language) and not set("0123456789") & set(alphabet.characters)
    if numbers:
        spell_numbers("0", language)
    return numbers


def split(line: str) -> Iterator[str]:
    """Yields the sentences of a paragraph: a full stop, ! or ? followed by white space and a capital ends one.

    Scripts without capitals need no capital, and the full stops of Chinese and Japanese no white space.
    """
    start = 0
    for end in _END.finditer(line):
        if end[1] is None or end[1].isupper() or (end[1].isalpha() and end[1].lower() == end[1].upper()):
            yield line[start : end.end()]
            start = end.end()
    yield line[start:]


class Reader:
    """Reads sources one by one and remembers them; `counts` is of all of them."""

    def __init__(
        self,
        alphabet: Alphabet,
        language: str = "",
        numbers: bool = False,
        held_out_ids: Collection[str] = frozenset(),
        exclude: Iterable[str] = (),
        deduplicate: str = "text",
    ):
        """`exclude` are texts to exclude from plain text; for the other arguments see `build`."""
        self.counts = Counts()
        self.alphabet, self._held_out_ids = alphabet, held_out_ids
        self._clean = functools.partial(clean, alphabet=alphabet, language=language, numbers=numbers)
        self._excluded = {self._clean(text) for text in exclude} - {""}
        self._longest = max(map(len, self._excluded), default=0)
        self._lines, self._utterances = LineSet(), LineSet()
        self._keep_lines, self._keep_transcripts = deduplicate == "none", deduplicate != "all"

    def sentences(self, path: Path, progress: Callable[[int], None] = lambda position: None) -> Iterator[str]:
        """Yields the sentences of one source in the alphabet.

        A line of plain text is split into sentences; an utterance of a manifest or prepared folder is one sentence.
        `progress` takes the number of bytes of plain text read. Raises UserError, naming the line, for an unreadable
        source.
        """
        plain = not (path.is_dir() or path.suffix in _MANIFESTS)
        for sentence in self._plain(path, progress) if plain else self._transcripts(path):
            unknown = self.alphabet.unknown(sentence)
            if unknown:
                self.counts.dropped += 1
                self.counts.dropped_characters.update(unknown)
            else:
                self.counts.sentences += 1
                self.counts.words += sentence.count(" ") + 1
                yield sentence

    def _transcripts(self, path: Path) -> Iterator[str]:
        for name, text in transcripts(path):
            sentence = self._clean(text)
            if name in self._held_out_ids:
                self.counts.held_out += 1
            elif sentence:
                new = self._utterances.add(sentence.encode())
                self.counts.repeated_transcripts += not new
                if new or self._keep_transcripts:
                    yield sentence

    def _plain(self, path: Path, progress: Callable[[int], None]) -> Iterator[str]:
        for number, content in packed.lines(path, progress):
            line = decoded(content, Place(path, number)).strip()
            if not line:
                continue
            new = self._lines.add(line.encode())
            self.counts.repeated_lines += not new
            if new or self._keep_lines:
                sentences = map(self._clean, split(unquoted(line)))
                yield from self._without_excluded([sentence for sentence in sentences if sentence])

    def _without_excluded(self, sentences: list[str]) -> Iterator[str]:
        """Removes the sentences of a line that are an excluded text, alone or combined."""
        start = 0
        while start < len(sentences):
            count = self._excluded_from(sentences[start:])
            if not count:
                yield sentences[start]
            self.counts.matching += count
            start += max(count, 1)

    def _excluded_from(self, sentences: list[str]) -> int:
        """Returns how many of the first sentences together are an excluded text."""
        text, found = "", 0
        for count, sentence in enumerate(sentences, start=1):
            text = f"{text} {sentence}" if text else sentence
            if len(text) > self._longest:
                break
            if text in self._excluded:
                found = count
        return found
