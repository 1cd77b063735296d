"""Mandarin in pinyin: numbers in words, and transcripts out of syllables with their tones (`ni3hao3`)."""

import re

_DIGITS = "ling2 yi1 er4 san1 si4 wu3 liu4 qi1 ba1 jiu3".split()
_MYRIADS = ("", "wan4", "yi4")


def number(value: int) -> str:
    """Returns 0 ≤ `value` < 10¹² in words with tones, written as GB/T 16159 joins them: 357 → `san1bai3 wu3shi2qi1`."""
    if value < 10:
        return _DIGITS[value]
    words: list[str] = []
    for i in (2, 1, 0):
        group = value // 10_000**i % 10_000
        if group:
            words += _group(group, first=not words)
            words[-1] += _MYRIADS[i]
    return " ".join(words)


def without_tones(text: str) -> str:
    """Returns the transcript of pinyin that has a digit for the tone after each syllable and v for ü: nv3er2 → nü'er.

    The apostrophe is pinyin's own, before a syllable inside a word that begins with a vowel.
    """
    return re.sub(r"\d", "", re.sub(r"(?<=\d)(?=[aeo])", "'", text)).replace("v", "ü")


def _group(value: int, first: bool) -> list[str]:
    """Words of 1…9999; `first` says that nothing greater is before it."""
    words: list[str] = []
    gap = not first and value < 1000
    for unit, name in ((1000, "qian1"), (100, "bai3")):
        digit = value // unit % 10
        if digit:
            words += ["ling2"] * gap + [_DIGITS[digit] + name]
        gap = bool(words or not first) and digit == 0
    tens, ones = divmod(value % 100, 10)
    if tens or ones:
        ten = "" if not tens else "shi2" if tens == 1 and first and not words else _DIGITS[tens] + "shi2"
        gap = gap or (not tens and bool(words))
        words += ["ling2"] * gap + [ten + (_DIGITS[ones] if ones else "")]
    return words
