"""Questions beyond the paper: does freezing help after all, for how much speech, and what is forgotten?"""

from collections.abc import Iterator

from reproduction.claims import Finding, compare, judge
from reproduction.evidence import gain, gain_difference, over_seeds
from reproduction.grid import K0, K8, SCRATCH, UNFROZEN, Language, Variant
from reproduction.study import Study


def findings(study: Study) -> Iterator[Finding]:
    """The questions of the chosen experiments; below zero supports the claim."""
    for questions in (_unfreezing, _amounts, _forgetting):
        yield from questions(study)


def _unfreezing(study: Study) -> Iterator[Finding]:
    for language in study.languages("unfreezing"):
        for ours, theirs, claim in (
            (K8, K0, "Freezing helps (Eberhard and Zesch 2021; the paper disagrees): k = 8 beats k = 0."),
            (UNFROZEN, K0, "Freezing first and then training all layers beats training all from the start."),
            (UNFROZEN, K8, "Freezing first and then training all layers beats freezing throughout."),
        ):
            rule = f"{ours.text}: lower LER than {theirs.text} after the same number of updates."
            evidence = compare(study, language, ours, theirs, ["ler"])
            yield Finding("unfreezing", claim, language.name, *judge(evidence), rule)


def _amounts(study: Study) -> Iterator[Finding]:
    for language in study.languages("amounts"):
        for hours in (*sorted(language.amounts), 0.0):
            amount = f"{language.name}, {f'{hours:g} h' if hours else 'all'}"
            for ours, theirs, claim in (
                (K0, SCRATCH, "Transfer (k = 0) beats training from scratch with this much speech."),
                (K8, K0, "Freezing (k = 8) beats training every layer with this much speech."),
            ):
                evidence = compare(study, language, ours._replace(hours=hours), theirs._replace(hours=hours), ["ler"])
                rule = f"{ours.text}: lower LER than {theirs.text} after the same number of updates."
                yield Finding("amounts", claim, amount, *judge(evidence), rule)
        if language.amounts:
            yield _growing(study, language)


def _growing(study: Study, language: Language) -> Finding:
    least = min(language.amounts)
    most, few = (_gain(study, language, hours) for hours in (0.0, least))
    evidence = {}
    if most and few:
        both = f"LER reduction: all {most[0].value:.0f} %, {least:g} h {few[0].value:.0f} %; difference"
        evidence[both] = gain_difference(most, few, "the same utterances")
    claim = "The less training speech there is, the more transfer helps."
    rule = f"The LER reduction of k = 0 relative to training from scratch is larger with {least:g} h than with all."
    return Finding("amounts", claim, language.name, *judge(evidence), rule)


def _gain(study: Study, language: Language, hours: float) -> tuple | None:
    sides = (study.decoded(language, v._replace(hours=hours), language.dev) for v in (K0, SCRATCH))
    return gain(*sides)


def _forgetting(study: Study) -> Iterator[Finding]:
    for language in study.languages("forgetting"):
        ends = {v: _old(study, language, v) for v in (K8, K0)}
        shared = sorted(ends[K8].keys() & ends[K0].keys())
        value = over_seeds([ends[K8][seed] - ends[K0][seed] for seed in shared], "points of LER", "+.1f")
        yield Finding(
            "forgetting", "Freezing (k = 8) preserves more of the base's language than training every layer (k = 0).",
            language.name, *judge({"k = 8 minus k = 0, on the base's language": value}),
            "In every seed, k = 8 has a lower LER on the base's language after the same number of updates.",
        )  # fmt: skip


def _old(study: Study, language: Language, variant: Variant) -> dict[int, float]:
    """Seed → LER on the base's language after training."""
    ends = {}
    for cell in study.cells(language, variant):
        lines = [line for line in study.course(cell) if line["kind"] == "old_dev"]
        if lines and study.complete(cell):
            ends[cell.seed] = 100 * lines[-1]["ler"]
    return ends
