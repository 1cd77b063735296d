import sys
import unicodedata

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


def test_alphabet_from_data_appends_in_order():
    assert alphabet.alphabet_from_data(["Él, él!", "ça 3"], "de").characters == GERMAN.characters + "3çé"
    assert alphabet.alphabet_from_data(["only ascii"], "english") == alphabet.preset("en")
    # Without a preset: space, apostrophe and what is there; "’" is an apostrophe, a soft hyphen nothing.
    assert alphabet.alphabet_from_data(["Żółć’s", "a\u00adb"], "polish").characters == " 'absóćłż"
    assert alphabet.alphabet_from_data(["नमस्ते"], "hindi").characters == " 'तनमसे्"
    assert alphabet.alphabet_from_data([], "klingon").characters == " '"


@given(st.lists(st.text(max_size=20), max_size=5), st.sampled_from(["german", "polish"]))
def test_alphabet_from_data_writes_all_of_it(texts, language):
    """What normalising leaves outside it is nothing but control characters; the order of the texts does not matter."""
    found = alphabet.alphabet_from_data(texts, language)
    assert found == alphabet.alphabet_from_data(texts[::-1], language)
    for text in texts:
        assert all(unicodedata.category(c)[0] == "C" for c in found.unknown(alphabet.normalize(text, found)))


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
    assert alphabet.normalize(alphabet.spell_numbers(raw, language), alphabet.preset(language or "de")) == spelled


@given(st.text("0123456789., a\u00a0٣", max_size=30), st.sampled_from(list(alphabet.PRESETS)))
def test_spelling_leaves_no_digit(text, language):
    pytest.importorskip("num2words")
    assert not any(char.isdecimal() for char in alphabet.spell_numbers(text, language))


def test_numbers_that_nobody_can_spell(monkeypatch):
    pytest.importorskip("num2words")
    with pytest.raises(UserError, match="does not know the language 'klingon': give its code"):
        alphabet.spell_numbers("9 lives", "klingon")
    monkeypatch.setitem(sys.modules, "num2words", None)
    with pytest.raises(UserError, match=r"needs num2words: pip install 'w2l_jax\[numbers\]'"):
        alphabet.spell_numbers("86 lives", "en")


@pytest.mark.parametrize(
    ("char", "known", "expected"),
    [
        ("ä", "abc", "a"), ("é", "e", "e"), ("ñ", "n", "n"), ("ç", "c", "c"), ("ß", "s", "s"), ("æ", "ae", "a"),
        ("œ", "o", "o"), ("ø", "o", "o"), ("ł", "l", "l"), ("đ", "d", "d"), ("ð", "d", "d"), ("þ", "t", "t"),
        ("ı", "i", "i"), ("ǿ", "aø", "ø"), ("ǿ", "ao", "o"), ("ế", "eê", "ê"), ("ế", "e", "e"), ("й", "и", "и"),
        ("ä", "bc", ""), ("w", "abc", ""), ("a", "abc", "a"), ("€", "e", ""),
    ],
)  # fmt: skip
def test_what_a_character_looks_like(char, known, expected):
    assert alphabet.resembling(char, known) == expected


ASG = alphabet.Alphabet("ab '", repetitions=2)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", []),
        ("ab", [2, 3]),
        ("aab", [2, 0, 3]),
        ("aaab", [2, 1, 3]),
        ("aaaa", [2, 1, 2]),
        ("aaaaa", [2, 1, 2, 0]),
        ("a abb", [2, 4, 2, 3, 0]),
    ],
)
def test_repetitions_are_written_with_symbols_of_their_own(text, written):
    assert ASG.encode(text).tolist() == written and ASG.encode(text).dtype == "int32"
    assert ASG.decode(written) == text
    assert ASG.size == 6


@pytest.mark.parametrize(("ids", "text"), [([0], ""), ([1, 2, 0, 1], "aaaa"), ([0, 3, 0, 2, 4], "bba ")])
def test_repetition_symbols_repeat_the_letter_before_them_wherever_it_is(ids, text):
    assert ASG.decode(ids) == text


@given(st.text(alphabet="ab '"), st.integers(1, 3))
def test_round_trips_with_repetition_symbols(text, repetitions):
    labels = alphabet.Alphabet("ab '", repetitions)
    ids = labels.encode(text).tolist()
    assert labels.decode(ids) == text
    assert all(a != b for a, b in zip(ids, ids[1:], strict=False)) and all(0 <= i < labels.size for i in ids)
    assert alphabet.Alphabet.from_json(labels.to_json()) == labels
    assert labels.extend(GERMAN).repetitions == repetitions


def test_an_alphabet_file_without_repetitions_is_of_ctc():
    assert alphabet.Alphabet.from_json('{"blank": 0, "characters": "ab"}') == alphabet.Alphabet("ab")
