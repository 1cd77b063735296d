"""The paper's claims about error rates: sections 6.4 and 6.6 to 6.8."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from reproduction.claims import ALMOST_EQUAL, NOT_YET, Finding, against, compare, judge
from reproduction.curves import rows as curve
from reproduction.evidence import (
    CONFIRMED,
    NOT_TESTABLE,
    REFUTED,
    UNDECIDED,
    WAITING,
    Evidence,
    difference,
    equivalence,
    every,
    gain,
    gain_difference,
    over_seeds,
    verdict,
)  # fmt: skip
from reproduction.grid import K0, K8, SCRATCH, Language, Variant
from reproduction.study import Study

_RATES = {"ler": "LER", "wer": "WER"}
OVERFITTED = 1.0
"""Points of LER by which a curve must rise above its lowest evaluation."""


def findings(study: Study) -> Iterator[Finding]:
    """The claims of the chosen experiments, in the paper's order."""
    for claims in (_amounts, _tests, _language_model, _distance):
        yield from claims(study)


def _amounts(study: Study) -> Iterator[Finding]:
    for language in study.languages("figure6"):
        middle, least = (K8._replace(hours=f(language.amounts)) for f in (max, min))
        evidence = compare(study, language, middle, K8, ["ler"]).get("ler")
        yield Finding(
            "6.4", "With k = 8, a quarter of the speech gives almost the same LER as all of it.",
            f"{language.name}, {middle.hours:g} h", equivalence(evidence, ALMOST_EQUAL) if evidence else WAITING,
            f"{middle.text} minus all speech: {evidence.text()}" if evidence else NOT_YET,
            f"The whole interval is within ±{ALMOST_EQUAL:g} points; refuted if it is entirely outside.",
        )  # fmt: skip
        lowest = {variant: _lowest(study, language, variant) for variant in (middle, least)}
        drops = {v: over_seeds([low - end for low, end, _ in f.values()], "points of LER") for v, f in lowest.items()}
        name = "lowest minus final evaluation"
        yield Finding(
            "6.4", "With a quarter of the speech, longer training overfits.", f"{language.name}, {middle.hours:g} h",
            *judge({name: drops[middle]}, -OVERFITTED),
            f"In every seed, the final LER is more than {OVERFITTED:g} point above the lowest.",
        )  # fmt: skip
        if least == middle:
            continue
        shared = sorted(lowest[least].keys() & lowest[middle].keys())
        earlier = over_seeds([lowest[least][seed][2] - lowest[middle][seed][2] for seed in shared], "updates")
        parts = {name: (drops[least], -OVERFITTED), "its update, minus that with a quarter": (earlier, 0.0)}
        decided = [judge({part: evidence}, border) for part, (evidence, border) in parts.items()]
        yield Finding(
            "6.4", "With a twentieth of the speech it overfits even earlier.", f"{language.name}, {least.hours:g} h",
            WAITING if WAITING in [verdict for verdict, _ in decided] else every([verdict for verdict, _ in decided]),
            "; ".join(text for _, text in decided),
            f"In every seed, the final LER is more than {OVERFITTED:g} point above the lowest, which is reached after "
            "fewer updates than with a quarter.",
        )  # fmt: skip


def _lowest(study: Study, language: Language, variant: Variant) -> dict[int, tuple[float, float, int]]:
    """Seed → the lowest LER on the dev data, the last one, and the update of the lowest."""
    lowest = {}
    for cell in study.cells(language, variant):
        dev = [row for row in curve(study, cell) if row["kind"] == "dev"]
        if dev and study.complete(cell):
            low = min(dev, key=lambda row: row["LER (%)"])
            lowest[cell.seed] = low["LER (%)"], dev[-1]["LER (%)"], low["update"]
    return lowest


def _tests(study: Study) -> Iterator[Finding]:
    for language in study.languages("table1"):
        for data in (language.dev, *language.tests):
            for measure, name in _RATES.items():
                evidence = compare(study, language, K0, SCRATCH, [measure], data)
                rule = f"After the same number of updates, k = 0 has a lower {name} than training from scratch."
                claim = f"Transfer beats training from scratch in {name} on every corpus."
                yield Finding("6.6", claim, Path(data).name, *judge(evidence), rule)
    for language in study.languages("figure3"):
        others = [variant for variant in language.variants("figure3") if variant != K0]
        evidence = against(study, language, K0, others, "ler")
        rule = "k = 0 has a lower LER than every other k."
        yield Finding("6.6", "The best adapted network is the one with k = 0.", language.name, *judge(evidence), rule)
        yield _consistent(study, language)
    if study.languages("table1"):
        yield Finding(
            "6.6", "Very high word error rates come from numbers in dialect; compounds are hard, too.", "–",
            NOT_TESTABLE, "Our data label neither dialects nor compounds; the worst utterances are listed below.",
            "Not tested.",
        )  # fmt: skip


def _consistent(study: Study, language: Language) -> Finding:
    networks = list(dict.fromkeys(v for e in ("figure3", "figure5", "figure2") for v in language.variants(e)))
    pairs = [compare(study, language, *pair, ("loss", "ler")) for pair in itertools.combinations(networks, 2)]
    sides = [tuple(map(verdict, pair.values())) for pair in pairs]
    alike = [len(set(pair)) == 1 for pair in sides if len(pair) == 2 and UNDECIDED not in pair]
    same, decided = sum(alike), len(alike)
    share = UNDECIDED if decided < 3 or decided / 2 <= same < decided else CONFIRMED if same == decided else REFUTED
    return Finding(
        "6.6", "Error rates and losses order the networks alike.", language.name,
        share if all(pairs) else WAITING,
        f"loss and LER agree on {same} of the {decided} pairs of networks that clearly differ in both",
        "Loss and LER agree on every pair of networks whose intervals exclude zero in both; refuted if they agree on "
        "fewer than half. At least three such pairs are needed.",
    )  # fmt: skip


def _language_model(study: Study) -> Iterator[Finding]:
    for language in study.languages("table3"):
        for data in (language.dev, *language.tests):
            decoded = study.decoded(language, K0, data)
            for measure, name in _RATES.items():
                evidence = difference(decoded, decoded, measure, "beam", "greedy")
                rule = f"For k = 0, the {name} with the language model is below that of greedy decoding."
                claim = f"A beam search with a language model lowers the {name}."
                yield Finding("6.7", claim, Path(data).name, *judge({measure: evidence}), rule)


def _distance(study: Study) -> Iterator[Finding]:
    """Section 6.8: expectations that the authors did not test."""
    gains = {}
    for seed, language in enumerate(study.languages("distance")):
        ours, theirs = (study.decoded(language, variant, language.dev) for variant in (K0, SCRATCH))
        if evidence := gain(ours, theirs, seed=seed):
            gains[language.distance] = language, evidence
        if language.distance == "far":
            rule = "On the far language, k = 0 has a lower LER than training from scratch."
            claim = "Even for a distant language, trained weights are a better start than random ones."
            yield Finding("6.8", claim, language.name, *judge(compare(study, language, K0, SCRATCH, ["ler"])), rule)
    if "distance" not in study.scale.experiments:
        return
    for claim, why in _EXPECTED.items():
        yield Finding("6.8", claim, "–", NOT_TESTABLE, why, "Not tested.")
    if not {"near", "far"} <= {language.distance for language in study.languages("distance")}:
        claim = "The more distant the language, the less transfer helps; it still beats random weights."
        why = "These data do not include both a near and a far language."
        yield Finding("6.8", claim, "–", NOT_TESTABLE, why, "Not tested.")
        return
    evidence: dict[str, Evidence | None] = {"far minus near": None}
    if {"near", "far"} <= gains.keys():
        (near, near_gain), (far, far_gain) = gains["near"], gains["far"]
        parts = f"{far.name} {far_gain[0].value:.0f} %, {near.name} {near_gain[0].value:.0f} %"
        name = f"LER reduction: {parts}; difference"
        evidence = {name: gain_difference(far_gain, near_gain, "the utterances of both")}
    yield Finding(
        "6.8", "The more distant the language is from English, the less transfer helps.",
        " and ".join(language.name for language in study.languages("distance")), *judge(evidence),
        "The LER reduction of k = 0 relative to training from scratch is smaller for the far language; the languages "
        "are resampled independently.",
    )  # fmt: skip


_EXPECTED = {
    "Lower layers learn phonology, higher ones map it to graphemes.": (
        "No experiment examines what a layer represents; the claim is consistent with lower layers being freezable."
    ),
    "Another orthography changes the upper layers, other phonemes change the lower ones.": (
        "This needs one language in two orthographies."
    ),
    "Shared vowels matter more than shared consonants.": "This needs pairs of languages that differ in nothing else.",
}
