"""Numbers in words, by language."""

import functools
import re

from w2l_jax.alphabet import _CODES, language_name
from w2l_jax.errors import UserError

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
_SYLLABLES = "ling2 yi1 er4 san1 si4 wu3 liu4 qi1 ba1 jiu3".split()
_MYRIADS = ("", "wan4", "yi4")


def mandarin(value: int) -> str:
    """Returns 0 ≤ `value` < 10¹² in words with tones, written as GB/T 16159 joins them: 357 → `san1bai3 wu3shi2qi1`."""
    if value < 10:
        return _SYLLABLES[value]
    words: list[str] = []
    for i in (2, 1, 0):
        group = value // 10_000**i % 10_000
        if group:
            words += _group(group, first=not words)
            words[-1] += _MYRIADS[i]
    return " ".join(words)


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
    if _known(language) == "mandarin":
        return re.sub(r"\d", "", mandarin(number))
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


def _group(value: int, first: bool) -> list[str]:
    """Words of 1…9999; `first` says that nothing greater is before it."""
    words: list[str] = []
    gap = not first and value < 1000
    for unit, name in ((1000, "qian1"), (100, "bai3")):
        digit = value // unit % 10
        if digit:
            words += ["ling2"] * gap + [_SYLLABLES[digit] + name]
        gap = bool(words or not first) and digit == 0
    tens, ones = divmod(value % 100, 10)
    if tens or ones:
        ten = "" if not tens else "shi2" if tens == 1 and first and not words else _SYLLABLES[tens] + "shi2"
        gap = gap or (not tens and bool(words))
        words += ["ling2"] * gap + [ten + (_SYLLABLES[ones] if ones else "")]
    return words
