"""Letter and word error rates as the paper counts them (means of per-utterance rates) and at corpus level.

NumPy only: evaluation runs beside the accelerator, where few packages are installed.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np


def edit_distance(reference: Sequence, hypothesis: Sequence) -> int:
    """The least number of insertions, deletions and substitutions between two sequences (Levenshtein)."""
    ids: dict = {}
    a = np.array([ids.setdefault(item, len(ids)) for item in reference], np.int64)
    b = np.array([ids.setdefault(item, len(ids)) for item in hypothesis], np.int64)
    positions = np.arange(len(b) + 1)
    row = positions.copy()
    for i, item in enumerate(a, start=1):
        best = np.empty_like(row)
        best[0] = i
        np.minimum(row[1:] + 1, row[:-1] + (b != item), out=best[1:])
        # Insertions run along the row: best[j] = min over j' ≤ j of best[j'] + (j − j').
        row = np.minimum.accumulate(best - positions) + positions
    return int(row[-1])


@dataclasses.dataclass(frozen=True)
class Errors:
    """Edits and reference lengths of one utterance, in letters (spaces count) and in words."""

    letter_edits: int
    letters: int
    word_edits: int
    words: int

    @property
    def ler(self) -> float:
        """Letter error rate; may exceed 1."""
        return self.letter_edits / max(self.letters, 1)

    @property
    def wer(self) -> float:
        """Word error rate; may exceed 1."""
        return self.word_edits / max(self.words, 1)


def utterance_errors(reference: str, hypothesis: str) -> Errors:
    """Counts the errors of one transcript; white space is collapsed on both sides first."""
    words, guess = reference.split(), hypothesis.split()
    reference, hypothesis = " ".join(words), " ".join(guess)
    return Errors(edit_distance(reference, hypothesis), len(reference), edit_distance(words, guess), len(words))


@dataclasses.dataclass(frozen=True)
class Rates:
    """Error rates of a set of utterances as fractions: `ler` and `wer` are the paper's means over utterances."""

    utterances: int
    ler: float
    wer: float
    corpus_ler: float
    corpus_wer: float


def rates(errors: Iterable[Errors]) -> Rates:
    """Summarises utterances; NaN where there are none."""
    errors = list(errors)
    if not errors:
        return Rates(0, *[float("nan")] * 4)
    letters, words = sum(e.letters for e in errors), sum(e.words for e in errors)
    return Rates(
        len(errors),
        float(np.mean([e.ler for e in errors])),
        float(np.mean([e.wer for e in errors])),
        sum(e.letter_edits for e in errors) / max(letters, 1),
        sum(e.word_edits for e in errors) / max(words, 1),
    )
