import gzip
import json
import math
import subprocess

import kenlm
import pytest

from lm_building.adopt import adopt
from lm_building.kenlm_tools import StructureConfig
from tests.decoding.conftest import ARPA
from w2l_jax.alphabet import preset
from w2l_jax.errors import UserError
from w2l_jax.lm.language_model import LanguageModel

ENGLISH = preset("en")
SENTENCES = ["a ba", "ab xx", "ba a ba", "", "ab ab"]


@pytest.fixture
def upper(tmp_path):
    """The model of conftest with words in capitals, like LibriSpeech's."""
    words = {"\ta\t": "\tA\t", "\tab\t": "\tAB\t", "\tba\t": "\tBA\t"}
    words |= {"<s> a": "<s> A", "a ba": "A BA", "ab </s>": "AB </s>", "ba a": "BA A"}
    content = ARPA
    for old, new in words.items():
        content = content.replace(old, new)
    (tmp_path / "upper.arpa").write_text(content)
    return tmp_path / "upper.arpa"


def score(folder, text):
    return kenlm.Model(str(folder / "lm.bin")).score(text)


@pytest.mark.parametrize("packed", [False, True])
def test_an_upper_case_arpa_is_converted_to_the_alphabet(packed, upper, hand_lm, tmp_path):
    """Its scores equal those of the model built in lower case."""
    if packed:
        upper = upper.with_suffix(".arpa.gz")
        upper.write_bytes(gzip.compress((tmp_path / "upper.arpa").read_bytes()))
    card = adopt(upper, tmp_path / "lm", ENGLISH, evaluate=["A, ba!", "ab xx"])
    assert [score(tmp_path / "lm", text) for text in SENTENCES] == [score(hand_lm, text) for text in SENTENCES]
    assert (card["order"], card["ngrams"], card["vocabulary"], card["renamed"]) == (2, [6, 4], 3, 3)
    assert (card["unspellable"], card["lost"]) == (0, 0)
    assert card["evaluation"]["perplexity"] == pytest.approx(10 ** (5.3 / 6))
    loaded = LanguageModel(tmp_path / "lm")
    assert (loaded.words, loaded.card) == (["a", "ab", "ba"], card)
    stamp = (tmp_path / "lm/lm.bin").stat().st_mtime_ns
    assert adopt(upper, tmp_path / "lm", ENGLISH, evaluate=["A, ba!", "ab xx"]) == card
    assert (tmp_path / "lm/lm.bin").stat().st_mtime_ns == stamp


def test_merged_words_keep_the_likelier_probability(tmp_path):
    more = "-2\tBa\t-0.2\n-0.8\tBA\t-0.3\n-4\tx-ray\n-2.5\tÉ\n-1.1\tba"
    (tmp_path / "cased.arpa").write_text(ARPA.replace("ngram 1=6", "ngram 1=10").replace("-1.1\tba", more), "utf-8")
    card = adopt(tmp_path / "cased.arpa", tmp_path / "lm", ENGLISH)
    assert (card["vocabulary"], card["renamed"], card["unspellable"]) == (4, 2, 1)
    assert (card["lost"], card["lost_words"]) == (2, ["Ba", "ba"])
    model, null, out = kenlm.Model(str(tmp_path / "lm/lm.bin")), kenlm.State(), kenlm.State()
    model.NullContextWrite(null)
    hidden = ["x-ray", "\x01Ba", "\x01ba"]
    assert LanguageModel(tmp_path / "lm").words == ["a", "ab", "ba", "e"]
    found = [model.BaseScore(null, word, out) for word in ["a", "ab", "ba", "e", *hidden, "<unk>", "</s>"]]
    assert found == pytest.approx([-0.6, -0.9, -0.8, -2.5, -4, -2, -1.1, -1.5, -0.7])
    # The kept word does not take over the bigrams of the dropped one: log10 P(ba | a) = -0.2 - 0.8.
    assert model.score("a ba", bos=False, eos=False) == pytest.approx(-0.6 - 0.2 - 0.8)


def test_structure_and_alphabet_are_part_of_the_key(upper, tmp_path):
    cards = [adopt(upper, tmp_path / "lm", ENGLISH, config) for config in (StructureConfig(), StructureConfig("trie"))]
    assert cards[0]["sha256"] != cards[1]["sha256"]
    assert adopt(upper, tmp_path / "lm", preset("de"), StructureConfig("trie"))["made_from"] != cards[1]["made_from"]
    assert not list(tmp_path.glob(".lm*"))


@pytest.mark.parametrize("structure", ["probing", "trie"])
def test_a_binary_is_adopted_unchanged_with_its_words(structure, kenlm_tools, hand_lm, tmp_path):
    subprocess.run([kenlm_tools[1], structure, hand_lm / "arpa", tmp_path / "a.bin"], check=True, capture_output=True)
    card = adopt(tmp_path / "a.bin", tmp_path / "lm", ENGLISH, evaluate=["a ba"])
    assert (tmp_path / "lm/lm.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()
    assert (card["order"], card["vocabulary"], card["missing"]) == (2, 3, 0)
    assert card["evaluation"]["perplexity"] == pytest.approx(10 ** (1.5 / 3))
    assert LanguageModel(tmp_path / "lm").words == ["a", "ab", "ba"]


def test_a_binary_without_its_words_needs_a_list(kenlm_tools, hand_lm, tmp_path):
    subprocess.run([kenlm_tools[1], "-v", hand_lm / "arpa", tmp_path / "a.bin"], check=True, capture_output=True)
    for tail in (b"", b"<unk>\0other\0"):
        (tmp_path / "b.bin").write_bytes((tmp_path / "a.bin").read_bytes() + tail)
        with pytest.raises(UserError, match="unigrams"):
            adopt(tmp_path / "b.bin", tmp_path / "lm", ENGLISH)
    (tmp_path / "words.txt").write_text("ba\na\nelse\nÄ-x\n")
    card = adopt(tmp_path / "a.bin", tmp_path / "lm", ENGLISH, unigrams=tmp_path / "words.txt")
    assert (card["vocabulary"], card["unspellable"], card["missing"]) == (2, 1, 1)
    assert LanguageModel(tmp_path / "lm").words == ["a", "ba"]


def _damaged(content: str):
    yield "cut in the unigrams", content[: content.index("-0.9")], "truncated: it ends 2 1-grams before"
    yield "cut in the bigrams", content[: content.index("-0.5\tBA")], "truncated: it ends 1 2-grams before"
    yield "cut at the end", content.replace("\\end\\\n", ""), "truncated"
    yield "too many", content.replace("ngram 2=4", "ngram 2=3"), r":17: '-0.5\\tBA A' instead of .*end"
    yield "too few", content.replace("ngram 1=6", "ngram 1=7"), r":\d+: .*2-grams:.* is not a 1-gram"
    yield "a word missing", content.replace("A BA", "A"), r"A' is not a 2-gram"
    yield "no counts", content.replace("ngram", "gram"), r"instead of .*1-grams"
    yield "counts behind", content.replace("ngram 1=6\nngram 2=4\n", ""), r":3: .*1-grams.* before any line 'ngram 1="
    yield "a count without end", content.replace("1=6", "1=" + "6" * 5000), r":2: 'ngram 1=666"
    yield "no number", content.replace("-0.6", "one"), "'one' is not a log10 probability"
    yield "no ARPA file", "Der Hund bellt.\n", "neither an ARPA file"
    yield "empty", "", "neither an ARPA file"
    yield "no word", content.replace("\tA", "\tÄ").replace("\tB", "\tÄ"), "no word of"


@pytest.mark.parametrize("case", range(13))
def test_damaged_arpa_files_are_named(case, upper, tmp_path):
    name, content, message = list(_damaged(upper.read_text()))[case]
    upper.write_text(content)
    alphabet = type(ENGLISH)("xyz ") if name == "no word" else ENGLISH
    with pytest.raises(UserError, match=message) as error:
        adopt(upper, tmp_path / "lm", alphabet)
    assert "upper.arpa" in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["upper.arpa"]


def test_contradictory_options_are_refused(upper, hand_lm, tmp_path, repository_without_kenlm):
    binary = hand_lm / "lm.bin"
    (tmp_path / "cut.bin").write_bytes(binary.read_bytes()[:300])
    (tmp_path / "a.bin.gz").write_bytes(gzip.compress(binary.read_bytes()))
    cases = [
        ((tmp_path / "none.arpa", ENGLISH), "no such language model"),
        ((upper, ENGLISH, StructureConfig(), binary), "omit the list"),
        ((binary, ENGLISH, StructureConfig("trie")), "structure is fixed"),
        ((binary, preset("de").__class__("xyz ")), "cannot be renamed: give its ARPA|cannot be renamed"),
        ((tmp_path / "cut.bin", ENGLISH), "KenLM cannot read it"),
        ((tmp_path / "a.bin.gz", ENGLISH), "decompress"),
        ((upper, ENGLISH), "make lmplz"),
    ]
    for (model, *arguments), message in cases:
        with pytest.raises(UserError, match=message):
            adopt(model, tmp_path / "lm", *arguments)
    assert not (tmp_path / "lm").exists()


def test_the_card_is_json_without_surprises(upper, tmp_path):
    card = adopt(upper, tmp_path / "lm", ENGLISH)
    assert json.loads((tmp_path / "lm/card.json").read_text("utf-8")) == card
    assert math.isfinite(card["bytes"])
