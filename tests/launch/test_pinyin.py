import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo_corpus import pinyin
from w2l_jax import alphabet
from w2l_jax.spelling import mandarin
from w2l_jax.text import normalize

VALUES = {"shi2": 10, "bai3": 100, "qian1": 1000, "wan4": 10**4, "yi4": 10**8}
DIGITS = "ling2 yi1 er4 san1 si4 wu3 liu4 qi1 ba1 jiu3".split()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "ling2"), (10, "shi2"), (11, "shi2yi1"), (20, "er4shi2"), (99, "jiu3shi2jiu3"), (101, "yi1bai3 ling2 yi1"),
        (110, "yi1bai3 yi1shi2"), (357, "san1bai3 wu3shi2qi1"), (1001, "yi1qian1 ling2 yi1"),
        (1010, "yi1qian1 ling2 yi1shi2"), (10_010, "yi1wan4 ling2 yi1shi2"), (110_000, "shi2yi1wan4"),
        (20_300, "er4wan4 ling2 san1bai3"), (100_000_001, "yi1yi4 ling2 yi1"),
    ],
)  # fmt: skip
def test_numbers(value, words):
    assert mandarin(value) == words


@given(st.integers(0, 10**12 - 1) | st.integers(0, 99_999))
def test_numbers_read_back(value):
    """An independent reading: each digit times the unit after it, and everything before wan and yi times those."""
    total = group = digit = 0
    words = mandarin(value)
    for syllable in re.findall(r"[a-z]+\d", words):
        unit = VALUES.get(syllable, 0)
        if not unit:
            digit = DIGITS.index(syllable)
        elif unit < 10_000:
            group, digit = group + (digit or 1) * unit, 0
        else:
            total, group, digit = total + (group + digit) * unit, 0, 0
    assert total + group + digit == value
    assert "ling2 ling2" not in words
    assert (words.count("ling2") > 0) <= ("0" in str(value))


def test_transcripts():
    assert pinyin.without_tones("Nv3er2 qu4 Xi1an1.") == "Nü'er qu Xi'an."
    assert pinyin.without_tones("wo3 ai4 tian1an1men2") == "wo ai tian'anmen"


def test_tone_marks_go_and_the_umlaut_stays():
    mandarin = alphabet.preset("zh")
    assert normalize("Nǐ hǎo, wǒ shì nǚ lǜshī!", mandarin) == "ni hao wo shi nü lüshi"
    assert mandarin.characters == alphabet.preset("english").characters + "ü"
