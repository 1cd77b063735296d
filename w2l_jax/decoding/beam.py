"""Beam search over words, scored as in the paper: acoustics, a KenLM language model, a bonus for known words.

The score of a sequence of words (REFERENCE §6), in natural logarithms:

    log P(words | audio) + lm_weight · log P_KenLM(<s> words </s>) + word_bonus · (words in the model's vocabulary)

P(words | audio) is CTC's sum over all alignments, of every label string that reads as these words: strings which
differ only in outer or repeated spaces are one transcript. A word outside the vocabulary costs the model's <unk>
and earns no bonus; no words at all cost log P(</s> | <s>). The search is pyctcdecode's, which has its own formula;
`_Scorer` puts this one in its place. A limited beam sums over the alignments that survived in it.
"""

import bisect
import dataclasses
import functools
import json
import math
import weakref
from pathlib import Path

import kenlm
import numpy as np
from pyctcdecode.alphabet import Alphabet as Labels
from pyctcdecode.decoder import BeamSearchDecoderCTC
from pyctcdecode.language_model import AbstractLanguageModel

from w2l_jax.alphabet import BLANK, Alphabet
from w2l_jax.errors import UserError

_LOG_10 = math.log(10)  # KenLM's logarithms are decimal


@dataclasses.dataclass(frozen=True)
class BeamConfig:
    """Options of the beam search; the defaults of the first three are the paper's (REFERENCE §6)."""

    beam_width: int = 100
    """Hypotheses kept after every frame."""
    lm_weight: float = 0.8
    """w_lm: what the language model's log-probability is multiplied by; 0 switches it off."""
    word_bonus: float = 2.3
    """w_valid_word: added for every word in the language model's vocabulary."""
    beam_margin: float = 10.0
    """Hypotheses worse than the best by more than this (natural log) are dropped."""
    label_margin: float = 5.0
    """Labels below this negative log-probability are not tried in a frame, its best label excepted."""

    def __post_init__(self):
        if self.beam_width < 1:
            raise UserError(f"beam_width is {self.beam_width}; it must be at least 1 (the paper's is 100)")
        if not (math.isfinite(self.lm_weight) and self.lm_weight >= 0 and math.isfinite(self.word_bonus)):
            raise UserError(
                f"lm_weight is {self.lm_weight}, word_bonus {self.word_bonus}; both finite, the first at least 0"
            )
        if not (self.beam_margin > 0 and self.label_margin > 0):
            raise UserError(
                f"beam_margin is {self.beam_margin}, label_margin {self.label_margin}; both must be above 0"
            )


@dataclasses.dataclass(frozen=True)
class Transcript:
    """A decoded utterance; `score` is the module's formula, made of the other numbers (natural logarithms)."""

    text: str
    score: float
    acoustic_score: float
    lm_score: float
    """log P_KenLM of the whole sentence, not weighted; 0 without a language model."""
    known_words: int
    """Words in the language model's vocabulary; 0 without one."""


class LanguageModel:
    """A KenLM model and its vocabulary, read from a folder that `w2l_jax.decoding.lm.build` made."""

    def __init__(self, folder: Path | str):
        """Reads `lm.bin`, `unigrams.txt` and `card.json`; raises UserError if one is missing or damaged."""
        self.folder = Path(folder)
        files = [self.folder / name for name in ("lm.bin", "unigrams.txt", "card.json")]
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise UserError(
                f"{self.folder} is no language model: {', '.join(missing)} missing; make one with launch/build_lm.py"
            )
        try:
            self.model = kenlm.Model(str(files[0]))
            self.words = sorted(files[1].read_text(encoding="utf-8").split("\n")[:-1])
            self.card = json.loads(files[2].read_text(encoding="utf-8"))
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{self.folder} holds a damaged language model ({error}); delete it and run launch/build_lm.py again"
            ) from None
        unknown = [word for word in self.words if word not in self.model]
        if unknown or not self.words:
            found = f"names {unknown[0]!r}, which lm.bin does not know" if unknown else "is empty"
            raise UserError(f"{files[1]} {found}; delete the folder and run launch/build_lm.py again")
        self._unigrams = np.array([self._unigram(word) for word in self.words])
        self.unknown = self._unigram("<unk>")
        """log10 P(<unk>) without context."""
        # The same beginnings of words recur over a whole run; misheard ones never end, hence the limit.
        self.best_unigram = functools.lru_cache(maxsize=2**18)(self._best_unigram)

    def _unigram(self, word: str) -> float:
        """Returns log10 P(word) without context."""
        state = kenlm.State()
        self.model.NullContextWrite(state)
        return self.model.BaseScore(state, word, kenlm.State())

    def score(self, text: str) -> tuple[float, int]:
        """Returns natural log P(<s> text </s>) and how many of its words are in the vocabulary."""
        log_10 = self.model.score(text, bos=True, eos=True)
        return log_10 * _LOG_10, sum(word in self.model for word in text.split())

    def _best_unigram(self, prefix: str) -> float:
        """Returns log10 P without context of the likeliest word that starts with `prefix`, -inf if there is none."""
        first = bisect.bisect_left(self.words, prefix)
        if first == len(self.words) or not self.words[first].startswith(prefix):
            return -math.inf
        last = bisect.bisect_left(self.words, prefix + chr(0x10FFFF), lo=first)
        return float(self._unigrams[first:last].max())


class _Scorer(AbstractLanguageModel):
    """The paper's score as pyctcdecode asks for it: word by word, with a look-ahead for unfinished words.

    pyctcdecode's own class differs in three ways. It takes the end after a trailing space, or of an empty transcript,
    for the word "" = <unk>; it gives the bonus to every word; and its look-ahead is a constant outside the vocabulary.
    """

    def __init__(self, language_model: LanguageModel, config: BeamConfig):
        self._lm = language_model
        self._model = language_model.model
        self._weight = config.lm_weight * _LOG_10
        self._bonus = config.word_bonus

    @property
    def order(self) -> int:
        return self._model.order

    def get_start_state(self) -> kenlm.State:
        state = kenlm.State()
        self._model.BeginSentenceWrite(state)
        return state

    def score(self, prev_state: kenlm.State, word: str, is_last_word: bool = False) -> tuple[float, kenlm.State]:
        """Returns the weighted score of `word`, with </s> after it at the end, and the state behind the word."""
        score, state = 0.0, prev_state
        if word:
            state = kenlm.State()
            score = self._weight * self._model.BaseScore(prev_state, word, state)
            score += self._bonus if word in self._model else 0.0
        if is_last_word:
            score += self._weight * self._model.BaseScore(state, "</s>", kenlm.State())
        return score, state

    def score_partial_token(self, partial_token: str) -> float:
        """Returns what the best word it can become would score without context; a whole word's score replaces it."""
        best, unknown = self._lm.best_unigram(partial_token), self._weight * self._lm.unknown
        return unknown if best == -math.inf else max(self._weight * best + self._bonus, unknown)


def check_searchable(alphabet: Alphabet) -> None:
    """Refuses an alphabet of ASG (UserError): the search knows CTC's paths only."""
    if alphabet.repetitions:
        raise UserError("the beam search is for networks trained with CTC; decode this one, of ASG, with --lm=none")


class Decoder:
    """Turns logits into transcripts with one alphabet, one language model (or none) and one set of options."""

    def __init__(self, alphabet: Alphabet, lm: LanguageModel | Path | str | None, config: BeamConfig = BeamConfig()):
        """Takes a language model or its folder; raises UserError if it shares no word with the alphabet, or for ASG."""
        check_searchable(alphabet)
        self.alphabet, self.config = alphabet, config
        self.lm = lm if lm is None or isinstance(lm, LanguageModel) else LanguageModel(lm)
        known = set(alphabet.characters)
        if self.lm and not any(known.issuperset(word) for word in self.lm.words):
            raise UserError(
                f"no word of {self.lm.folder} can be spelled with {alphabet.characters!r}; "
                "build the language model in the network's alphabet (launch/build_lm.py --run=… or --language=…)"
            )
        labels = list(alphabet.characters)
        labels.insert(BLANK, "")
        # Built directly: build_alphabet would take "|" for a space and warn about things that are meant.
        scorer = _Scorer(self.lm, config) if self.lm else None
        self._search = BeamSearchDecoderCTC(Labels(labels, is_bpe=False), scorer)
        # pyctcdecode keeps every scorer in a class variable until it is told to let go.
        weakref.finalize(self, BeamSearchDecoderCTC.model_container.pop, self._search._model_key, None)

    def decode(self, logits_SxV: np.ndarray) -> Transcript:
        """Returns the best transcript of the logits [S, V] of one utterance, S its real frames.

        The logits may be of any float type, normalised or not. Probabilities under 1e-15 count as 1e-15. The same
        logits give the same transcript in every process: equal scores are decided by the text. Raises UserError on
        NaN or a wrong shape.
        """
        log_probs_SxV = self._log_probs(logits_SxV)
        beams = self._search.decode_beams(
            log_probs_SxV,
            beam_width=self.config.beam_width,
            beam_prune_logp=-self.config.beam_margin,
            token_min_logp=-self.config.label_margin,
        )
        text, acoustic = min(((text, acoustic, total) for text, _, _, acoustic, total in beams), key=_rank)[:2]
        lm_score, known = self.lm.score(text) if self.lm else (0.0, 0)
        score = acoustic + self.config.lm_weight * lm_score + self.config.word_bonus * known
        return Transcript(text, score, acoustic, lm_score, known)

    def _log_probs(self, logits_SxV: np.ndarray) -> np.ndarray:
        logits_SxV = np.asarray(logits_SxV, np.float64)
        if logits_SxV.ndim != 2 or logits_SxV.shape[1] != self.alphabet.size:
            raise UserError(
                f"logits of shape {logits_SxV.shape} do not fit {self.alphabet.size} labels, blank included"
            )
        top_Sx1 = logits_SxV.max(axis=1, keepdims=True)
        if not np.isfinite(top_Sx1).all():
            frame = int(np.flatnonzero(~np.isfinite(top_Sx1))[0])
            raise UserError(f"frame {frame} of the logits is not finite; the network diverged or its input is damaged")
        if not len(logits_SxV):
            # No frames are one way to say nothing, with certainty, as a blank frame is; pyctcdecode wants one.
            return np.where(np.arange(self.alphabet.size) == BLANK, 0.0, -np.inf)[None]
        logits_SxV = logits_SxV - top_Sx1
        return logits_SxV - np.log(np.exp(logits_SxV).sum(axis=1, keepdims=True))


def _rank(beam: tuple[str, float, float]) -> tuple[float, str]:
    """Best score first, then by text."""
    return -beam[2], beam[0]
