"""A claim, the rule that decides it and what our runs say.

The rules are written before there are numbers. Differences are "the favourite of the claim less the other", so that
below zero speaks for the claim; `evidence.verdict` says when that counts as confirmed. Error rates are means over
utterances of the beam search with language model, as the paper's are.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from w2l_jax.reproduction.evidence import MEASURES, NOT_TESTABLE, Evidence, difference, every, verdict
from w2l_jax.reproduction.grid import Language, Variant
from w2l_jax.reproduction.race import CLOCKS
from w2l_jax.reproduction.study import Study

ALMOST_EQUAL = 2.0
"""Points of LER within which two networks count as equal; the paper gives no number."""
NOT_YET = "the networks that this needs are not trained and decoded yet"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A claim and what became of it."""

    section: str
    claim: str
    where: str
    """Language or data that it was tested on."""
    verdict: str
    found: str
    """The numbers that decide it, or why none can."""
    rule: str


def compare(
    study: Study, language: Language, ours: Variant, theirs: Variant, measures: Sequence[str], data: str = ""
) -> dict[str, Evidence]:
    """Measure → its difference between two networks on `data` (default: the dev data), where there is one."""
    sides = [study.decoded(language, variant, data or language.dev) for variant in (ours, theirs)]
    found = {measure: difference(*sides, measure) for measure in measures}
    return {measure: evidence for measure, evidence in found.items() if evidence}


def settle(found: Mapping[str, Evidence], border: float = 0.0) -> tuple[str, str]:
    """The verdict on a claim that needs all of these numbers below `border`, and the numbers as text."""
    if not found:
        return NOT_TESTABLE, NOT_YET
    texts = [e.text() if name in MEASURES else f"{name}: {e.text()}" for name, e in found.items()]
    return every([verdict(evidence, border) for evidence in found.values()]), "; ".join(texts)


def clocks(race: Callable[..., Evidence | None], *networks: Any) -> dict[str, Evidence]:
    """Clock → what a function of `race` finds by it, where it finds anything."""
    found = {name: race(*networks, clock) for clock, name in CLOCKS.items()}
    return {name: evidence for name, evidence in found.items() if evidence}


def settle_by_work(found: Mapping[str, Evidence], border: float) -> tuple[str, str]:
    """The verdict on a claim about `clocks` by the first, which is exact, and what all of them say as text."""
    if not found:
        return NOT_TESTABLE, NOT_YET
    first = next(iter(found.values()))
    return verdict(first, border), "; ".join(evidence.text() for evidence in found.values())
