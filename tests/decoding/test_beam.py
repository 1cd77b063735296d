import dataclasses
import math
import shutil

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import kenlm
import numpy as np
import pytest

from tests.decoding.conftest import log_softmax, logits_for
from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding.beam import BeamConfig
from w2l_jax.decoding.decoder import Decoder
from w2l_jax.errors import UserError
from w2l_jax.lm.language_model import LanguageModel

UNBOUNDED = BeamConfig(beam_width=10**9, beam_margin=math.inf, label_margin=math.inf)
LOG_10 = math.log(10)


def oracle(probabilities: dict[str, float], lm_folder, config: BeamConfig, hot_words=None) -> dict[str, float]:
    """The score of every transcript from KenLM's own sentence score and word list."""
    scores = {
        text: acoustic + sum((hot_words or {}).get(word, 0) for word in text.split())
        for text, acoustic in probabilities.items()
    }
    if lm_folder is None:
        return scores
    model = kenlm.Model(str(lm_folder / "lm.bin"))
    words = set((lm_folder / "unigrams.txt").read_text().split())
    return {
        text: score
        + config.lm_weight * LOG_10 * model.score(text, bos=True, eos=True)
        + config.word_bonus * sum(word in words for word in text.split())
        for text, score in scores.items()
    }


def random_case(rng) -> tuple[Alphabet, np.ndarray, BeamConfig, dict[str, float]]:
    alphabet = Alphabet(str(rng.choice(["ab '", "ab c", " ba'", "abc"])))
    frames, sharpness = int(rng.integers(1, 7)), rng.choice([0.3, 1, 3])
    weight, bonus = float(rng.choice([0, 0.8, 0.8, 2])), float(rng.choice([0, 2.3, 2.3, -1]))
    words = ["a", "ab", "ba", "aba", "bb"]
    hot_words = {str(word): float(rng.normal()) * 2 for word in rng.choice(words, rng.integers(0, 3), replace=False)}
    config = dataclasses.replace(UNBOUNDED, lm_weight=weight, word_bonus=bonus)
    return alphabet, sharpness * rng.normal(size=(frames, alphabet.size)), config, hot_words


@pytest.mark.parametrize("name", ["hand_lm", "toy_lm", None])
def test_unbounded_beam_is_exhaustive_search_over_the_papers_score(name, request, exhaustive):
    """300 random cases for each language model and for none: the best five, often all, with their partial scores."""
    folder = name and request.getfixturevalue(name)
    lm = folder and LanguageModel(folder)
    rng = np.random.default_rng(2017)
    for case in range(300):
        alphabet, logits_TxV, config, hot_words = random_case(rng)
        probabilities = exhaustive(log_softmax(logits_TxV), alphabet.characters)
        scores = oracle(probabilities, folder, config, hot_words)
        ranked = sorted(scores, key=scores.get, reverse=True)
        everything = len(ranked) < 200
        found = Decoder(alphabet, lm, config, hot_words).nbest(logits_TxV, 10**9 if everything else 5)
        assert [t.text for t in found] == (ranked if everything else ranked[:5]), case
        np.testing.assert_allclose([t.score for t in found], [scores[t.text] for t in found], atol=1e-9)
        np.testing.assert_allclose([t.acoustic_score for t in found], [probabilities[t.text] for t in found], atol=1e-9)
        assert found[0] == Decoder(alphabet, lm, config, hot_words).decode(logits_TxV)


def test_a_narrow_beam_never_exceeds_the_exact_score(toy_lm, exhaustive):
    rng = np.random.default_rng(3)
    alphabet, lm, hot_words = Alphabet("abc '"), LanguageModel(toy_lm), {"ab": 1.5}
    for _ in range(50):
        logits_TxV = rng.normal(size=(5, alphabet.size))
        scores = oracle(exhaustive(log_softmax(logits_TxV), alphabet.characters), toy_lm, BeamConfig(), hot_words)
        for found in Decoder(alphabet, lm, BeamConfig(beam_width=3), hot_words).nbest(logits_TxV, 3):
            assert found.score <= scores[found.text] + 1e-9


@hypothesis.given(
    logits_SxV=hypothesis.extra.numpy.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        st.tuples(st.integers(0, 12), st.just(6)),
        elements=st.sampled_from([-np.inf, -30, -3, -1, 0, 0.5, 1, 5, 40]),
    ),
    width=st.sampled_from([1, 2, 7, 100]),
    margin=st.sampled_from([0.5, 10.0, math.inf]),
    weight=st.sampled_from([0.0, 0.8]),
)
@hypothesis.settings(
    deadline=None, max_examples=100, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_nbest_lists_are_distinct_sorted_and_consistent(toy_lm, logits_SxV, width, margin, weight):
    """No frames, one frame, impossible labels, ties; repeatable, and in any memory layout."""
    hypothesis.assume(np.isfinite(logits_SxV.max(axis=1, initial=-np.inf)).all())
    config, hot_words = BeamConfig(width, weight, 2.3, margin, margin), {"ab": 2.0, "caa": -1.0}
    decoder = Decoder(Alphabet("abc '"), LanguageModel(toy_lm), config, hot_words)
    found = decoder.nbest(logits_SxV, 10)
    assert 1 <= len(found) <= min(10, width)
    assert len({t.text for t in found}) == len(found)
    assert sorted(found, key=lambda t: (-t.score, t.text)) == found
    for t in found:
        assert math.isfinite(t.score) and t.acoustic_score <= 1e-9
        assert t.score == t.acoustic_score + weight * t.lm_score + 2.3 * t.known_words + t.hot_score
    assert decoder.nbest(np.asfortranarray(logits_SxV), 10) == found


def test_the_score_by_hand(hand_lm):
    """P(a ba </s>): <s> a, a ba, then ba backs off to the end; two known words."""
    alphabet = Alphabet("ab c")
    decoder = Decoder(alphabet, hand_lm, BeamConfig(lm_weight=0.5, word_bonus=3.0))
    found = decoder.decode(logits_for([1, 3, 2, 1], alphabet.size))
    decimal = -0.3 - 0.4 + (-0.1 - 0.7)
    assert (found.text, found.known_words) == ("a ba", 2)
    assert found.lm_score == pytest.approx(LOG_10 * decimal, abs=1e-5)
    assert found.acoustic_score == pytest.approx(0, abs=1e-6)
    assert found.score == pytest.approx(0.5 * LOG_10 * decimal + 6.0, abs=1e-5)


def test_a_word_outside_the_vocabulary_costs_unk_and_earns_nothing(hand_lm):
    alphabet = Alphabet("ab c")
    found = Decoder(alphabet, hand_lm).decode(logits_for([4, 3, 1], alphabet.size, height=60))
    decimal = (-0.3 - 1.5) + (0 - 0.6) + (-0.2 - 0.7)
    assert (found.text, found.known_words) == ("c a", 1)
    assert found.score == pytest.approx(0.8 * LOG_10 * decimal + 2.3, abs=1e-5)


@pytest.mark.parametrize("labels", [[], [0], [0, 0, 0], [3], [3, 0, 3]])
def test_an_empty_transcript_scores_only_the_sentence_end(labels, hand_lm):
    """With and without frames; spaces alone are not a word."""
    logits_SxV = logits_for(labels, 5, height=60) if labels else np.zeros((0, 5), np.float32)
    found = Decoder(Alphabet("ab c"), hand_lm).decode(logits_SxV)
    assert found.text == ""
    assert found.lm_score == pytest.approx(LOG_10 * (-0.3 - 0.7), abs=1e-5)
    assert found.score == pytest.approx(0.8 * LOG_10 * -1.0, abs=1e-5)


def test_a_trailing_space_costs_nothing(hand_lm):
    decoder = Decoder(Alphabet("ab c"), hand_lm)
    plain, trailing = (decoder.decode(logits_for(labels, 5, height=60)) for labels in ([1, 0], [1, 3]))
    assert plain == trailing


def test_without_a_language_model_the_score_is_acoustic():
    found = Decoder(Alphabet("ab c"), None).decode(logits_for([1, 3, 2], 5))
    assert (found.text, found.lm_score, found.known_words) == ("a b", 0.0, 0)
    assert found.score == found.acoustic_score


def test_the_language_model_decides_between_equal_sounds(hand_lm):
    """ab is a word, ac is not; without the model the sounds prefer ac."""
    alphabet = Alphabet("ab c")
    logits_SxV = logits_for([1, 2], alphabet.size, height=8)
    logits_SxV[1, 4] = logits_SxV[1, 2] + 0.5
    assert Decoder(alphabet, None).decode(logits_SxV).text == "ac"
    assert Decoder(alphabet, hand_lm).decode(logits_SxV).text == "ab"
    off = BeamConfig(lm_weight=0.0, word_bonus=0.0)
    assert Decoder(alphabet, hand_lm, off).decode(logits_SxV).text == "ac"


def test_hot_words_by_hand(hand_lm):
    """Two boosts for "ba", which the model knows, one for "cc", which it does not."""
    alphabet = Alphabet("ab c")
    logits_SxV = logits_for([2, 1, 3, 4, 0, 4, 3, 2, 1], alphabet.size, height=60)
    plain = Decoder(alphabet, hand_lm).decode(logits_SxV)
    hot = Decoder(alphabet, hand_lm, hot_words={"ba": 1.5, "cc": 4.0, "ab": 9.0}).decode(logits_SxV)
    assert (plain.text, plain.hot_score, hot.text, hot.hot_score) == ("ba cc ba", 0.0, "ba cc ba", 7.0)
    assert hot.score == pytest.approx(plain.score + 7.0)


@pytest.mark.parametrize("folder", [True, False])
def test_prefixes_of_hot_words_are_boosted(folder, toy_lm):
    """With a beam of one, "c" survives its rival "b" if it begins a hot word."""
    alphabet = Alphabet("abc '")
    logits_SxV = logits_for([0, 3, 1, 2, 4, 3, 1, 2], alphabet.size, height=9)
    logits_SxV[1, 2] = 9.5
    narrow = BeamConfig(beam_width=1, lm_weight=0.1, word_bonus=0.0)
    assert Decoder(alphabet, toy_lm if folder else None, narrow).decode(logits_SxV).text == "bab cab"
    hot = Decoder(alphabet, toy_lm if folder else None, narrow, {"cab": 3.0}).decode(logits_SxV)
    assert (hot.text, hot.hot_score) == ("cab cab", 6.0)


@pytest.mark.parametrize("word", ["", "a b", "xa", "A"])
def test_invalid_hot_words_are_refused(word):
    with pytest.raises(UserError, match="hot word"):
        Decoder(Alphabet("ab "), None, hot_words={word: 1.0})
    with pytest.raises(UserError, match="finite"):
        Decoder(Alphabet("ab "), None, hot_words={"ab": math.nan})


def test_results_do_not_depend_on_earlier_calls(toy_lm, monkeypatch):
    """The model's scores are cached between utterances and evicted now and then."""
    rng = np.random.default_rng(11)
    logits = [rng.normal(size=(n, 6)) for n in (30, 5, 60, 30)]
    expected = [Decoder(Alphabet("abc '"), toy_lm).nbest(logits_SxV, 20) for logits_SxV in logits]
    for limit in (10**6, 10, 0):
        monkeypatch.setattr("w2l_jax.decoding.decoder._REMEMBERED", limit)
        decoder = Decoder(Alphabet("abc '"), toy_lm)
        assert [decoder.nbest(logits_SxV, 20) for logits_SxV in logits[::-1]] == expected[::-1]


def test_shift_type_and_minus_infinity_of_logits_do_not_matter(toy_lm):
    logits_SxV = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    decoder = Decoder(Alphabet("abc '"), toy_lm)
    expected = decoder.decode(logits_SxV)
    before = logits_SxV.copy()
    shifted = decoder.decode(logits_SxV.astype(np.float64) - 50)
    assert shifted.text == expected.text
    assert shifted.score == pytest.approx(expected.score)
    logits_SxV[3, 2] = -np.inf
    assert math.isfinite(decoder.decode(logits_SxV).score)
    assert np.array_equal(before[:3], logits_SxV[:3])


def test_ties_are_broken_by_the_text():
    """No word is known, so many transcripts tie; "b a" and "a b" mirror each other."""
    decoder = Decoder(Alphabet("ba"), None, UNBOUNDED)
    assert decoder.decode(np.zeros((1, 3))).text == ""
    assert decoder.decode(np.array([[-9.0, 0.0, 0.0]])).text == "a"


def test_a_space_in_the_alphabet_of_another_script():
    """Some toolkits write "|" and "_" for the space and the blank; here they are ordinary characters."""
    assert Decoder(Alphabet("a|_"), None).decode(logits_for([1, 2, 3], 4)).text == "a|_"


@pytest.mark.parametrize(
    "wrong",
    [
        {"beam_width": 0},
        {"lm_weight": -0.1},
        {"lm_weight": math.nan},
        {"word_bonus": math.inf},
        {"beam_margin": 0.0},
        {"label_margin": -5.0},
    ],
)
def test_bad_options(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        BeamConfig(**wrong)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((3, 4)), "5 labels"),
        (np.zeros(5), "5 labels"),
        (np.full((3, 5), np.nan), "frame 0"),
        (np.where(np.arange(15).reshape(3, 5) == 12, np.inf, 0), "frame 2"),
        (np.full((2, 5), -np.inf), "frame 0"),
    ],
)
def test_bad_logits(logits, message):
    with pytest.raises(UserError, match=message):
        Decoder(Alphabet("ab c"), None).decode(logits)


@pytest.mark.parametrize("name", ["lm.bin", "unigrams.txt", "card.json"])
def test_a_missing_or_damaged_file_is_named(name, toy_lm, tmp_path):
    folder = shutil.copytree(toy_lm, tmp_path / "lm")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2] + b"\xff")
    with pytest.raises(UserError, match=r"damaged|does not know|build_lm"):
        LanguageModel(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} missing"):
        LanguageModel(folder)


def test_a_language_model_in_another_script(toy_lm):
    with pytest.raises(UserError, match="no word"):
        Decoder(Alphabet("xyz "), toy_lm)


def test_zero_transcripts_are_refused():
    with pytest.raises(UserError, match="0 transcripts"):
        Decoder(Alphabet("ab "), None).nbest(np.zeros((2, 4)), 0)


def test_hot_words_in_scripts_without_spaces_are_characters():
    alphabet = Alphabet(" 東京都")
    hot_words = {"京": 1.0}
    logits_SxV = np.log(np.array([[0.1, 0.1, 0.6, 0.1, 0.1], [0.1, 0.9, 0, 0, 0], [0.1, 0, 0.1, 0.3, 0.5]]) + 1e-9)
    assert Decoder(alphabet, None).decode(logits_SxV).text == "東 都"
    assert Decoder(alphabet, None, hot_words=hot_words).decode(logits_SxV).text == "東 京"
    with pytest.raises(UserError, match="single characters in a script without spaces"):
        Decoder(alphabet, None, hot_words={"東 京": 6.0})
