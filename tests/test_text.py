import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax import alphabet
from w2l_jax.text import alphabet_from_data, normalize

GERMAN = alphabet.preset("de")


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Die Straße, »heißt« SO.", "die straße heißt so"),
        ("l’été\u00a0– d'Or", "l'ete d'or"),
        ("A\u0308pfel", "äpfel"),
        ("cafe\u0301", "cafe"),
        ("  ", ""),
        ("20 km²", "20 km²"),
        ("Łódź", "łodz"),
    ],
)
def test_normalize(raw, clean):
    assert normalize(raw, GERMAN) == clean


def test_normalize_keeps_accents_that_the_alphabet_has():
    assert normalize("Été", alphabet.preset("fr")) == "été"


@given(st.text())
def test_normalize_is_idempotent_and_has_no_double_spaces(text):
    once = normalize(text, GERMAN)
    assert normalize(once, GERMAN) == once
    assert "  " not in once and once == once.strip()


def test_alphabet_from_data_appends_in_order():
    assert alphabet_from_data(["Él, él!", "ça 3"], "de").characters == GERMAN.characters + "3çé"
    assert alphabet_from_data(["only ascii"], "english") == alphabet.preset("en")
    # Without a preset: space, apostrophe and what is there; "’" is an apostrophe, a soft hyphen nothing.
    assert alphabet_from_data(["Żółć’s", "a\u00adb"], "polish").characters == " 'absóćłż"
    assert alphabet_from_data(["नमस्ते"], "hindi").characters == " 'तनमसे्"
    assert alphabet_from_data([], "klingon").characters == " '"


@given(st.lists(st.text(max_size=20), max_size=5), st.sampled_from(["german", "polish"]))
def test_alphabet_from_data_writes_all_of_it(texts, language):
    """What normalising leaves outside it is nothing but control characters; the order of the texts does not matter."""
    found = alphabet_from_data(texts, language)
    assert found == alphabet_from_data(texts[::-1], language)
    for text in texts:
        assert all(unicodedata.category(c)[0] == "C" for c in found.unknown(normalize(text, found)))
