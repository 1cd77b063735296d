import dataclasses
import gc
import math
import shutil

import kenlm
import numpy as np
import pytest
from pyctcdecode.decoder import BeamSearchDecoderCTC

from tests.decoding.conftest import log_softmax, logits_for
from w2l_jax.alphabet import Alphabet, preset
from w2l_jax.decoding.beam import BeamConfig, Decoder, LanguageModel
from w2l_jax.errors import UserError

UNBOUNDED = BeamConfig(beam_width=10**9, beam_margin=math.inf, label_margin=math.inf)
LOG_10 = math.log(10)


def oracle(probabilities: dict[str, float], lm_folder, config: BeamConfig) -> dict[str, float]:
    """The score of every transcript, by KenLM's own sentence score and the list of its words."""
    if lm_folder is None:
        return probabilities
    model = kenlm.Model(str(lm_folder / "lm.bin"))
    words = set((lm_folder / "unigrams.txt").read_text().split())
    return {
        text: acoustic
        + config.lm_weight * LOG_10 * model.score(text, bos=True, eos=True)
        + config.word_bonus * sum(word in words for word in text.split())
        for text, acoustic in probabilities.items()
    }


@pytest.mark.parametrize("name", ["hand_lm", "toy_lm", None])
def test_unbounded_beam_is_exhaustive_search_over_the_papers_score(name, request, exhaustive):
    """300 random cases for each language model (and for none): the transcript, its score, and the score's parts."""
    folder = name and request.getfixturevalue(name)
    lm = folder and LanguageModel(folder)
    rng = np.random.default_rng(2017)
    for case in range(300):
        alphabet = Alphabet(str(rng.choice(["ab '", "ab c", " ba'", "abc"])))
        frames, sharpness = int(rng.integers(1, 7)), rng.choice([0.3, 1, 3])
        weight, bonus = float(rng.choice([0, 0.8, 0.8, 2])), float(rng.choice([0, 2.3, 2.3, -1]))
        config = dataclasses.replace(UNBOUNDED, lm_weight=weight, word_bonus=bonus)
        logits_TxV = sharpness * rng.normal(size=(frames, alphabet.size))
        probabilities = exhaustive(log_softmax(logits_TxV), alphabet.characters)
        scores = oracle(probabilities, folder, config)
        best = max(scores, key=scores.get)
        found = Decoder(alphabet, lm, config).decode(logits_TxV)
        assert found.text == best, (case, found, scores[best])
        assert found.score == pytest.approx(scores[best], abs=1e-9), case
        assert found.acoustic_score == pytest.approx(probabilities[best], abs=1e-9), case


def test_a_narrow_beam_never_claims_more_than_the_exact_score(toy_lm, exhaustive):
    rng = np.random.default_rng(3)
    alphabet, lm = Alphabet("abc '"), LanguageModel(toy_lm)
    for _ in range(50):
        logits_TxV = rng.normal(size=(5, alphabet.size))
        scores = oracle(exhaustive(log_softmax(logits_TxV), alphabet.characters), toy_lm, BeamConfig())
        found = Decoder(alphabet, lm, BeamConfig(beam_width=3)).decode(logits_TxV)
        assert found.score <= scores[found.text] + 1e-9


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
def test_no_words_cost_the_end_after_the_beginning(labels, hand_lm):
    """With frames or without; spaces make no word."""
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


def test_unfinished_words_are_bounded_by_the_best_unigram(hand_lm):
    lm = LanguageModel(hand_lm)
    assert lm.best_unigram("a") == pytest.approx(-0.6)
    assert lm.best_unigram("ab") == pytest.approx(-0.9)
    assert lm.best_unigram("b") == pytest.approx(-1.1)
    assert lm.best_unigram("c") == -math.inf
    assert lm.unknown == pytest.approx(-1.5)


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


def test_equal_scores_are_decided_by_the_text():
    """Nothing is known, so that many transcripts tie; b a and a b are each other's mirror."""
    decoder = Decoder(Alphabet("ba"), None, UNBOUNDED)
    assert decoder.decode(np.zeros((1, 3))).text == ""
    assert decoder.decode(np.array([[-9.0, 0.0, 0.0]])).text == "a"


def test_a_space_in_the_alphabet_of_another_script():
    """pyctcdecode reads "|" and "_" as the space and the blank where it finds none; we mean what we say."""
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


def test_decoders_leave_nothing_behind(toy_lm):
    """pyctcdecode keeps models in a class variable; tuning makes hundreds of decoders."""
    lm, before = LanguageModel(toy_lm), len(BeamSearchDecoderCTC.model_container)
    for weight in range(5):
        Decoder(preset("en"), lm, BeamConfig(lm_weight=weight))
    gc.collect()
    assert len(BeamSearchDecoderCTC.model_container) == before
