"""The one cleaning step of all text: training transcripts, manifests, language-model text and references."""

import re
import unicodedata
from collections.abc import Iterable

from w2l_jax.alphabet import Alphabet, preset
from w2l_jax.errors import UserError

# Typographic variants that Unicode does not count as the plain apostrophe.
_APOSTROPHES = re.compile("[’‘ʼʻ`´′]")


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
