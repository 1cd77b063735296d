"""Text cleaning, the same for training transcripts, manifests, language-model text and references."""

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import Literal

from w2l_jax.alphabet import Alphabet, preset
from w2l_jax.errors import UserError
from w2l_jax.languages import language_code
from w2l_jax.spelling import AUDIBLE, spell_and, spell_numbers

_LENGTHENING = "ー々ๆໆ"
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_BETWEEN = re.compile(rf"(?<={_UNSPACED.pattern}) (?={_UNSPACED.pattern})")
Tags = Literal["drop", "keep", "skip_utterance"]

# Typographic variants that Unicode does not count as the plain apostrophe.
_APOSTROPHES = re.compile("[’‘ʼʻ`´′]")

# Single quotation marks come in pairs at the edges of words, or next to no letter; they are not apostrophes.
_QUOTED = re.compile(r"(?<!\w)['‘‚](\w(?:[^'‘’‚]|(?<=\w)['’](?=\w))++)['’‘](?!\w)|(?<!\w)['’‘‚](?!\w)")

_LIGATURES = {"æ": "ae", "œ": "oe", "ß": "ss"}  # of letters; Unicode decomposes those of typography
_TYPOGRAPHIC = re.compile("[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufdff\ufe70-\ufefc\uff01-\uff9f]")

# Marks in brackets that are not spoken. Round brackets and stars may hold spoken words too.
_TAG = re.compile(
    r"<(?!\s)[^<>]{1,60}(?<!\s)>|\[[^\[\]]{1,60}\]|\{[^{}]{1,60}\}|\+\+\w+\+\+|\((?P<round>[^()]{1,60})\)|"
    r"\*(?P<starred>[^*]{1,60})\*|[♩♪♫♬]"
)
_NOISES = frozenset(
    """laugh laughs laughing laughter chuckle chuckles giggles noise noises breath breathes breathing inhales exhales
    cough coughs coughing sneeze sneezes sniff sigh sighs yawns throat clears clearing lipsmack click beep static music
    applause silence pause crosstalk inaudible unintelligible indistinct unclear background audience foreign
    lacht lachen gelächter geräusch geräusche atmen atmet räuspern räuspert husten hustet seufzt musik applaus stille
    pause unverständlich rire rires bruit bruits souffle toux musique applaudissements soupir inaudible incompréhensible
    risa risas ruido música aplausos tos suspiro ininteligible silencio risate rumore musica applausi tosse silenzio
    gelach lawaai muziek applaus hoest zucht onverstaanbaar stilte and und et y e en loud soft""".split()
)


def clean(text: str, alphabet: Alphabet, language: str = "", *, numbers: bool = False, tags: Tags = "drop") -> str:
    """Converts any text to `alphabet`: `spoken`, then `normalize`.

    Characters still outside the alphabet are kept, for the caller to report. Raises UserError if `numbers` is set and
    num2words cannot spell `language`.
    """
    return normalize(spoken(text, language, numbers=numbers, tags=tags), alphabet, language)


def spoken(text: str, language: str = "", *, numbers: bool = False, tags: Tags = "drop") -> str:
    """Returns a text without quotation marks and tags (unless `keep`), with & and optionally `numbers` in words."""
    if tags != "keep":
        text = _TAG.sub(lambda match: " " if _is_tag(match) else match[0], text)
    text = spell_and(unquoted(text), language)
    return spell_numbers(text, language) if numbers else text


def unquoted(text: str) -> str:
    """Removes single quotation marks, which would count as apostrophes."""
    while (inside := _QUOTED.sub(r" \1 ", text)) != text:
        text = inside
    return text


def tags_in(text: str) -> list[str]:
    """Returns the noises and other marks in brackets of a text, such as `[noise]`, `(laughs)`, `<unk>`."""
    return [match[0] for match in _TAG.finditer(text) if _is_tag(match)]


def _is_tag(match: re.Match) -> bool:
    inside = match["round"] or match["starred"]
    return inside is None or all(word in _NOISES for word in re.findall(r"\w+", inside.lower()))


def normalize(text: str, alphabet: Alphabet, language: str = "") -> str:
    """Converts a transcript to `alphabet` without losing anything spoken.

    Lower case by the language's rules, Unicode-composed, without invisible characters. Punctuation becomes a space,
    except the apostrophe and spoken signs (%, &, …). A letter whose accent the alphabet lacks loses it (é → e in
    German); a ligature becomes two letters; white space is collapsed. Whatever is still outside the alphabet stays, for
    the caller to report (`Alphabet.unknown`). Each character of a script without spaces becomes a word (`join_unspaced`
    undoes this).
    """
    written = _composed(text, language).translate(_table(alphabet))
    if _UNSPACED.search(written):
        written = "".join(f" {char} " if unspaced(char) else char for char in characters(written))
    return " ".join(written.split())


@functools.lru_cache(maxsize=16)
def _table(alphabet: Alphabet) -> "_Table":
    return _Table(alphabet)


class _Table(dict):
    """Replacement of each character, for `str.translate`; cached."""

    def __init__(self, alphabet: Alphabet):
        super().__init__()
        self._alphabet = alphabet

    def __missing__(self, code: int) -> str:
        self[code] = _written(chr(code), self._alphabet)
        return self[code]


def characters(text: str) -> list[str]:
    """Returns the characters of a text, each with its combining marks."""
    clusters: list[str] = []
    for char in text:
        if clusters and (unicodedata.category(char) in ("Mn", "Mc") or char in _LENGTHENING):
            clusters[-1] += char
        else:
            clusters.append(char)
    return clusters


def unspaced(char: str) -> bool:
    """Whether a character belongs to a script without spaces between words: Han, kana, Thai, Lao, Burmese, Khmer."""
    return bool(_UNSPACED.match(char))


def join_unspaced(text: str) -> str:
    """Removes the spaces between characters of scripts that have none."""
    return _BETWEEN.sub("", text)


def _written(char: str, alphabet: Alphabet) -> str:
    if char in alphabet.ids:
        return char
    category = unicodedata.category(char)
    if char.isspace() or (category[0] == "P" and char not in AUDIBLE):
        return " "
    if category in ("Cf", "Cc") or "\u0300" <= char <= "\u036f" or "\ufe00" <= char <= "\ufe0f" or char == "\u0640":
        return ""  # silent: joiners, soft hyphens, accents that compose with nothing, the Arabic tatweel
    marked = unicodedata.normalize("NFD", char)
    plainer = (unicodedata.normalize("NFC", marked[:count]) for count in range(len(marked), 0, -1))
    letter = next((letter for letter in plainer if letter in alphabet.ids), "")
    pair = _LIGATURES.get(char, "")
    return letter or (pair if pair and not alphabet.unknown(pair) else char)


def _composed(text: str, language: str = "") -> str:
    text = unicodedata.normalize("NFC", _TYPOGRAPHIC.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text))
    if language and language_code(language) in ("tr", "az"):
        text = text.replace("İ", "i").replace("I", "ı")
    # "İ".lower() is "i" and a combining dot, hence composed again.
    return _APOSTROPHES.sub("'", unicodedata.normalize("NFC", text.lower()))


def alphabet_from_data(texts: Iterable[str], language: str) -> Alphabet:
    """Returns the language's alphabet with the other characters of `texts` appended in Unicode order.

    Without a preset it has space, apostrophe and the characters of the texts. Case, punctuation and invisible
    characters do not count; accents, digits and symbols do.
    """
    try:
        base = preset(language)
    except UserError:
        base = Alphabet(" '")
    seen: set[str] = set()
    for text in texts:
        seen.update(_composed(text, language))
    letters = {c for c in seen if not c.isspace() and unicodedata.category(c)[0] not in "PC" and c != "\u0640"}
    return base.extend(Alphabet("".join(sorted(letters)))) if letters else base
