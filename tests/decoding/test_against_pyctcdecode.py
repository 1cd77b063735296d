"""The same score, searched by pyctcdecode.

It asks for numpy<2 and runs on 2 all the same: `pip install --no-deps pyctcdecode pygtrie` brings it in.
"""

import math

import kenlm
import numpy as np
import pytest

pyctcdecode = pytest.importorskip("pyctcdecode")
from pyctcdecode.alphabet import Alphabet as Labels  # noqa: E402
from pyctcdecode.decoder import BeamSearchDecoderCTC  # noqa: E402
from pyctcdecode.language_model import AbstractLanguageModel  # noqa: E402

from w2l_jax.alphabet import Alphabet  # noqa: E402
from w2l_jax.decoding.beam import BeamConfig  # noqa: E402
from w2l_jax.decoding.decoder import Decoder  # noqa: E402
from w2l_jax.lm.language_model import LanguageModel  # noqa: E402

LOG_10 = math.log(10)


class PaperScore(AbstractLanguageModel):
    """The paper's score in pyctcdecode's interface: word by word, with a look-ahead for unfinished words."""

    def __init__(self, lm: LanguageModel, config: BeamConfig):
        self._lm, self._weight, self._bonus = lm, config.lm_weight * LOG_10, config.word_bonus

    @property
    def order(self):
        return self._lm.model.order

    def get_start_state(self):
        state = kenlm.State()
        self._lm.model.BeginSentenceWrite(state)
        return state

    def score(self, prev_state, word, is_last_word=False):
        score, state = 0.0, prev_state
        if word:
            state = kenlm.State()
            score = self._weight * self._lm.model.BaseScore(prev_state, word, state)
            score += self._bonus if word in self._lm.model else 0.0
        if is_last_word:
            score += self._weight * self._lm.model.BaseScore(state, "</s>", kenlm.State())
        return score, state

    def _unigram(self, word):
        state = kenlm.State()
        self._lm.model.NullContextWrite(state)
        return self._weight * self._lm.model.BaseScore(state, word, kenlm.State())

    def score_partial_token(self, partial_token):
        known = [self._unigram(word) + self._bonus for word in self._lm.words if word.startswith(partial_token)]
        return max([self._unigram("<unk>"), *known])


def speech(rng, alphabet: Alphabet, frames: int, doubt: float) -> np.ndarray:
    """Logits like those of a trained network: mostly blanks, letters for a frame or two, uncertain around them."""
    logits_SxV = np.zeros((frames, alphabet.size))
    logits_SxV[:, 0] = 9.0
    at = 1
    while at < frames - 2:
        label = rng.integers(1, alphabet.size)
        logits_SxV[at : at + rng.integers(1, 3), label] = rng.uniform(8, 12)
        if rng.uniform() < doubt:
            logits_SxV[at, rng.integers(1, alphabet.size)] = rng.uniform(7, 11)
        at += rng.integers(2, 6)
    return logits_SxV + rng.normal(size=logits_SxV.shape)


@pytest.mark.parametrize("name", ["hand_lm", "toy_lm", None])
def test_wide_beams_agree_with_pyctcdecode(name, request):
    """pyctcdecode's beams are texts with their last label or blank, ours are texts, so only wide beams agree."""
    alphabet = Alphabet("abc '")
    lm = LanguageModel(request.getfixturevalue(name)) if name else None
    config = BeamConfig(beam_width=1000, beam_margin=30.0, label_margin=3.0)
    theirs = BeamSearchDecoderCTC(Labels(["", *alphabet.characters], is_bpe=False), lm and PaperScore(lm, config))
    ours = Decoder(alphabet, lm, config)
    rng = np.random.default_rng(5)
    for case in range(2):
        logits_SxV = speech(rng, alphabet, 100, doubt=0.1)
        beams = theirs.decode_beams(
            logits_SxV,
            beam_width=config.beam_width,
            beam_prune_logp=-config.beam_margin,
            token_min_logp=-config.label_margin,
        )
        expected = {}
        for text, _, _, acoustic, total in beams:
            expected.setdefault(text, (acoustic, total))
        found = ours.nbest(logits_SxV, 5)
        for transcript in found:
            assert (transcript.acoustic_score, transcript.score) == pytest.approx(expected[transcript.text], abs=1e-6)
        ranked = sorted(expected, key=lambda text: -expected[text][1])
        assert [transcript.text for transcript in found] == ranked[:5], case
    BeamSearchDecoderCTC.model_container.clear()
