"""Letter and word error rates: the paper's means over utterances, and corpus-level rates."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from w2l_jax.text import join_unspaced


def edit_distance(reference: Sequence, hypothesis: Sequence) -> int:
    """The least number of insertions, deletions and substitutions between two sequences (Levenshtein)."""
    return Levenshtein.distance(reference, hypothesis)


def alignment(reference: Sequence, hypothesis: Sequence) -> list[tuple[int | None, int | None]]:
    """A minimum-cost alignment: pairs of positions, None where one side has no counterpart.

    The number of unequal pairs is the `edit_distance`.
    """
    pairs: list[tuple[int | None, int | None]] = []
    for step, first, last, start, end in Levenshtein.opcodes(reference, hypothesis):
        i = range(first, last) if step != "insert" else [None] * (end - start)
        j = range(start, end) if step != "delete" else [None] * (last - first)
        pairs += zip(i, j, strict=True)
    return pairs


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
    """Counts the errors of one transcript; white space is collapsed on both sides first.

    In scripts without spaces each character is a word, and spaces do not count.
    """
    words, guess = reference.split(), hypothesis.split()
    reference, hypothesis = join_unspaced(" ".join(words)), join_unspaced(" ".join(guess))
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
    """Summarises utterances; NaN if there are none."""
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


_ROW = ("utterances", "ler", "wer", "letter_edits", "letters", "word_edits", "words")
_MEASURES = ("ler", "wer", "corpus_ler", "corpus_wer")


def resampling_units(speakers: Sequence[str]) -> tuple[list[int], str]:
    """The resampling unit [N] of each utterance for a bootstrap, and what the units are.

    Utterances of one speaker are correlated, so speakers are drawn if at least ten are known and every utterance has
    one. Drawing utterances otherwise gives intervals too narrow for new speakers.
    """
    known = sorted(set(speakers))
    if "" in known or len(known) < 10:
        return list(range(len(speakers))), "utterances"
    return [known.index(speaker) for speaker in speakers], "speakers"


def intervals(
    errors: Sequence[Errors], units: Sequence[int], *, samples: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of the four rates in `Rates` (Efron 1979), drawing whole `units` with replacement.

    `units` [N] are those of `resampling_units`. Deterministic for a seed.
    """
    return _interval(_resampled(errors, units, samples, seed), level)


def difference_intervals(
    errors: Sequence[Errors],
    baseline: Sequence[Errors],
    units: Sequence[int],
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Paired bootstrap intervals of (rate − the baseline's rate) over the same utterances in the same order.

    An interval below zero is better than the baseline. Each draw takes the same units from both.
    """
    if len(errors) != len(baseline):
        raise ValueError(f"{len(errors)} utterances against {len(baseline)}: a paired comparison needs the same ones")
    a, b = (_resampled(side, units, samples, seed) for side in (errors, baseline))
    return _interval({name: a[name] - b[name] for name in _MEASURES}, level)


def resampled_means(values_NxF: np.ndarray, units: Sequence[int], *, samples: int = 2000, seed: int = 0) -> np.ndarray:
    """Means over utterances in each draw of a bootstrap [samples, F], for statistics other than the four rates.

    Whole `units` [N] are drawn with replacement, the same of every column. Deterministic for a seed.
    """
    values_NxF = np.asarray(values_NxF, float)
    sums_RxF = _resampled_sums(np.column_stack([np.ones(len(values_NxF)), values_NxF]), units, samples, seed)
    return sums_RxF[:, 1:] / np.maximum(sums_RxF[:, :1], 1)


def percentiles(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of bootstrap draws."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(errors: Sequence[Errors], units: Sequence[int], samples: int, seed: int) -> dict[str, np.ndarray]:
    rows_NxF = np.array([[1, e.ler, e.wer, e.letter_edits, e.letters, e.word_edits, e.words] for e in errors])
    total = dict(zip(_ROW, _resampled_sums(rows_NxF, units, samples, seed).T, strict=True))
    utterances = np.maximum(total["utterances"], 1)
    return {
        "ler": total["ler"] / utterances,
        "wer": total["wer"] / utterances,
        "corpus_ler": total["letter_edits"] / np.maximum(total["letters"], 1),
        "corpus_wer": total["word_edits"] / np.maximum(total["words"], 1),
    }


def _resampled_sums(rows_NxF: np.ndarray, units: Sequence[int], samples: int, seed: int) -> np.ndarray:
    count = max(units) + 1
    sums_UxF = np.zeros((count, rows_NxF.shape[1]))
    np.add.at(sums_UxF, np.asarray(units), rows_NxF)
    return _draws(count, samples, seed) @ sums_UxF


@functools.lru_cache(maxsize=8)  # tables reuse the same draws
def _draws(count: int, samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)


def _interval(values: dict[str, np.ndarray], level: float) -> dict[str, tuple[float, float]]:
    return {name: percentiles(draws, level) for name, draws in values.items()}
