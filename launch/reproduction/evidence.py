"""Numbers that can decide a claim, and the rules, which do not depend on the numbers.

Differences are taken utterance by utterance between networks of one seed, which see the same batches in the same order;
the means over seeds are resampled over utterances and, if ten speakers are known, over speakers. Such an interval is
about other sentences and voices; only the seeds show the variation of training.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pages.comparison import Decoded
from w2l_jax import metrics
from w2l_jax.metrics import Errors

CONFIRMED = "confirmed"
REFUTED = "refuted here"
UNDECIDED = "undecided"
NOT_TESTABLE = "not testable here"
WAITING = "not run yet"
"""The results that decide it are missing."""

_ONE_SEED = "(one seed: no interval, so undecided)"

MEASURES: dict[str, tuple[str, float]] = {
    "ler": ("points of LER", 100.0),
    "wer": ("points of WER", 100.0),
    "loss": ("nats per utterance", 1.0),
}
"""Measures of comparison: the unit's name and factor."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A number with its intervals."""

    value: float
    spans: Mapping[str, tuple[float, float]]
    """95 % bootstrap intervals by what was drawn, or the range over seeds; the last one decides."""
    seeds: tuple[float, ...]
    """The number of each seed."""
    unit: str
    form: str = "+.1f"

    @property
    def span(self) -> tuple[float, float]:
        """The interval that decides."""
        return list(self.spans.values())[-1]

    def text(self) -> str:
        """The number as text, such as `-3.2 points of LER [-4.0, -2.1] over utterances (by seed -3.0, -3.4)`."""
        form = self.form.replace(".", "z.")  # no "-0.0"
        spans = [
            of if of == _ONE_SEED else f"[{low:{form}}, {high:{form}}] over {of}"
            for of, (low, high) in self.spans.items()
        ]
        by_seed = ", ".join(f"{seed:{form}}" for seed in self.seeds)
        seeds = f" (by seed {by_seed})" if len(self.seeds) > 1 else ""
        return f"{self.value:{form}} {self.unit} {', '.join(spans)}{seeds}"


def verdict(evidence: Evidence, border: float = 0.0) -> str:
    """Decides a claim that a number is below `border`.

    Confirmed: the whole interval and every seed are below it. Refuted: the whole interval and every seed are above it.
    Otherwise, and for a single number without interval, undecided.
    """
    all_of_it = (*evidence.span, *evidence.seeds)
    if _ONE_SEED in evidence.spans:
        return UNDECIDED
    if max(all_of_it) < border:
        return CONFIRMED
    return REFUTED if min(all_of_it) > border else UNDECIDED


def equivalence(evidence: Evidence, margin: float) -> str:
    """Decides that a number is about zero: confirmed if the whole interval and each seed are within ±`margin`.

    Refuted: all of them are beyond it on one side. Otherwise undecided.
    """
    all_of_it = (*evidence.span, *evidence.seeds)
    if -margin < min(all_of_it) and max(all_of_it) < margin:
        return CONFIRMED
    return REFUTED if min(all_of_it) > margin or max(all_of_it) < -margin else UNDECIDED


def every(verdicts: Sequence[str]) -> str:
    """The verdict on a claim of several parts: refuted by one of them, confirmed by all of them, else undecided."""
    if not verdicts:
        return WAITING
    if REFUTED in verdicts:
        return REFUTED
    return CONFIRMED if set(verdicts) == {CONFIRMED} else UNDECIDED


def pooled(decoded: Mapping[int, Decoded], search: str) -> dict[str, Errors]:
    """Utterance → its errors as means over seeds, whose rates are the means over seeds of the rates."""
    several = [one.errors[search] for one in decoded.values() if search in one.errors]
    if not several:
        return {}
    shared = set.intersection(*(set(errors) for errors in several))
    return {
        name: Errors(*(np.mean([dataclasses.astuple(errors[name]) for errors in several], axis=0).tolist()))
        for name in sorted(shared)
    }


def difference(
    ours: Mapping[int, Decoded],
    theirs: Mapping[int, Decoded],
    measure: str,
    search: str = "beam",
    their_search: str = "",
) -> Evidence | None:
    """The difference of `measure` (of `MEASURES`) between two networks: below zero, ours is better.

    Both are decoded on the same data, one result per seed; None if they share no seed, search or utterance.
    """
    pairs = _pairs(ours, theirs, measure, search, their_search or search)
    if not pairs:
        return None
    unit, factor = MEASURES[measure]
    shared = sorted(set.intersection(*(set(a) & set(b) for a, b in pairs)))
    values_SxN = factor * np.array([[a[name] - b[name] for name in shared] for a, b in pairs])
    speakers = _speakers(ours, shared)
    spans = {
        of: metrics.percentiles(metrics.resampled_means(values_SxN.mean(0)[:, None], units))
        for of, units in _units(speakers).items()
    }
    return Evidence(float(values_SxN.mean()), spans, tuple(values_SxN.mean(1).tolist()), unit)


def gain(
    ours: Mapping[int, Decoded], theirs: Mapping[int, Decoded], search: str = "beam", seed: int = 0
) -> tuple[Evidence, np.ndarray] | None:
    """The relative reduction (in %) of one network's LER from another's, with its bootstrap draws.

    Draws with different `seed` are independent, as those of different data must be.
    """
    pairs = _pairs(ours, theirs, "ler", search, search)
    if not pairs:
        return None
    shared = sorted(set.intersection(*(set(a) & set(b) for a, b in pairs)))
    values_NxF = np.array([[np.mean([side[k][name] for side in pairs]) for k in (0, 1)] for name in shared])

    def part(means: np.ndarray) -> np.ndarray:
        return 100 * (1 - means[..., 0] / np.maximum(means[..., 1], 1e-9))

    draws = {
        of: part(metrics.resampled_means(values_NxF, units, seed=seed))
        for of, units in _units(_speakers(ours, shared)).items()
    }
    seeds = [part(np.mean([[a[name], b[name]] for name in shared], axis=0)) for a, b in pairs]
    spans = {of: metrics.percentiles(values) for of, values in draws.items()}
    evidence = Evidence(float(part(values_NxF.mean(0))), spans, tuple(map(float, seeds)), "% lower LER")
    return evidence, list(draws.values())[-1]


def gain_difference(one: tuple[Evidence, np.ndarray], other: tuple[Evidence, np.ndarray], drawn: str) -> Evidence:
    """The difference of two `gain`s; `drawn` names their resampling units.

    All pairs of seeds are compared, since seeds of different data are unrelated.
    """
    (first, first_draws), (second, second_draws) = one, other
    seeds = tuple(a - b for a in first.seeds for b in second.seeds)
    span = {drawn: metrics.percentiles(first_draws - second_draws)}
    return Evidence(first.value - second.value, span, seeds, "percentage points")


def over_seeds(values: Sequence[float], unit: str, form: str = ".1f") -> Evidence | None:
    """A number without utterances, such as a time: its range over seeds serves as the interval."""
    if not values:
        return None
    name = "seeds" if len(values) > 1 else _ONE_SEED
    return Evidence(float(np.mean(values)), {name: (min(values), max(values))}, tuple(values), unit, form)


_Values = dict[str, float]


def _pairs(
    ours: Mapping[int, Decoded], theirs: Mapping[int, Decoded], measure: str, search: str, their_search: str
) -> list[tuple[_Values, _Values]]:
    seeds = sorted(ours.keys() & theirs.keys())
    pairs = [(_values(ours[s], measure, search), _values(theirs[s], measure, their_search)) for s in seeds]
    return [(a, b) for a, b in pairs if a.keys() & b.keys()]


def _values(decoded: Decoded, measure: str, search: str) -> _Values:
    if measure == "loss":  # None if the target cannot fit
        return {name: r["loss"] for name, r in decoded.records.items() if r.get("loss") is not None}
    rate: Callable[[Errors], float] = (lambda e: e.ler) if measure == "ler" else (lambda e: e.wer)
    return {name: rate(errors) for name, errors in decoded.errors.get(search, {}).items()}


def _speakers(decoded: Mapping[int, Decoded], names: Sequence[str]) -> list[str]:
    records = next(iter(decoded.values())).records
    return [records[name].get("speaker", "") for name in names]


def _units(speakers: Sequence[str]) -> dict[str, Sequence[int]]:
    units, of = metrics.resampling_units(speakers)
    return {"utterances": range(len(speakers))} | {of: units}
