"""Pinyin transcripts from syllables with tones (`ni3hao3`)."""

import re


def without_tones(text: str) -> str:
    """Returns the transcript of pinyin with tone digits and v for ü: nv3er2 → nü'er.

    The apostrophe is pinyin's own, before a syllable inside a word that begins with a vowel.
    """
    return re.sub(r"\d", "", re.sub(r"(?<=\d)(?=[aeo])", "'", text)).replace("v", "ü")
