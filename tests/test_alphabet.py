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


def test_ids_start_after_the_blank():
    assert GERMAN.encode("aß").tolist() == [1, 32]
    assert alphabet.BLANK == 0


def test_unknown_character_is_named():
    with pytest.raises(UserError, match="'é'"):
        GERMAN.encode("café")


def test_unknown_language_names_the_choices():
    with pytest.raises(UserError, match="german"):
        alphabet.preset("klingon")


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


@pytest.mark.parametrize(
    ("char", "known", "expected"),
    [
        ("ä", "abc", "a"), ("é", "e", "e"), ("ñ", "n", "n"), ("ç", "c", "c"), ("ß", "s", "s"), ("æ", "ae", "a"),
        ("œ", "o", "o"), ("ø", "o", "o"), ("ł", "l", "l"), ("đ", "d", "d"), ("ð", "d", "d"), ("þ", "t", "t"),
        ("ı", "i", "i"), ("ǿ", "aø", "ø"), ("ǿ", "ao", "o"), ("ế", "eê", "ê"), ("ế", "e", "e"), ("й", "и", "и"),
        ("ä", "bc", ""), ("w", "abc", ""), ("a", "abc", "a"), ("€", "e", ""),
    ],
)  # fmt: skip
def test_characters_are_mapped_to_similar_ones(char, known, expected):
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
def test_repetitions_have_their_own_symbols(text, written):
    assert ASG.encode(text).tolist() == written and ASG.encode(text).dtype == "int32"
    assert ASG.decode(written) == text
    assert ASG.size == 6


@pytest.mark.parametrize(("ids", "text"), [([0], ""), ([1, 2, 0, 1], "aaaa"), ([0, 3, 0, 2, 4], "bba ")])
def test_repetition_symbols_repeat_the_preceding_letter(ids, text):
    assert ASG.decode(ids) == text


@given(st.text(alphabet="ab '"), st.integers(1, 3))
def test_round_trips_with_repetition_symbols(text, repetitions):
    labels = alphabet.Alphabet("ab '", repetitions)
    ids = labels.encode(text).tolist()
    assert labels.decode(ids) == text
    assert all(a != b for a, b in zip(ids, ids[1:], strict=False)) and all(0 <= i < labels.size for i in ids)
    assert alphabet.Alphabet.from_json(labels.to_json()) == labels
    assert labels.extend(GERMAN).repetitions == repetitions


def test_an_alphabet_file_without_repetitions_belongs_to_ctc():
    assert alphabet.Alphabet.from_json('{"blank": 0, "characters": "ab"}') == alphabet.Alphabet("ab")
