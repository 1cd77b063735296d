"""Characters to ids and back, and the alphabets of some languages.

Id 0 is the CTC blank; characters follow in alphabet order, and a new language appends its own, so that an
English network's output columns keep their places (28 English labels, German adds ä ö ü ß). An alphabet for
ASG has repetition symbols in the blank's place: `hello` is written `hel2o` (Collobert et al. 2016, §2.2 and §2.3).
"""

import dataclasses
import functools
import itertools
import json
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np

from w2l_jax.errors import UserError
from w2l_jax.languages import language_name

BLANK = 0
REPETITIONS = 2  # ASG: one symbol for a doubled letter, one for a tripled letter
_ENGLISH = "abcdefghijklmnopqrstuvwxyz '"

PRESETS = {
    "english": _ENGLISH,
    "german": _ENGLISH + "äöüß",
    "french": _ENGLISH + "àâæçéèêëîïôœùûüÿ",
    "spanish": _ENGLISH + "áéíñóúü",
    "italian": _ENGLISH + "àèéìíîòóùú",
    "dutch": _ENGLISH + "áéëèíïóöúü",
    "mandarin": _ENGLISH + "ü",  # pinyin without tones
}

# Letters that Unicode does not decompose, and the ones they resemble in shape or sound.
_RESEMBLES = dict(zip("ßæœøłđðþıħŧŋəɛɔ", "saoolddtihtneeo", strict=True))


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """An ordered set of characters with consecutive ids, after the blank, id 0.

    With `repetitions` there is no blank: ids 0, 1, … repeat the letter before them once, twice, … more.
    """

    characters: str
    repetitions: int = 0

    def __post_init__(self):
        repeated = sorted({c for c in self.characters if self.characters.count(c) > 1})
        if repeated:
            raise UserError(f"alphabet {self.characters!r} repeats {repeated}")
        if not self.characters:
            raise UserError("an alphabet needs at least one character")

    @property
    def size(self) -> int:
        """The number of network outputs V: characters, and the blank or the repetition symbols."""
        return self.first + len(self.characters)

    @property
    def first(self) -> int:
        """The id of the first character."""
        return self.repetitions or 1

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of `text` as int32 [L]; raises UserError naming unknown characters.

        With `repetitions` no two neighbours are equal.
        """
        try:
            ids = [self.ids[c] for c in text]
        except KeyError:
            unknown = self.unknown(text)
            raise UserError(
                f"{text!r} holds {unknown!r}, which the alphabet {self.characters!r} lacks; normalise the text, "
                "choose the right language, or skip the utterance"
            ) from None
        return np.array(list(self._shortened(ids)) if self.repetitions else ids, np.int32)

    def _shortened(self, ids: Iterable[int]) -> Iterator[int]:
        for letter, group in itertools.groupby(ids):
            left = len(list(group))
            while left:
                more = min(left - 1, self.repetitions)
                yield from (letter, more - 1) if more else (letter,)
                left -= 1 + more

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """Character → id."""
        return {c: self.first + i for i, c in enumerate(self.characters)}

    def decode(self, ids) -> str:
        """Returns the text of `ids` (any integer sequence without blanks); a repetition of nothing is nothing."""
        text = ""
        for i in ids:
            text += self.characters[int(i) - self.first] if i >= self.first else text[-1:] * (int(i) + 1)
        return text

    def unknown(self, text: str) -> str:
        """Returns the distinct characters of `text` outside the alphabet, sorted, as one string."""
        return "".join(sorted(set(text) - set(self.characters)))

    def extend(self, other: "Alphabet") -> "Alphabet":
        """Returns this alphabet with the characters only `other` has appended in its order."""
        new = "".join(c for c in other.characters if c not in self.characters)
        return dataclasses.replace(self, characters=self.characters + new)

    def to_json(self) -> str:
        """Returns the content of a run's `alphabet.json`."""
        special = {"repetitions": self.repetitions} if self.repetitions else {"blank": BLANK}
        return json.dumps({**special, "characters": self.characters}, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> "Alphabet":
        """Reads `to_json`'s output; raises UserError if it is damaged."""
        try:
            stored = json.loads(text)
            if not isinstance(stored["characters"], str):
                raise TypeError("its characters are not text")
            return Alphabet(stored["characters"], int(stored.get("repetitions", 0)))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"not an alphabet file: {error}; take it from a complete run folder") from None


def preset(language: str) -> Alphabet:
    """Returns the alphabet of a language preset such as `german` or `de`; raises UserError if there is none."""
    name = language_name(language)
    if name not in PRESETS:
        raise UserError(f"{language!r} has no preset alphabet (presets: {', '.join(PRESETS)}); take it from the data")
    return Alphabet(PRESETS[name])


def resembling(char: str, known: str) -> str:
    """Returns the character of `known` that `char` resembles, or "".

    Marks are removed one by one by Unicode decomposition: ế becomes ê if that is known, else e. A small table holds
    letters that Unicode does not decompose: ß is s, æ a, ø o, ł l.
    """
    while char and char not in known:
        parts = [part for part in unicodedata.decomposition(char).split() if not part.startswith("<")]
        char = chr(int(parts[0], 16)) if parts else _RESEMBLES.get(char, "")
    return char
