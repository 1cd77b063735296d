"""Claims, the rules that decide them, and the findings.

The rules do not depend on the numbers. Differences are "the claim's favourite minus the other", so that below zero
supports the claim; `evidence.verdict` decides. Error rates are means over utterances of the beam search with language
model, as in the paper.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reproduction.evidence import MEASURES, WAITING, Evidence, difference, every, verdict
from reproduction.grid import Language, Variant
from reproduction.race import CLOCKS
from reproduction.study import Study

ALMOST_EQUAL = 2.0
"""Points of LER within which two networks count as equal; the paper gives no number."""
NOT_YET = "the networks needed for this are not trained and decoded yet"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A claim and its verdict."""

    section: str
    claim: str
    where: str
    """Language or data that it was tested on."""
    verdict: str
    found: str
    """The numbers that decide it, or why it is undecided."""
    rule: str


def compare(
    study: Study, language: Language, ours: Variant, theirs: Variant, measures: Sequence[str], data: str = ""
) -> dict[str, Evidence]:
    """Measure → its difference between two networks on `data` (default: the dev data), if available."""
    sides = [study.decoded(language, variant, data or language.dev) for variant in (ours, theirs)]
    differences = {measure: difference(*sides, measure) for measure in measures}
    return {measure: evidence for measure, evidence in differences.items() if evidence}


def against(
    study: Study, language: Language, ours: Variant, others: Sequence[Variant], measure: str
) -> dict[str, Evidence | None]:
    """The differences between a network and several others on the dev data; None for those that are missing."""
    return {
        f"{ours.text} minus {other.text}": compare(study, language, ours, other, [measure]).get(measure)
        for other in others
    }


def judge(numbers: Mapping[str, Evidence | None], border: float = 0.0) -> tuple[str, str]:
    """The verdict on a claim that needs all of these numbers below `border`, and the available ones as text."""
    available = {name: evidence for name, evidence in numbers.items() if evidence}
    texts = [e.text() if name in MEASURES else f"{name}: {e.text()}" for name, e in available.items()]
    if len(available) < len(numbers) or not numbers:
        return WAITING, "; ".join([*texts, NOT_YET])
    return every([verdict(evidence, border) for evidence in available.values()]), "; ".join(texts)


def clocks(race: Callable[..., Evidence | None], *networks: Any) -> dict[str, Evidence]:
    """Clock → the result of a function of `race`, if any."""
    results = {name: race(*networks, clock) for clock, name in CLOCKS.items()}
    return {name: evidence for name, evidence in results.items() if evidence}


def judge_by_work(results: Mapping[str, Evidence], border: float) -> tuple[str, str]:
    """The verdict on a claim about `clocks` by the first, which is exact, and all of them as text."""
    if not results:
        return WAITING, NOT_YET
    first = next(iter(results.values()))
    return verdict(first, border), "; ".join(evidence.text() for evidence in results.values())
