"""Characters to ids and back, and the text normalisation that brings a transcript into an alphabet.

Id 0 is the CTC blank; characters follow in alphabet order, and a new language appends its own, so that an
English network's output columns keep their places (REFERENCE: 28 English labels, German adds ä ö ü ß). An alphabet for
ASG has repetition symbols in the blank's place: `hello` is written `hel2o` (Collobert et al. 2016, §2.2 and §2.3).
"""

import dataclasses
import functools
import itertools
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np

from w2l_jax.errors import UserError

BLANK = 0
REPETITIONS = 2  # of ASG: one symbol for a letter said twice, one for thrice
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
_CODES = {
    "en": "english",
    "de": "german",
    "fr": "french",
    "es": "spanish",
    "it": "italian",
    "nl": "dutch",
    "zh": "mandarin",
}

# How a language says the mark in 3.5; all but English and Mandarin write it as a comma, and 1,000 as 1.000 or 1 000.
_DECIMAL = {
    "english": "point",
    "german": "komma",
    "french": "virgule",
    "spanish": "coma",
    "italian": "virgola",
    "dutch": "komma",
    "mandarin": "dian",
}
_LONGEST_NUMBER = 12  # digits; what is longer is no quantity, and is read digit by digit like what begins with 0

# Letters that Unicode does not decompose, and the ones they resemble in shape or sound.
_RESEMBLES = dict(zip("ßæœøłđðþıħŧŋəɛɔ", "saoolddtihtneeo", strict=True))

# Typographic variants that Unicode does not count as the plain apostrophe.
_APOSTROPHES = re.compile("[’‘ʼʻ`´′]")


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """An ordered set of characters, whose ids follow each other; before them comes the blank, id 0.

    With `repetitions` there is no blank: ids 0, 1, … say that the letter before them comes once, twice, … more.
    """

    characters: str
    repetitions: int = 0

    def __post_init__(self):
        repeated = sorted({c for c in self.characters if self.characters.count(c) > 1})
        if repeated:
            raise UserError(f"alphabet {self.characters!r} holds {repeated} more than once")
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
        """Returns the ids of `text` as int32 [L]; raises UserError naming the characters it does not know.

        With `repetitions` no two neighbours are equal.
        """
        try:
            ids = [self.ids[c] for c in text]
        except KeyError:
            unknown = self.unknown(text)
            raise UserError(
                f"{text!r} holds {unknown!r}, not in the alphabet {self.characters!r}; normalise the text, "
                "choose the language it is written in (--data.language), or leave the utterance out"
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
        """Returns the text of `ids` (any integer sequence without blanks); nothing there is nothing to repeat."""
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
            return Alphabet(stored["characters"], int(stored.get("repetitions", 0)))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"not an alphabet file: {error}; take it from a complete run folder") from None


def language_name(language: str) -> str:
    """Returns the preset's name for a name or code (`de`, `de-AT`, `German`); raises UserError with the choices."""
    name = language.lower().strip()
    name = _CODES.get(name.split("-")[0].split("_")[0], name)
    if name not in PRESETS:
        raise UserError(f"unknown language {language!r}; known: {', '.join(PRESETS)}")
    return name


def preset(language: str) -> Alphabet:
    """Returns the alphabet of a language preset such as `german` or `de`."""
    return Alphabet(PRESETS[language_name(language)])


def alphabet_from_data(texts: Iterable[str], language: str) -> Alphabet:
    """Returns the language's alphabet with the further characters of `texts` appended, in the order of Unicode.

    For a language without a preset only space, apostrophe and the characters of the texts. Case, punctuation and
    control characters do not count; accents, digits and symbols do.
    """
    try:
        base = preset(language)
    except UserError:
        base = Alphabet(" '")
    found: set[str] = set()
    for text in texts:
        found.update(_composed(text))
    letters = {c for c in found if not c.isspace() and unicodedata.category(c)[0] not in "PC"}
    return base.extend(Alphabet("".join(sorted(letters)))) if letters else base


def normalize(text: str, alphabet: Alphabet) -> str:
    """Brings a transcript into `alphabet` as far as that loses nothing a listener hears (REFERENCE §3).

    Lower case, Unicode-composed; every punctuation mark but the apostrophe becomes a space; a letter whose accent
    the alphabet lacks loses the accent (é → e in German, ǚ → ü in pinyin); white space is collapsed. What is then still
    outside the alphabet stays, for the caller to report (`Alphabet.unknown`): nothing is dropped here.
    """
    known = alphabet.characters
    out = []
    for char in _composed(text):
        if char in known:
            out.append(char)
        elif char.isspace() or unicodedata.category(char)[0] == "P":
            out.append(" ")
        else:
            marked = unicodedata.normalize("NFD", char)
            plainer = (unicodedata.normalize("NFC", marked[:count]) for count in range(len(marked), 0, -1))
            out.append(next((letter for letter in plainer if letter in alphabet.ids), char))
    return " ".join("".join(out).split())


def _composed(text: str) -> str:
    # "İ".lower() is "i" and a combining dot, hence lower-case before composing.
    return _APOSTROPHES.sub("'", unicodedata.normalize("NFC", text.lower()))


def resembling(char: str, known: str) -> str:
    """Returns the character of `known` that `char` looks like, "" where there is none.

    Unicode's decomposition is followed mark by mark, so ế is ê where that is known and e where it is not, and a
    small table has what Unicode leaves whole: ß is s, æ a, ø o, ł l.
    """
    while char and char not in known:
        parts = [part for part in unicodedata.decomposition(char).split() if not part.startswith("<")]
        char = chr(int(parts[0], 16)) if parts else _RESEMBLES.get(char, "")
    return char


def spell_numbers(text: str, language: str) -> str:
    """Writes the numbers of `text` as words of `language`: 1.250,5 → eintausendzweihundertfünfzig komma fünf.

    All are read as cardinals, decimals digit by digit, and so are numbers that begin with 0 or have more than 12
    digits. Thousands may be grouped by commas (English, Mandarin), points or fixed spaces (elsewhere). Without a
    language ("") they stay. Raises UserError if num2words is missing or does not know the language.
    """
    if not language:
        return text
    group, mark = (",", r"\.") if _known(language) in ("english", "mandarin") else ("[.\u00a0\u202f]", ",")

    def spell(match: re.Match) -> str:
        words = _cardinal(re.sub(r"\D", "", match[1]), language)
        if match[2]:
            words += (_DECIMAL.get(_known(language), ""), *_digits(match[2], language))
        return f" {' '.join(words)} "

    return re.sub(rf"(\d{{1,3}}(?:{group}\d{{3}})+(?!\d)|\d+)(?:{mark}(\d+))?", spell, text)


def _known(language: str) -> str:
    try:
        return language_name(language)
    except UserError:
        return language


def _cardinal(digits: str, language: str) -> tuple[str, ...]:
    if len(digits) > _LONGEST_NUMBER or (len(digits) > 1 and int(digits[0]) == 0):
        return _digits(digits, language)
    return (_words(int(digits), language),)


def _digits(digits: str, language: str) -> tuple[str, ...]:
    return tuple(_words(int(digit), language) for digit in digits)


@functools.lru_cache(maxsize=10_000)
def _words(number: int, language: str) -> str:
    try:
        from num2words import num2words
    except ImportError:
        raise UserError(
            "spelling numbers out needs num2words: pip install 'w2l_jax[numbers]' (or --no_spell_numbers)"
        ) from None
    code = next((code for code, name in _CODES.items() if name == _known(language)), language)
    try:
        return num2words(number, lang=code)
    except NotImplementedError:
        raise UserError(
            f"num2words does not know the language {language!r}: give its code (such as pl) as --language, or spell "
            "the numbers out in the texts, or go without (--no_spell_numbers)"
        ) from None
