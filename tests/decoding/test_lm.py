import json
import os

import kenlm
import numpy as np
import pytest

from tests.decoding.conftest import ROOT, run_script
from w2l_jax.alphabet import Alphabet, preset
from w2l_jax.decoding import lm
from w2l_jax.decoding.beam import LanguageModel
from w2l_jax.errors import UserError

GERMAN = preset("de")
pytestmark = pytest.mark.usefixtures("kenlm_tools")


@pytest.fixture
def corpus(tmp_path):
    """Plain text, a manifest of four utterances, and one of which two are held out."""
    (tmp_path / "a.txt").write_text("Der Hund bellt. Der Hund schläft.\nDie Katze schläft.\n", "utf-8")
    texts = ["Straße", "Grün ist der Hund", "geheim", "verborgen"]
    lines = [json.dumps({"audio_filepath": f"u{i}.wav", "text": text}) for i, text in enumerate(texts)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines), "utf-8")
    (tmp_path / "dev.jsonl").write_text("\n".join(lines[2:]), "utf-8")
    return tmp_path


def test_the_folder_holds_what_the_text_says(corpus):
    card = lm.build([corpus / "*.txt", corpus / "train.jsonl"], corpus / "lm/de", GERMAN, held_out_ids={"u2", "u3"})
    assert (card["sentences"], card["words"], card["vocabulary"], card["held_out"]) == (5, 14, 9, 2)
    assert [source["file"] for source in card["made_from"]["sources"]] == ["a.txt", "train.jsonl"]
    words = (corpus / "lm/de/unigrams.txt").read_text("utf-8").split("\n")
    assert words == ["bellt", "der", "die", "grün", "hund", "ist", "katze", "schläft", "straße", ""]
    assert sorted(path.name for path in (corpus / "lm").iterdir()) == ["de"]
    assert sorted(path.name for path in (corpus / "lm/de").iterdir()) == ["card.json", "lm.bin", "unigrams.txt"]
    loaded = LanguageModel(corpus / "lm/de")
    assert loaded.card == card
    assert "geheim" not in loaded.model
    assert "verborgen" not in loaded.model
    assert "straße" in loaded.model


def test_scores_are_kenlms(corpus):
    """The sentence with its beginning and end, in natural logarithms; likelier when it was seen."""
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
    assert lm.build(*arguments, memory="2G") == card
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
        {"alphabet": preset("en")},
        {"texts": ["train.jsonl"]},
    ],
)
def test_other_settings_or_texts_replace_it(change, corpus, monkeypatch):
    monkeypatch.chdir(corpus)
    arguments = {"texts": ["a.txt", "train.jsonl"], "out": "lm", "alphabet": GERMAN}
    first = lm.build(**arguments)
    second = lm.build(**{**arguments, **change})
    assert second["made_from"] != first["made_from"]
    assert LanguageModel("lm").card == second
    assert not list(corpus.glob(".lm*"))


def test_vocabulary_and_pruning_make_it_smaller(tmp_path):
    rng = np.random.default_rng(0)
    words = [a + b for a in "abcdefgh" for b in "aeiou"]
    lines = [" ".join(rng.choice(words, 8)) for _ in range(400)]
    (tmp_path / "a.txt").write_text("\n".join(["aa aa aa"] * 5 + lines))
    full = lm.build([tmp_path / "a.txt"], tmp_path / "full", GERMAN)
    cut = lm.build([tmp_path / "a.txt"], tmp_path / "cut", GERMAN, lm.LanguageModelConfig(vocabulary=10))
    pruned = lm.build([tmp_path / "a.txt"], tmp_path / "pruned", GERMAN, lm.LanguageModelConfig(prune=(0, 0, 1)))
    trie = lm.build([tmp_path / "a.txt"], tmp_path / "trie", GERMAN, lm.LanguageModelConfig(structure="trie"))
    assert (full["vocabulary"], cut["vocabulary"], pruned["vocabulary"]) == (40, 10, 40)
    assert pruned["bytes"] < full["bytes"]
    assert "aa" in LanguageModel(tmp_path / "cut").words
    scores = [LanguageModel(tmp_path / name).score("aa be aa")[0] for name in ("full", "trie")]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert trie["sha256"] != full["sha256"]


def test_errors_name_the_remedy(corpus, repository_without_kenlm):
    def build(texts=("a.txt",), out="lm", alphabet=GERMAN, config=lm.LanguageModelConfig()):
        return lm.build([corpus / text for text in texts], corpus / out, alphabet, config)

    with pytest.raises(UserError, match="make lmplz"):
        build()
    with pytest.raises(UserError, match="no such text"):
        build(["missing.txt"])
    with pytest.raises(UserError, match="is no language model; choose another"):
        build(out=".")
    for config in ({"order": 1}, {"order": 7}, {"vocabulary": -1}, {"prune": (0, -1)}, {"structure": "hash"}):
        with pytest.raises(UserError, match=next(iter(config))):
            lm.LanguageModelConfig(**config)


def test_text_that_no_alphabet_spells(corpus):
    with pytest.raises(UserError, match="no sentence"):
        lm.build([corpus / "a.txt"], corpus / "lm", Alphabet("xyz "))
    assert not (corpus / "lm").exists()


def test_kenlms_own_words_reach_the_user(corpus):
    with pytest.raises(UserError, match=r"lmplz failed \(exit -?\d+\)[^$]*non-decreasing"):
        lm.build([corpus / "a.txt"], corpus / "lm", GERMAN, lm.LanguageModelConfig(prune=(0, 2, 1)))
    assert not list(corpus.glob(".lm*"))


def test_kenlm_can_be_chosen(corpus, kenlm_tools, monkeypatch, tmp_path):
    monkeypatch.setenv("W2L_JAX_KENLM_BIN", str(tmp_path))
    with pytest.raises(UserError, match="make lmplz"):
        lm.build([corpus / "a.txt"], corpus / "lm", GERMAN)
    monkeypatch.setenv("W2L_JAX_KENLM_BIN", os.path.dirname(kenlm_tools[0]))
    assert lm.build([corpus / "a.txt"], corpus / "lm", GERMAN)["words"] == 9


def test_build_lm_as_a_user_runs_it(corpus):
    script = ROOT / "launch/build_lm.py"
    options = ["--text=a.txt,train.jsonl", "--order=3", "--out=lm/german", "--held_out=dev.jsonl"]
    done = run_script(script, *options, "--language=de", cwd=corpus)
    assert done.returncode == 0, done.stderr
    card, summary = done.stdout.rsplit("\n}\n", 1)
    assert json.loads(card + "}") == json.loads((corpus / "lm/german/card.json").read_text("utf-8"))
    assert summary == "lm/german: 14 words, 9 different, order 3\n"
    assert json.loads(card + "}")["held_out"] == 2
    (corpus / "run").mkdir()
    (corpus / "run/alphabet.json").write_text(GERMAN.to_json(), "utf-8")
    again = run_script(script, *options, "--run=run", cwd=corpus)
    assert (again.returncode, again.stdout) == (0, done.stdout)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text=none.txt", "--language=de"], "none.txt: no such text file"),
        (["--text=a.txt", "--language=tlh"], "unknown language"),
        (["--text=a.txt"], "either --language"),
        (["--text=a.txt", "--run=here"], "no run folder"),
        (["--text=a.txt", "--language=de", "--held_out=none.jsonl"], "none.jsonl"),
        (["--text=a.txt", "--language=de", "--order=9"], "order is 9"),
    ],
)
def test_build_lm_says_what_is_wrong(options, message, corpus):
    done = run_script(ROOT / "launch/build_lm.py", *options, "--out=lm", cwd=corpus)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
