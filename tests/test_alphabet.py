import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax import alphabet
from w2l_jax.errors import UserError

GERMAN = alphabet.preset("de")


def test_sizes_are_the_papers():
    assert alphabet.preset("english").size == 29
    assert GERMAN.size == 33
    assert GERMAN.characters.startswith(alphabet.preset("en").characters)


def test_ids_start_behind_the_blank_with_the_first_character():
    assert GERMAN.encode("aß").tolist() == [1, 32]
    assert alphabet.BLANK == 0


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
    assert alphabet.normalize(raw, GERMAN) == clean


def test_normalize_keeps_accents_that_the_alphabet_has():
    assert alphabet.normalize("Été", alphabet.preset("fr")) == "été"


def test_unknown_character_is_named():
    with pytest.raises(UserError, match="'é'"):
        GERMAN.encode("café")


def test_unknown_language_names_the_choices():
    with pytest.raises(UserError, match="german"):
        alphabet.preset("klingon")


@given(st.text())
def test_normalize_is_idempotent_and_has_no_double_spaces(text):
    once = alphabet.normalize(text, GERMAN)
    assert alphabet.normalize(once, GERMAN) == once
    assert "  " not in once and once == once.strip()


@given(st.text(alphabet=GERMAN.characters))
def test_round_trips(text):
    assert GERMAN.decode(GERMAN.encode(text)) == text
    assert alphabet.Alphabet.from_json(GERMAN.to_json()) == GERMAN


def test_damaged_alphabet_file():
    with pytest.raises(UserError, match="not an alphabet"):
        alphabet.Alphabet.from_json("{")


def test_extension_appends():
    french = alphabet.preset("fr")
    both = GERMAN.extend(french)
    assert both.characters[: len(GERMAN.characters)] == GERMAN.characters
    assert set(both.characters) == set(GERMAN.characters) | set(french.characters)
