import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax import alphabet
from w2l_jax.errors import UserError
from w2l_jax.spelling import spell_numbers
from w2l_jax.text import normalize


@pytest.mark.parametrize(
    ("language", "raw", "spelled"),
    [
        ("de", "am 3. Mai um 10:30", "am dritten mai um zehn dreißig"),
        ("de", "14:30 Uhr, 9.05 Uhr, 12:00 Uhr, 1 Uhr", "vierzehn uhr dreißig neun uhr fünf zwölf uhr ein uhr"),
        ("de", "der 3. Mai; es waren 3.", "der dritte mai es waren drei"),
        ("german", "1.250,50 Euro", "eintausendzweihundertfünfzig komma fünf null euro"),
        ("de", "007, A4, 20km", "null null sieben a vier zwanzig kilometer"),
        ("de", "die 80er und 1980er", "die achtziger und neunzehnhundertachtziger"),
        ("de", "1984: 5,50 €, 1 €", "neunzehnhundertvierundachtzig fünf euro fünfzig ein euro"),
        ("de", "3,5 %", "drei komma fünf prozent"),
        ("en", "1,250.5 and 21", "one thousand two hundred and fifty point five and twenty one"),
        ("en", "1234567890123", "one two three four five six seven eight nine zero one two three"),
        ("en", "the 1st, 22nd and 3rd", "the first twenty second and third"),
        ("en", "the 1980s, the '80s", "the nineteen eighties the eighties"),
        ("en", "in 1984, in 2015", "in nineteen eighty four in twenty fifteen"),
        ("en", "2015 times", "two thousand and fifteen times"),
        ("en", "$5.50, $1, 20 £", "five dollars and fifty cents one dollar twenty pounds"),
        ("en", "60 km/h, 1 m, 20 °C", "sixty kilometers per hour one meter twenty degrees celsius"),
        ("en", "COVID-19", "covid nineteen"),
        ("fr", "1\u00a0250,5 et 80 %", "mille deux cent cinquante virgule cinq et quatre vingts pour cent"),
        ("fr", "le 1er, la 1re, le 2e", "le premier la première le deuxième"),
        ("it", "3,50", "tre virgola cinque zero"),
        ("es", "3,50 y 2ª", "tres coma cinco cero y segunda"),
        ("nl", "21, 1984, 3e", "eenentwintig negentienhonderdvierentachtig derde"),
        ("zh", "1,250.5", "yiqian erbai wushi dian wu"),
        ("", "3", "3"),
    ],
)  # fmt: skip
def test_spelled_numbers(language, raw, spelled):
    pytest.importorskip("num2words")
    assert normalize(spell_numbers(raw, language), alphabet.preset(language or "de")) == spelled


@pytest.mark.parametrize(
    ("language", "raw"),
    [
        ("en", "on 12/05/2020"), ("en", "5-10 people"), ("en", "at -5"), ("en", "1/2"), ("en", "80er"), ("en", "3D"),
        ("en", "1.2.3"), ("de", "3. Mai"), ("de", "1st"), ("de", "1980s"), ("fr", "80er"), ("pl", "5 €"), ("ko", "3개"),
        ("cs", "3,5"), ("fr", "1 km"),
    ],
)  # fmt: skip
def test_unspellable_numbers_are_kept(language, raw):
    pytest.importorskip("num2words")
    assert spell_numbers(raw, language) == raw


def test_numbers_between_chinese_characters():
    assert spell_numbers("我有357块,10.5个", "zh") == "我有三百五十七块,十点五个"


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=5), st.sampled_from([*alphabet.PRESETS, "polish", "tr"]))
def test_plain_numbers_are_spelled_in_every_language(numbers, language):
    pytest.importorskip("num2words")
    spelled = spell_numbers(" ".join(map(str, numbers)), language)
    assert not any(char.isdecimal() for char in spelled)
    assert spelled.split() == " ".join(spell_numbers(str(number), language) for number in numbers).split()


@given(st.text("0123456789., a%$'-/:\u00a0٣", max_size=30), st.sampled_from([*alphabet.PRESETS, "polish"]))
def test_any_text_is_spelled_or_kept(text, language):
    """A number is written in words or left unchanged: no part of it is lost."""
    pytest.importorskip("num2words")
    left = re.findall(r"\d+", spell_numbers(text, language))
    assert all(chunk in text for chunk in left)


def test_unknown_languages_and_a_missing_num2words(monkeypatch):
    pytest.importorskip("num2words")
    with pytest.raises(UserError, match="does not know the language 'klingon': spell the numbers"):
        spell_numbers("9 lives", "klingon")
    monkeypatch.setitem(sys.modules, "num2words", None)
    with pytest.raises(UserError, match=r"needs num2words: pip install 'w2l_jax\[numbers\]'"):
        spell_numbers("86 lives", "en")
