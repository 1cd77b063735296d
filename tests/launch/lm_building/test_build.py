import collections
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import kenlm
import numpy as np
import pytest

from lm_building import build as lm
from lm_building import lm_text as lm_text
from lm_building.kenlm_tools import Resources
from tests.conftest import ROOT
from w2l_jax.alphabet import Alphabet, preset
from w2l_jax.errors import UserError
from w2l_jax.lm.language_model import LanguageModel

GERMAN = preset("de")
pytestmark = pytest.mark.usefixtures("kenlm_tools")


@pytest.fixture
def corpus(tmp_path):
    """Plain text, a manifest of four utterances, and one with two of them, which are held out."""
    (tmp_path / "a.txt").write_text("Der Hund bellt. Der Hund schläft.\nDie Katze schläft.\n", "utf-8")
    texts = ["Straße", "Grün ist der Hund", "geheim", "verborgen"]
    lines = [json.dumps({"audio_filepath": f"u{i}.wav", "text": text}) for i, text in enumerate(texts)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines), "utf-8")
    (tmp_path / "dev.jsonl").write_text("\n".join(lines[2:]), "utf-8")
    return tmp_path


def test_files_of_a_language_model(corpus):
    card = lm.build([corpus / "*.txt", corpus / "train.jsonl"], corpus / "lm/de", GERMAN, held_out_ids={"u2", "u3"})
    assert (card["sentences"], card["words"], card["vocabulary"], card["held_out"]) == (5, 14, 9, 2)
    assert [source["file"] for source in card["made_from"]["sources"]] == ["a.txt", "train.jsonl"]
    words = (corpus / "lm/de/unigrams.txt").read_text("utf-8").split("\n")
    assert sorted(words) == ["", "bellt", "der", "die", "grün", "hund", "ist", "katze", "schläft", "straße"]
    assert sorted(path.name for path in (corpus / "lm").iterdir()) == ["de"]
    assert sorted(path.name for path in (corpus / "lm/de").iterdir()) == ["card.json", "lm.bin", "unigrams.txt"]
    loaded = LanguageModel(corpus / "lm/de")
    assert loaded.card == card
    assert "geheim" not in loaded.model
    assert "verborgen" not in loaded.model
    assert "straße" in loaded.model


def test_scores_are_kenlms(corpus):
    """Sentences with their beginning and end, in natural logarithms; likelier if seen."""
    lm.build([corpus / "a.txt"], corpus / "lm", GERMAN)
    loaded = LanguageModel(corpus / "lm")
    model = kenlm.Model(str(corpus / "lm/lm.bin"))
    for text, known in [("der hund bellt", 3), ("der hund miaut", 2), ("", 0)]:
        score, words = loaded.score(text)
        by_word = sum(logarithm for logarithm, _, _ in model.full_scores(text))
        assert score == pytest.approx(by_word * np.log(10), rel=1e-6)
        assert words == known
    assert loaded.score("der hund bellt") > loaded.score("bellt hund der")


def test_probabilities_sum_to_one(corpus):
    lm.build([corpus / "a.txt", corpus / "train.jsonl"], corpus / "lm", GERMAN)
    loaded = LanguageModel(corpus / "lm")
    state = kenlm.State()
    loaded.model.BeginSentenceWrite(state)
    words = [*loaded.words, "<unk>", "</s>"]
    assert sum(10 ** loaded.model.BaseScore(state, word, kenlm.State()) for word in words) == pytest.approx(1, abs=1e-5)


def test_nothing_is_built_twice(corpus):
    arguments = [corpus / "a.txt"], corpus / "lm", GERMAN
    card = lm.build(*arguments)
    stamp = (corpus / "lm/lm.bin").stat().st_mtime_ns
    (corpus / "elsewhere").mkdir()
    (corpus / "a.txt").rename(corpus / "elsewhere/a.txt")
    arguments = [corpus / "elsewhere/a.txt"], corpus / "lm", GERMAN
    assert lm.build(*arguments, resources=Resources(memory="2G")) == card
    assert (corpus / "lm/lm.bin").stat().st_mtime_ns == stamp
    assert lm.build([corpus / "elsewhere/a.txt"], corpus / "again", GERMAN) == card
    (corpus / "lm/unigrams.txt").unlink()
    assert lm.build(*arguments) == card
    assert (corpus / "lm/unigrams.txt").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"config": lm.LanguageModelConfig(order=3)},
        {"config": lm.LanguageModelConfig(structure="trie")},
        {"held_out_ids": {"u1"}},
        {"exclude": {"Die Katze schläft."}},
        {"evaluate": ["grün"]},
        {"alphabet": preset("en")},
        {"texts": ["train.jsonl"]},
    ],
)
def test_other_options_or_texts_replace_it(change, corpus, monkeypatch):
    monkeypatch.chdir(corpus)
    arguments = {"texts": ["a.txt", "train.jsonl"], "out": "lm", "alphabet": GERMAN}
    first = lm.build(**arguments)
    second = lm.build(**{**arguments, **change})
    assert second["made_from"] != first["made_from"]
    assert LanguageModel("lm").card == second
    assert not list(corpus.glob(".lm*"))


def test_vocabulary_pruning_and_structure_make_it_smaller(tmp_path):
    rng = np.random.default_rng(0)
    words = [a + b for a in "abcdefgh" for b in "aeiou"]
    lines = [" ".join(rng.choice(words, 8)) for _ in range(400)]
    (tmp_path / "a.txt").write_text("\n".join(["aa aa aa"] * 5 + lines))

    def build(name, **options):
        config = lm.LanguageModelConfig(deduplicate="none", **options)
        card = lm.build([tmp_path / "a.txt"], tmp_path / name, GERMAN, config, evaluate=["aa be aa ca ad"])
        return card, LanguageModel(tmp_path / name)

    full, cut, pruned = build("full"), build("cut", vocabulary=10), build("pruned", prune=(0, 0, 1))
    trie, small = build("trie", structure="trie"), build("small", structure="trie", quantize=8)
    assert [card["vocabulary"] for card, _ in (full, cut, pruned)] == [40, 10, 40]
    # The ten most frequent words, ties in alphabetical order.
    counted = collections.Counter(" ".join(["aa aa aa"] * 5 + lines).split())
    assert cut[1].words == sorted(sorted(counted, key=lambda word: (-counted[word], word))[:10])
    # n-grams: each that occurs, and with pruning each that occurs twice; <s>, </s> and <unk> among the unigrams.
    sentences = [["<s>", *line.split(), "</s>"] for line in ["aa aa aa"] * 5 + lines]
    counts = [collections.Counter(_ngrams(sentences, order)) for order in (2, 3, 4)]
    assert full[0]["ngrams"] == [43, *map(len, counts)]
    often = [sum(count > 1 for count in found.values()) for found in counts]
    assert pruned[0]["ngrams"] == [43, len(counts[0]), *often[1:]]
    assert pruned[0]["bytes"] < full[0]["bytes"] and small[0]["bytes"] < trie[0]["bytes"] < full[0]["bytes"]
    perplexities = [card["evaluation"]["perplexity"] for card, _ in (full, trie, small)]
    assert perplexities[1] == pytest.approx(perplexities[0], rel=1e-5)
    assert perplexities[2] == pytest.approx(perplexities[0], rel=0.05)
    assert cut[0]["evaluation"]["unknown_words"] == sum(word not in cut[1].words for word in "aa be aa ca ad".split())
    for _, model in (full, cut, pruned):
        state = kenlm.State()
        model.model.BeginSentenceWrite(state)
        words = [*model.words, "<unk>", "</s>"]
        total = sum(10 ** model.model.BaseScore(state, word, kenlm.State()) for word in words)
        assert total == pytest.approx(1, abs=1e-5)


def _ngrams(sentences, order):
    return (tuple(line[i : i + order]) for line in sentences for i in range(len(line) - order + 1))


def test_errors_name_the_remedy(corpus, repository_without_kenlm):
    def build(texts=("a.txt",), out="lm", alphabet=GERMAN, config=lm.LanguageModelConfig()):
        return lm.build([corpus / text for text in texts], corpus / out, alphabet, config)

    with pytest.raises(UserError, match="make lmplz"):
        build()
    with pytest.raises(UserError, match="no such text"):
        build(["missing.txt"])
    with pytest.raises(UserError, match="is not a language model; choose another"):
        build(out=".")


@pytest.mark.parametrize(
    "options",
    [
        {"order": 1},
        {"order": 7},
        {"vocabulary": -1},
        {"prune": (0, -1)},
        {"prune": (0, 2, 1)},
        {"prune": (0,) * 5},
        {"structure": "hash"},
        {"quantize": 8},
        {"quantize": 26, "structure": "trie"},
        {"deduplicate": "some"},
        {"memory": "2 GB"},
        {"temp_dir": Path("nowhere")},
    ],
)
def test_bad_options_are_named(options):
    name = next(iter(options))
    with pytest.raises(UserError, match=name):
        (Resources if name in ("memory", "temp_dir") else lm.LanguageModelConfig)(**options)


def test_text_outside_the_alphabet(corpus):
    with pytest.raises(UserError, match="no usable sentence"):
        lm.build([corpus / "a.txt"], corpus / "lm", Alphabet("xyz "))
    assert not (corpus / "lm").exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'a word of lmplz' >&2; exit 3", r"lmplz failed \(exit 3\)[^$]*a word of lmplz"),
        ("kill -9 $$", "lmplz was killed.*memory="),
        ("echo 'write: No space left on device' >&2; exit 1", "no space left in .*/temporary/.*temp_dir"),
    ],
)
def test_kenlm_errors_reach_the_user(script, message, corpus, monkeypatch):
    (corpus / "bin").mkdir()
    for name in ("lmplz", "build_binary"):
        (corpus / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (corpus / "bin" / name).chmod(0o755)
    monkeypatch.setenv("W2L_JAX_KENLM_BIN", str(corpus / "bin"))
    (corpus / "temporary").mkdir()
    with pytest.raises(UserError, match=message):
        lm.build([corpus / "a.txt"], corpus / "lm", GERMAN, resources=Resources(temp_dir=corpus / "temporary"))
    assert not list(corpus.glob(".lm*"))
    assert not list((corpus / "temporary").iterdir())


def test_a_full_disk_is_named(corpus, monkeypatch):
    def sentences(*_):
        yield "a sentence"
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lm_text.Reader, "sentences", sentences)
    with pytest.raises(UserError, match=r"no space left in .*temp_dir"):
        lm.build([corpus / "a.txt"], corpus / "lm", GERMAN)
    assert not list(corpus.glob(".lm*"))


def test_kenlm_can_be_chosen(corpus, kenlm_tools, monkeypatch, tmp_path):
    monkeypatch.setenv("W2L_JAX_KENLM_BIN", str(tmp_path))
    with pytest.raises(UserError, match="make lmplz"):
        lm.build([corpus / "a.txt"], corpus / "lm", GERMAN)
    monkeypatch.setenv("W2L_JAX_KENLM_BIN", os.path.dirname(kenlm_tools[0]))
    assert lm.build([corpus / "a.txt"], corpus / "lm", GERMAN)["words"] == 9


_PEAK = """
import resource, sys
from w2l_jax.alphabet import preset
from lm_building import build as lm
card = lm.build(["a.txt"], "lm", preset("en"), lm.LanguageModelConfig(order=2, vocabulary=1000))
print(card["words"], card["repeated_lines"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(tmp_path):
    """Four times the lines and the words, all different: some 20 bytes for each of the 2.1 million lines more.

    In sets and dictionaries they would take 500 MB.
    """

    def letters(i):
        return "".join(chr(ord("a") + i // 26**k % 26) for k in range(5))

    peaks = []
    for lines in (700_000, 2_800_000):
        with open(tmp_path / "a.txt", "w") as file:
            file.writelines(f"{letters(i)} the {letters(i % 500)} and\n" for i in range(lines))
            file.writelines(f"{letters(i)} the {letters(i % 500)} and\n" for i in range(1000))
        command = [sys.executable, "-c", _PEAK]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "launch")])},
            capture_output=True,
        )
        words, repeated, peak = map(float, done.stdout.split())
        assert (words, repeated) == (4 * lines, 1000)
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 80, peaks
    assert peaks[0] < 300, peaks
