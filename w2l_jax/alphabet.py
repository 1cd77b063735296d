"""Characters to ids and back, and the text normalisation that brings a transcript into an alphabet.

Id 0 is the CTC blank; characters follow in alphabet order, and a new language appends its own, so that an
English network's output columns keep their places (REFERENCE: 28 English labels, German adds ä ö ü ß).
"""

import dataclasses
import json
import unicodedata

import numpy as np

from w2l_jax.errors import UserError

BLANK = 0
_ENGLISH = "abcdefghijklmnopqrstuvwxyz '"

PRESETS = {
    "english": _ENGLISH,
    "german": _ENGLISH + "äöüß",
    "french": _ENGLISH + "àâæçéèêëîïôœùûüÿ",
    "spanish": _ENGLISH + "áéíñóúü",
    "italian": _ENGLISH + "àèéìíîòóùú",
    "dutch": _ENGLISH + "áéëèíïóöúü",
}
_CODES = {"en": "english", "de": "german", "fr": "french", "es": "spanish", "it": "italian", "nl": "dutch"}

# Typographic variants that Unicode does not count as the plain apostrophe.
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼʻ`´′", "'"))


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """An ordered set of characters; character i (from 0) has id i + 1, id 0 is the blank."""

    characters: str

    def __post_init__(self):
        repeated = sorted({c for c in self.characters if self.characters.count(c) > 1})
        if repeated:
            raise UserError(f"alphabet {self.characters!r} holds {repeated} more than once")
        if not self.characters:
            raise UserError("an alphabet needs at least one character")

    @property
    def size(self) -> int:
        """The number of network outputs V: characters and the blank."""
        return len(self.characters) + 1

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of `text` as int32 [L]; raises UserError naming the characters it does not know."""
        table = {c: i + 1 for i, c in enumerate(self.characters)}
        try:
            return np.array([table[c] for c in text], np.int32)
        except KeyError:
            unknown = self.unknown(text)
            raise UserError(
                f"{text!r} holds {unknown!r}, not in the alphabet {self.characters!r}; normalise the text, "
                "choose the language it is written in (--data.language), or leave the utterance out"
            ) from None

    def decode(self, ids) -> str:
        """Returns the text of `ids` (any integer sequence without blanks)."""
        return "".join(self.characters[int(i) - 1] for i in ids)

    def unknown(self, text: str) -> str:
        """Returns the distinct characters of `text` outside the alphabet, sorted, as one string."""
        return "".join(sorted(set(text) - set(self.characters)))

    def extend(self, other: "Alphabet") -> "Alphabet":
        """Returns this alphabet with the characters only `other` has appended in its order."""
        return Alphabet(self.characters + "".join(c for c in other.characters if c not in self.characters))

    def to_json(self) -> str:
        """Returns the content of a run's `alphabet.json`."""
        return json.dumps({"blank": BLANK, "characters": self.characters}, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> "Alphabet":
        """Reads `to_json`'s output; raises UserError if it is damaged."""
        try:
            return Alphabet(json.loads(text)["characters"])
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


def normalize(text: str, alphabet: Alphabet) -> str:
    """Brings a transcript into `alphabet` as far as that loses nothing a listener hears (REFERENCE §3).

    Lower case, Unicode-composed; every punctuation mark but the apostrophe becomes a space; a letter whose accent
    the alphabet lacks loses the accent (é → e in German); white space is collapsed. What is then still outside
    the alphabet stays, for the caller to report (`Alphabet.unknown`): nothing is dropped here.
    """
    # "İ".lower() is "i" and a combining dot, hence lower-case before composing.
    text = unicodedata.normalize("NFC", text.lower()).translate(_APOSTROPHES)
    known = set(alphabet.characters)
    out = []
    for char in text:
        if char in known:
            out.append(char)
        elif char.isspace() or unicodedata.category(char)[0] == "P":
            out.append(" ")
        else:
            base = unicodedata.normalize("NFD", char)[0]
            out.append(base if base in known else char)
    return " ".join("".join(out).split())
