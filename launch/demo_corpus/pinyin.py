"""Transcripts of pinyin out of syllables with their tones (`ni3hao3`)."""

import re


def without_tones(text: str) -> str:
    """Returns the transcript of pinyin that has a digit for the tone after each syllable and v for ü: nv3er2 → nü'er.

    The apostrophe is pinyin's own, before a syllable inside a word that begins with a vowel.
    """
    return re.sub(r"\d", "", re.sub(r"(?<=\d)(?=[aeo])", "'", text)).replace("v", "ü")
