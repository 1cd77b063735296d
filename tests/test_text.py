import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax import alphabet
from w2l_jax.alphabet import Alphabet
from w2l_jax.spelling import AUDIBLE
from w2l_jax.text import alphabet_from_data, characters, clean, join_unspaced, normalize, tags_in

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
        ("Zei\u00adtung\u200b le\u2060sen\ufeff\u200e", "zeitung lesen"),
        ("o\ufb03ce \ufb01x, Œuvre, Cæsar", "office fix oeuvre caesar"),
        ("ｆｕｌｌ", "full"),
        ("x\u030cy e\u0331", "xy e"),
        ("100 %", "100 %"),
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
    # Without a preset: space, apostrophe and characters of the data; "’" is an apostrophe, a soft hyphen is dropped.
    assert alphabet_from_data(["Żółć’s", "a\u00adb"], "polish").characters == " 'absóćłż"
    assert alphabet_from_data(["नमस्ते"], "hindi").characters == " 'तनमसे्"
    assert alphabet_from_data([], "klingon").characters == " '"


@given(st.lists(st.text(max_size=20), max_size=5), st.sampled_from(["german", "polish"]))
def test_an_alphabet_from_data_covers_the_data(texts, language):
    """Only control characters remain outside it after normalising; the order of the texts does not matter."""
    found = alphabet_from_data(texts, language)
    assert found == alphabet_from_data(texts[::-1], language)
    for text in texts:
        unknown = found.unknown(normalize(text, found))
        assert all(unicodedata.category(c)[0] == "C" or c in AUDIBLE for c in unknown)


PERSIAN = Alphabet(" 'ادمنویرخبسل")


def test_a_joiner_is_kept_if_the_alphabet_has_it():
    assert normalize("می\u200cرود", PERSIAN) == "میرود"
    assert normalize("می\u200cرود", Alphabet(PERSIAN.characters + "\u200c")) == "می\u200cرود"
    assert alphabet_from_data(["می\u200cرود", "\ufeffخوب"], "persian").characters == " 'بخدرموی"


@pytest.mark.parametrize(
    ("language", "raw", "lower"),
    [
        ("tr", "IĞDIR İzmir", "ığdır izmir"),
        ("azerbaijani", "İLK ISI", "ilk ısı"),
        ("en", "IZMIR İ", "izmir i"),
        ("el", "ΟΔΟΣ", "οδος"),
    ],
)
def test_lower_case_follows_the_language(language, raw, lower):
    known = Alphabet(" abcçdefgğhıijklmnoprstuüvyzşöαβοδς" if language != "en" else alphabet.PRESETS["english"])
    assert normalize(raw, known, language) == lower


@pytest.mark.parametrize(
    ("raw", "cleaned", "tags"),
    [
        ("[noise] so we went", "so we went", ["[noise]"]),
        ("it was (laughs) fine", "it was fine", ["(laughs)"]),
        ("{breath} and then <unk>", "and then", ["{breath}", "<unk>"]),
        ("(Laughter and applause) *coughs* ++NOISE++ hm", "hm", ["(Laughter and applause)", "*coughs*", "++NOISE++"]),
        ("[inaudible 00:12] <i>yes</i> ♪", "yes", ["[inaudible 00:12]", "<i>", "</i>", "♪"]),
        ("we went (as usual) home", "we went as usual home", []),
        ("it is *very* good", "it is very good", []),
        ("3 < 5 and 7 > 2", "3 < 5 and 7 > 2", []),
        ("ein (Räuspern) Wort", "ein wort", ["(Räuspern)"]),
    ],
)
def test_tags_are_dropped(raw, cleaned, tags):
    assert clean(raw, GERMAN) == cleaned
    assert tags_in(raw) == tags
    if tags:
        assert clean(raw, GERMAN, tags="keep") != cleaned


def test_pronounced_signs_are_not_dropped():
    assert clean("R&D", GERMAN, "de") == "r und d"
    assert clean("R&D", GERMAN) == "r&d"
    assert clean("R&D, 5%", GERMAN, "de", numbers=True) == "r und d fünf prozent"


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("he said 'so' and ‘went’ home", "he said so and went home"),
        ("don’t, the dogs' bone", "don't the dogs' bone"),
        ("'tis o'clock", "'tis o'clock"),
        ("„so“ “so” «so» ‹so›", "so so so so"),
        ("'‘so’'", "so"),
    ],
)
def test_quotation_marks_are_not_apostrophes(raw, cleaned):
    assert clean(raw, alphabet.preset("en")) == cleaned


@given(st.text() | st.text("'’‘ab ()[]<>.", max_size=20))
def test_cleaning_twice_changes_nothing(text):
    once = clean(text, GERMAN, "de")
    assert clean(once, GERMAN, "de") == once


HAN = Alphabet(" '花园里的都开了ab")


def test_a_character_of_a_script_without_spaces_is_a_word():
    assert clean("花园里的花,都开了!", HAN) == "花 园 里 的 花 都 开 了"
    assert clean("ab花 园a", HAN) == "ab 花 园 a"
    assert join_unspaced("花 园 里 ab 花") == "花园里 ab 花"
    assert characters("ก็ดี") == ["ก็", "ดี"]
    assert normalize("ก็ดี", Alphabet(" กดี็")) == "ก็ ดี"
    assert normalize("ラーメン", Alphabet(" ラーメン")) == "ラー メ ン"
