"""Existing language models: ARPA files and KenLM's binaries, their words, and these in an alphabet."""

import dataclasses
import mmap
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from lm_building import packed
from w2l_jax.alphabet import Alphabet
from w2l_jax.errors import UserError
from w2l_jax.text import normalize

SPECIAL = frozenset({b"<unk>", b"<s>", b"</s>", b"<UNK>"})
_BINARY = b"mmap lm http://kheafield.com/code"
# Prefix of a word whose spelling another one took; no text holds this character.
_HIDDEN = b"\x01"
_END = b"\\end\\"


def is_binary(path: Path) -> bool:
    """Whether a file is KenLM's binary; raises UserError for a compressed one, which cannot be mapped."""
    binary = next(packed.lines(path), (0, b""))[1].startswith(_BINARY)
    if binary and path.suffix.lower() in packed.ENDINGS:
        raise UserError(f"{path}: decompress KenLM's binary first (`xz -d`, `gzip -d`)")
    return binary


def ngrams(path: Path, progress: Callable[[int], None] = lambda position: None) -> Iterator[tuple[int, list[bytes]]]:
    """Yields the order and the fields (log10 probability, words, perhaps a back-off) of every n-gram of an ARPA file.

    Order 0 comes first, with the number of each. Raises UserError, naming the line, for a file that is not an ARPA
    file, is damaged or is truncated.
    """
    counts: list[bytes] = []
    order, left, header = -1, 0, b"\\data\\"
    for number, line in packed.lines(path, progress):
        line = line.strip()
        if not left and line == header:
            if header == _END:
                return
            if order == 0:
                if not counts:
                    raise UserError(f"{path}:{number}: {_shown(line)} before any line 'ngram 1=…'")
                yield 0, counts
            order += 1
            left = int(counts[order - 1]) if order else 0
            header = b"\\%d-grams:" % (order + 1) if order == 0 or order < len(counts) else _END
        elif left and line:
            fields = line.split()
            if len(fields) not in (order + 1, order + 2):
                raise UserError(
                    f"{path}:{number}: {_shown(line)} is not a {order}-gram, of which {left} more are missing"
                )
            left -= 1
            yield order, fields
        elif order == 0 and (count := re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d{1,18})", line)):
            counts.append(count[2])
        elif order >= 0 and line:
            raise UserError(f"{path}:{number}: {_shown(line)} instead of {_shown(header)}")
    if order < 0:
        raise UserError(f"{path}: neither an ARPA file (it has no line \\data\\) nor KenLM's binary")
    raise UserError(f"{path}: truncated: it ends {left} {order}-grams before {_shown(header)}")


def counts(path: Path) -> list[int]:
    """Returns how many n-grams an ARPA file has of each order from 1."""
    return [int(count) for count in next(ngrams(path))[1]]


def unigrams(path: Path) -> Iterator[tuple[bytes, float]]:
    """Yields the words of an ARPA file and their log10 probabilities, the special ones too."""
    for order, fields in ngrams(path):
        if order > 1:
            return
        if order == 1:
            yield fields[1], _number(fields[0], path)


@dataclasses.dataclass(frozen=True)
class Names:
    """The spelling of a model's words in an alphabet."""

    new: dict[bytes, bytes]
    """New names, of the words that change."""
    vocabulary: list[str]
    """The words that the alphabet spells, by their names."""
    lost: list[str]
    """Words whose name a likelier one took."""
    unspellable: int
    """Number of words that the alphabet cannot spell; they stay unchanged."""


def names(words: Iterable[tuple[bytes, float]], alphabet: Alphabet) -> Names:
    """Normalises the words of a model, given with their log10 probabilities, into an alphabet.

    Every word keeps a distinct name, so probabilities do not change: of words that would become one, such as Polish and
    polish, the likelier takes the name and the others get hidden names that no text contains.
    """
    best: dict[str, tuple[float, bytes]] = {}
    lost: list[bytes] = []
    unspellable = 0
    for word, probability in words:
        name = normalize(word.decode("utf-8", "replace"), alphabet)
        if word in SPECIAL:
            continue
        if not name or " " in name or alphabet.unknown(name):
            unspellable += 1
        elif name in best:
            lost.append(min(best[name], (probability, word))[1])
            best[name] = max(best[name], (probability, word))
        else:
            best[name] = probability, word
    new = {word: name.encode() for name, (_, word) in best.items() if word != name.encode()}
    new |= {word: _HIDDEN + word for word in lost}
    return Names(new, list(best), [word.decode("utf-8", "replace") for word in lost], unspellable)


def rewrite(path: Path, out: Path, names: Mapping[bytes, bytes], progress: Callable[[int], None]) -> list[int]:
    """Writes an ARPA file with new names for some words; returns the number of n-grams. Raises as `ngrams`."""
    counts: list[int] = []
    last = 0
    with out.open("wb") as file:
        for order, fields in ngrams(path, progress):
            if order == 0:
                counts = [int(count) for count in fields]
                file.write(b"\\data\\\n" + b"".join(b"ngram %d=%d\n" % item for item in enumerate(counts, start=1)))
                continue
            if order != last:
                last = order
                file.write(b"\n\\%d-grams:\n" % order)
            words = b" ".join([names.get(word, word) for word in fields[1 : order + 1]])
            file.write(b"\t".join([fields[0], words, *fields[order + 1 :]]) + b"\n")
        file.write(b"\n\\end\\\n")
    return counts


def words_of_binary(path: Path) -> list[bytes]:
    """Returns the words at the end of a file of KenLM's build_binary; [] if it was built without (-v)."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.rfind(b"<unk>\0")
        return content[start:].split(b"\0")[:-1] if start >= 0 else []


def _number(field: bytes, path: Path) -> float:
    try:
        return float(field)
    except ValueError:
        raise UserError(f"{path}: {_shown(field)} is not a log10 probability; is the file damaged?") from None


def _shown(content: bytes) -> str:
    return repr(content[:60].decode("utf-8", "replace"))
