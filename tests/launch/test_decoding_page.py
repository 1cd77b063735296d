import json
import re

import numpy as np
import pytest
import soundfile

import results
from pages import decoding_figures as figures
from pages import decoding_page as page
from pages.decoding_page import Example
from results import Result
from tests.decoding.conftest import logits_for
from tests.launch.test_html import Reader, external
from w2l_jax.alphabet import Alphabet
from w2l_jax.corpora import Utterance
from w2l_jax.decoding.beam import Transcript
from w2l_jax.decoding.recordings import Word

ALPHABET = Alphabet("abcd <&\"'")


def result(name: str, source: str, expected: str, found: str, sure: float = 0.9) -> Result:
    words = [Word(word, 0.1 * i, 0.1 * i + 0.08, sure, sure / 2) for i, word in enumerate(found.split())]
    return Result(name, source, "", 2.0, expected, "b", Transcript(found, 0, 0, -1.0, 1), 1.0, None, tuple(words))


FOUND = [
    result("u1", "one", "ab cd", "ab cd"),
    result("u2", "one", "ab c d", "ad d", 0.5),
    result("<u3>", "two", 'a<b &"c', "a&b d", 0.1),
]


def example(number: int) -> Example:
    features_TxM = np.random.default_rng(number).normal(size=(250, 128)).astype(np.float16)
    return Example(FOUND[number], "worst", features_TxM, logits_for([1, 0, 2] * 40, ALPHABET.size))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    soundfile.write(folder / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 64000), 16000)
    recordings = {
        "u1": Utterance("u1", folder / "a.wav", "", start=1.0, end=3.0),
        "u2": Utterance("u2", folder / "no", ""),
    }
    facts = {"run": "runs/<a> & b"}
    text = page.build("german on <dev>", facts, FOUND, map(example, range(3)), ALPHABET, recordings)
    assert external(text) == []
    return Reader(text)


def test_the_page_shows_the_numbers_of_the_rows(reader):
    text = "".join(reader.text)
    for row in results.searches(FOUND):
        assert all(cell in reader.text for cell in row.values())
    for row in results.rows(FOUND):
        for rate, interval in zip((row["beam"].ler, row["beam"].corpus_wer), ("ler", "corpus_wer"), strict=True):
            assert results.percent(rate, row["beam_intervals"][interval]) in text
    assert "runs/<a> & b" in text and "german on <dev>" in text


def test_transcripts_stay_text(reader):
    assert "<u3>" in reader.text
    said = [a for tag, a in reader.tags if tag == "button" and a.get("class") == "word"]
    assert len(said) == sum(len(r.best.split()) for r in FOUND)
    assert said[1] == {
        "type": "button", "class": "word", "data-start": "0.100", "data-end": "0.180",
        "title": "0.10 to 0.18 s, confidence 90%",
    }  # fmt: skip


def test_recordings_are_embedded_or_their_absence_explained(reader):
    assert len([tag for tag, _ in reader.tags if tag == "audio"]) == 1
    text = "".join(reader.text)
    assert "no: no such audio file" in text and "the data do not name the recording" in text


def test_differences_are_marked():
    said, heard = page.marked(Result("a", "", "", 1.0, "abc d ca", "abb dca d", None, None))
    assert said == 'ab<span class="changed">c</span> d<del> </del>ca'
    assert heard == 'ab<span class="changed">b</span> dca<ins> </ins><ins>d</ins>'
    said, heard = page.marked(Result("a", "", "", 1.0, "<", '"', None, None))
    assert (said, heard) == ('<span class="changed">&lt;</span>', '<span class="changed">&quot;</span>')
    assert page.marked(Result("a", "", "", 1.0, "&", "", None, None)) == ("<del>&amp;</del>", "")


def test_frequent_errors_by_hand():
    pairs = [("ab d", "ad d"), ("cc", "c"), ("a a", "aa"), ("d", "d d")]
    some = [result(str(i), "", *pair) for i, pair in enumerate(pairs)]
    assert table_rows(page._letters(some), 4) == {
        ("b", "d", "1", "100.0%"),
        ("c", "(nothing)", "1", "50.0%"),
        ("␣", "(nothing)", "1", "50.0%"),
        ("(nothing)", "␣", "1"),
        ("(nothing)", "d", "1"),
    }
    counts = page.confusions((r.expected, r.best) for r in some)
    assert counts["a", "a"] == 3 and counts["b", "d"] == 1 and counts["d", "d"] == 2 and counts["d", ""] == 0
    # "a a" decoded as "aa" is one word missed and one changed.
    assert table_rows(page._words(some), 3) >= {("ab", "ad", "1"), ("cc", "c", "1")}
    assert ("d", "1") in table_rows(page._words(some), 2)


def table_rows(content: str, columns: int) -> set[tuple[str, ...]]:
    """The rows of a page's tables, without empty cells."""
    rows = re.findall("<tr>(.*?)</tr>", content)
    return {tuple(filter(None, re.findall("<td[^>]*>(.*?)</td>", row))) for row in rows if row.count("<td") == columns}


@pytest.mark.parametrize(
    ("count", "expected"), [(0, {}), (3, {}), (8, {"worst": 2, "median": 2, "best": 2, "random": 2})]
)
def test_selected_utterances(count, expected):
    found = [Result(f"u{i}", "", "", 1.0, "a" * 20, "a" * i + "b" * (20 - i), None, None) for i in range(20)]
    selected = page.choose(found, count)
    assert len(selected) == len(dict(selected)) == count
    reasons = [reason for _, reason in selected]
    for reason, number in expected.items():
        assert reasons.count(reason) == number
    if count == 8:
        assert [i for i, _ in selected[:6]] == [0, 1, 9, 10, 18, 19]
    assert page.choose(found, count) == selected
    assert (
        page.choose(found[:2], 20, seed=1) == page.choose(found[:2], 20, seed=1)
        and len(page.choose(found[:2], 20)) == 2
    )


def test_a_figure_of_one_utterance_without_words():
    """Greedy decoding of silence: no letter, no word."""
    from matplotlib.figure import Figure

    figure = Figure()
    figures.utterance(figure, np.zeros((9, 128), np.float16), np.zeros((5, ALPHABET.size)), ALPHABET, ())
    assert len(figure.axes) == 2


def test_records_carry_words_and_hypotheses():
    record = json.loads(json.dumps(FOUND[1].record()))
    assert record["words"][0] == {"word": "ad", "start": 0.0, "end": 0.08, "confidence": 0.5}


def test_confusions_by_hand():
    # a b c -> a x c d: b became x, d was inserted; then one l was deleted.
    found = page.confusions([("abc", "axcd"), ("hallo", "halo")])
    expected = {("a", "a"): 2, ("b", "x"): 1, ("c", "c"): 1, ("", "d"): 1, ("h", "h"): 1, ("l", "l"): 1, ("l", ""): 1}
    assert found == {**expected, ("o", "o"): 1}
    words = page.confusions([("der alte hund".split(), "der hund".split()), ("ja".split(), [])])
    assert words == {("der", "der"): 1, ("alte", ""): 1, ("hund", "hund"): 1, ("ja", ""): 1}
