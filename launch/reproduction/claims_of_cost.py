"""The paper's claims about speed and memory: sections 6.1 to 6.3."""

import itertools
from collections.abc import Iterator

from reproduction import race
from reproduction.claims import ALMOST_EQUAL, NOT_YET, Finding, against, clocks, compare, judge, judge_by_work
from reproduction.curves import rows as curve
from reproduction.evidence import CONFIRMED, NOT_TESTABLE, REFUTED, WAITING, over_seeds
from reproduction.grid import K0, K8, REINITIALIZED, SCRATCH, Language, Variant
from reproduction.study import Study

MUCH_FASTER = 0.5
"""The share of the other network's work that counts as much faster."""
ALMOST_ALWAYS = 5.0
"""Percent of the time that "almost always" allows to be an exception."""
_UNTIL = (
    "Compared until the first network finishes, which is the one with the most frozen layers; a learning rate that "
    "falls towards the end of training, as in configs/demo.toml and adapt.toml, favours it."
)


def findings(study: Study) -> Iterator[Finding]:
    """The claims of the chosen experiments, in the paper's order."""
    for claims in (_retained, _freezing, _scratch, _memory):
        yield from claims(study)


def _retained(study: Study) -> Iterator[Finding]:
    for language in study.languages("figure2"):
        times = clocks(race.head_start, study, language, K8, REINITIALIZED)
        yield Finding(
            "6.1", "Adaptation is much faster if the weights above the frozen layers are retained, not reinitialised.",
            language.name, *judge_by_work(times, MUCH_FASTER),
            "In every seed, retained weights reach the final dev loss of reinitialised ones with less than half of the "
            "work.",
        )  # fmt: skip
        evidence = compare(study, language, K8, REINITIALIZED, ["ler"])
        rule = f"LER, retained minus reinitialised: the interval and every seed are below +{ALMOST_EQUAL:g} points."
        claim = "Retaining weights costs no accuracy."
        yield Finding("6.1", claim, language.name, *judge(evidence, ALMOST_EQUAL), rule)


def _freezing(study: Study) -> Iterator[Finding]:
    if "figure4" in study.scale.experiments:
        yield _seconds(study)
    for language in study.languages("figure3"):
        networks = language.variants("figure3")
        others = [variant for variant in networks if variant != K0]
        yield Finding(
            "6.2", "At any time, k = 0 has the lowest training loss.", language.name,
            *judge_by_work(clocks(race.outperformed, study, language, K0, others), ALMOST_ALWAYS),
            f"In every seed, another k has a lower loss for less than {ALMOST_ALWAYS:g} % of the work. {_UNTIL}",
        )  # fmt: skip
        yield Finding(
            "6.2", "At almost any time, the fewer layers are frozen, the lower is the loss.", language.name,
            *judge_by_work(clocks(race.out_of_order, study, language, networks), ALMOST_ALWAYS),
            "In every seed and over all pairs of k, the larger k has the lower loss for less than "
            f"{ALMOST_ALWAYS:g} % of the work. {_UNTIL}",
        )  # fmt: skip
        evidence = against(study, language, K0, others, "loss")
        rule = "After the same number of updates, k = 0 has a lower dev loss than every other k."
        text = "If a low loss is the goal, there is no reason to freeze layers."
        yield Finding("6.2", text, language.name, *judge(evidence), rule)
        ends = {v.text: over_seeds(_last_losses(study, language, v), "nats per utterance") for v in networks}
        text = "; ".join(f"{name}: {evidence.text()}" for name, evidence in ends.items() if evidence)
        yield Finding(
            "6.1", "Two trained layers (k = 9) are enough for training losses below 100 after 25 hours.", language.name,
            NOT_TESTABLE, f"A loss of 100 depends on the sentences' length. Final training losses: {text or NOT_YET}",
            "Not tested: the number does not apply to other data.",
        )  # fmt: skip


def _scratch(study: Study) -> Iterator[Finding]:
    for language in study.languages("figure5"):
        yield Finding(
            "6.2", "Transfer (k = 0) reaches the same loss in far less computing time than training from scratch.",
            language.name, *judge_by_work(clocks(race.head_start, study, language, K0, SCRATCH), MUCH_FASTER),
            "In every seed, k = 0 reaches the final dev loss of training from scratch with less than half of its work.",
        )  # fmt: skip


def _last_losses(study: Study, language: Language, variant: Variant) -> list[float]:
    ends = (curve(study, cell) for cell in study.cells(language, variant) if study.complete(cell))
    losses = ([row["loss"] for row in rows if row["kind"] == "train"] for rows in ends)
    return [several[-1] for several in losses if several]


def _seconds(study: Study) -> Finding:
    rows = sorted(study.measured("step"), key=lambda row: row["k"])
    flops = [row["seconds"] * row["GFLOP/s"] for row in rows]
    rises = sum(b["seconds"] >= a["seconds"] for a, b in itertools.pairwise(rows))
    if not rows:
        decided, text = WAITING, NOT_YET
    else:
        # FLOPs are seconds times speed: they are equal up to rounding where nothing is saved.
        falls = all(b < a * (1 - 1e-6) for a, b in itertools.pairwise(flops))
        decided = CONFIRMED if falls and rises <= 1 else REFUTED
        shares = ", ".join(
            f"k = {row['k']}: {row['seconds'] / rows[0]['seconds']:.2f} ({f / flops[0]:.2f})"
            for row, f in zip(rows, flops, strict=True)
        )
        text = f"Seconds per update relative to k = 0 (FLOPs in brackets): {shares}"
    return Finding(
        "6.2", "The time per update falls almost monotonically with k.", "one update", decided, text,
        "FLOPs fall with each larger k, and so do measured seconds with at most one exception.",
    )  # fmt: skip


def _memory(study: Study) -> Iterator[Finding]:
    if "memory" not in study.scale.experiments:
        return
    parts = ("temporary MiB", "held MiB", "updated MiB")
    total = {row["k"]: sum(row[name] for name in parts) for row in study.measured("memory")}
    ordered = [total[k] for k in sorted(total)]
    falls = CONFIRMED if all(b < a for a, b in itertools.pairwise(ordered)) else REFUTED
    shares = ", ".join(f"k = {k}: {total[k] / ordered[0]:.2f}" for k in sorted(total))
    text = (
        f"Memory relative to k = 0, reported by the compiler: {shares}; exact, so there is no interval"
        if total
        else NOT_YET
    )
    claim = "The more layers are frozen, the less memory an update needs."
    rule = "Memory falls with each larger k."
    yield Finding("6.3", claim, "one update", falls if total else WAITING, text, rule)
    enough = total and 8 in total and total[8] / ordered[0] <= 5.5 / 10.4
    decided = WAITING if not total else CONFIRMED if enough else REFUTED
    claim = "Freezing 8 layers about halves the memory (less than 5.5 GB instead of more than 10.4)."
    rule = "Memory at k = 8 is at most 5.5/10.4 = 0.53 of that at k = 0."
    yield Finding("6.3", claim, "one update", decided, text, rule)
    why = "The paper states neither the length of its 64 utterances nor how much memory its framework reserved."
    claim = "64 utterances need less than 3 GB for the forward pass, more than 10.4 GB with every layer trained."
    yield Finding("6.3", claim, "one update", NOT_TESTABLE, why, "Absolute numbers are not tested.")
