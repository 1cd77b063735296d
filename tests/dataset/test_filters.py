import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax.alphabet import Alphabet, preset
from w2l_jax.corpora import Utterance
from w2l_jax.dataset import filters
from w2l_jax.errors import UserError

ENGLISH = preset("english")


def make_utterance(text, name="a", language=""):
    return Utterance(name, Path(f"{name}.wav"), text, language=language)


@pytest.mark.parametrize("length", range(7))
def test_needed_frames_is_the_minimum_for_ctc(length):
    """Among all 3^S paths over blank, a, b: exactly the labels that need at most S frames occur."""
    emitted = set()
    for path in itertools.product("-ab", repeat=length):
        emitted.add("".join(char for char, _ in itertools.groupby(path)).replace("-", ""))
    labels = ("".join(label) for n in range(8) for label in itertools.product("ab", repeat=n))
    assert emitted == {label for label in labels if filters.needed_frames(label) <= length}


@given(st.text("ab", max_size=30), st.integers(0, 100))
def test_label_too_long_at_the_exact_frame(transcript, frames):
    exclusion = filters.label_too_long(frames, transcript)
    assert (exclusion is None) == (-(-frames // 2) >= filters.needed_frames(transcript))
    assert exclusion is None or exclusion.reason == "label too long"


@given(st.lists(st.text(max_size=12), max_size=12), st.sampled_from(["english", "german", "french"]))
def test_every_text_is_usable_or_excluded(texts, language):
    alphabet = preset(language)
    given_ = [make_utterance(text, f"u{i}") for i, text in enumerate(texts)]
    transcripts, excluded = filters.check_texts(given_, alphabet, "drop_utterance")
    assert set(transcripts) | set(excluded) == {u.id for u in given_}
    assert not set(transcripts) & set(excluded)
    for transcript in transcripts.values():
        assert transcript
        assert set(transcript) <= set(alphabet.characters)
    if sum(e.reason == filters.UNKNOWN_CHARACTERS for e in excluded.values()) > max(1, len(texts) / 20):
        with pytest.raises(UserError, match="characters outside the alphabet"):
            filters.check_texts(given_, alphabet, "error")
    else:
        assert filters.check_texts(given_, alphabet, "error") == (transcripts, excluded)


def test_the_most_frequent_unknown_characters_are_listed():
    signs = "αβγδεζηθικλμν"
    texts = [make_utterance(f"a {signs[: i + 1]}", f"u{i:02d}") for i in range(13)] + [make_utterance("gut", "fine")]
    with pytest.raises(UserError) as caught:
        filters.check_texts(texts, preset("german"), "error")
    lines = str(caught.value).split("\n")
    assert lines[0].startswith("13 of 14 texts hold characters outside the alphabet, and at most 5% may be skipped")
    assert lines[1] == "  α in 13 texts, such as u00: 'a α'"
    assert lines[10] == "  κ in 4 texts, such as u09: 'a αβγδεζηθικ'"
    assert lines[11] == "  … and 3 other characters"
    assert "unknown_characters=drop_utterance" in lines[-1]
    _, excluded = filters.check_texts(texts, preset("german"), "error", max_skipped=0.93)
    assert len(excluded) == 13


@pytest.mark.parametrize(
    ("tags", "expected", "reasons"),
    [
        ("drop", {"a": "so we went", "c": "fine"}, {"b": "empty text"}),
        ("keep", {"a": "noise so we went", "b": "laughs", "c": "fine"}, {}),
        ("skip_utterance", {"c": "fine"}, {"a": "tags in the text", "b": "tags in the text"}),
    ],
)
def test_tags(tags, expected, reasons):
    texts = [make_utterance("[noise] So we went.", "a"), make_utterance("(laughs)", "b"), make_utterance("Fine.", "c")]
    transcripts, excluded = filters.check_texts(texts, ENGLISH, tags=tags)
    assert transcripts == expected
    assert {name: exclusion.reason for name, exclusion in excluded.items()} == reasons


def test_unspellable_numbers_are_counted():
    pytest.importorskip("num2words")
    texts = [make_utterance("on 12/05/2020", "a"), make_utterance("at 10:30", "b")]
    transcripts, excluded = filters.check_texts(texts, ENGLISH, language="en", numbers=True)
    assert transcripts == {"b": "at ten thirty"}
    assert excluded["a"].reason == "numbers not spelled"


def test_empty_texts():
    _, excluded = filters.check_texts([make_utterance(" -- !?", "a"), make_utterance("", "b")], ENGLISH, "error")
    assert {name: e.reason for name, e in excluded.items()} == {"a": "empty text", "b": "empty text"}


def test_a_text_of_another_language_is_refused():
    filters.check_languages(
        [make_utterance("a", language=code) for code in ("", "en", "en-US", "English", "eng", "gsw")], "english"
    )
    with pytest.raises(UserError, match=r"b: its language is 'de', not english; choose german"):
        filters.check_languages([make_utterance("a"), make_utterance("b", "b", "de")], "english")


def test_table():
    assert filters.table({"too long": 2, "empty text": 1200}) == "     1,200  empty text\n         2  too long"


def test_the_configured_alphabet_decides():
    assert filters.check_texts([make_utterance("ab")], Alphabet("ab"), "error")[0] == {"a": "ab"}
