"""Beam search over words, scored as in the paper: acoustics, a KenLM language model, a bonus for known words.

The score of a sequence of words (paper §3.4), in natural logarithms:

    log P(words | audio) + lm_weight · log P_KenLM(<s> words </s>) + word_bonus · (words in the model's vocabulary)
        + the boosts of hot words, one an occurrence

P(words | audio) is CTC's sum over all alignments, of every label string that reads as these words: strings that differ
only in outer or repeated spaces count as one transcript. A word outside the vocabulary scores the model's <unk> and no
bonus; an empty transcript scores log P(</s> | <s>). An unfinished word is scored by its best completion, by unigrams. A
limited beam sums over the surviving alignments.
"""

import dataclasses
import math

from w2l_jax.alphabet import Alphabet
from w2l_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class BeamConfig:
    """Options of the beam search; the defaults of the first three are the paper's (paper §3.4)."""

    beam_width: int = 100
    """Hypotheses kept after every frame."""
    lm_weight: float = 0.8
    """w_lm: the factor of the language model's log-probability; 0 disables the model."""
    word_bonus: float = 2.3
    """w_valid_word: the bonus of every word in the language model's vocabulary."""
    beam_margin: float = 10.0
    """Hypotheses worse than the best by more than this (natural log) are dropped."""
    label_margin: float = 5.0
    """Labels below this negative log-probability are not tried in a frame, except its best label."""

    def __post_init__(self):
        if self.beam_width < 1:
            raise UserError(f"beam_width is {self.beam_width}; it must be at least 1 (the paper's is 100)")
        if not (math.isfinite(self.lm_weight) and self.lm_weight >= 0 and math.isfinite(self.word_bonus)):
            raise UserError(
                f"lm_weight {self.lm_weight} and word_bonus {self.word_bonus} must be finite, the first at least 0"
            )
        if not (self.beam_margin > 0 and self.label_margin > 0):
            raise UserError(f"beam_margin {self.beam_margin} and label_margin {self.label_margin} must be above 0")


@dataclasses.dataclass(frozen=True)
class Transcript:
    """A decoded utterance; `score` is the module's formula of the other numbers (natural logarithms)."""

    text: str
    score: float
    acoustic_score: float
    lm_score: float
    """log P_KenLM of the whole sentence, not weighted; 0 without a language model."""
    known_words: int
    """Words in the language model's vocabulary; 0 without one."""
    hot_score: float = 0.0
    """The boosts of its hot words."""


def check_searchable(alphabet: Alphabet) -> None:
    """Raises UserError for an ASG alphabet: the search knows CTC's paths only."""
    if alphabet.repetitions:
        raise UserError("the beam search needs a network trained with CTC; decode this ASG network greedily")
