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
        ("de", "am 3. Mai um 10:30", "am drei mai um zehn dreißig"),
        ("german", "1.250,50 Euro", "eintausendzweihundertfünfzig komma fünf null euro"),
        ("de", "007, A4, 20km", "null null sieben a vier zwanzig km"),
        ("en", "1,250.5 and 21", "one thousand two hundred and fifty point five and twenty one"),
        ("en", "1234567890123", "one two three four five six seven eight nine zero one two three"),
        ("fr", "1\u00a0250,5", "mille deux cent cinquante virgule cinq"),
        ("it", "3,50", "tre virgola cinque zero"),
        ("es", "3,50", "tres coma cinco cero"),
        ("nl", "21", "eenentwintig"),
        ("zh", "1,250.5", "yiqian erbai wushi dian wu"),
        ("", "3", "3"),
    ],
)
def test_spelled_numbers(language, raw, spelled):
    pytest.importorskip("num2words")
    assert normalize(spell_numbers(raw, language), alphabet.preset(language or "de")) == spelled


@given(st.text("0123456789., a\u00a0٣", max_size=30), st.sampled_from(list(alphabet.PRESETS)))
def test_spelling_leaves_no_digit(text, language):
    pytest.importorskip("num2words")
    assert not any(char.isdecimal() for char in spell_numbers(text, language))


def test_numbers_that_nobody_can_spell(monkeypatch):
    pytest.importorskip("num2words")
    with pytest.raises(UserError, match="does not know the language 'klingon': give its code"):
        spell_numbers("9 lives", "klingon")
    monkeypatch.setitem(sys.modules, "num2words", None)
    with pytest.raises(UserError, match=r"needs num2words: pip install 'w2l_jax\[numbers\]'"):
        spell_numbers("86 lives", "en")
