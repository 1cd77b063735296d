"""Changes of the weights by adaptation (section 6.5): introspection of the networks with k = 0, seed by seed."""

import functools
from collections.abc import Iterator
from pathlib import Path

from introspection import weight_changes as comparison
from introspection import weight_claims as of_weights
from introspection import weight_page as page
from introspection.weight_changes import Findings
from pages import html as report
from reproduction import tasks
from reproduction.claims import NOT_YET, Finding
from reproduction.evidence import CONFIRMED, NOT_TESTABLE, REFUTED, UNDECIDED, WAITING
from reproduction.grid import K0, Language
from reproduction.study import Study
from w2l_jax.run import Run


def findings(study: Study) -> Iterator[Finding]:
    """The claims of section 6.5, each for every seed."""
    for language in study.languages("figure7"):
        seeds = [of_weights.claims(_measured(*networks)) for networks in _seeds(study, language)]
        for several in zip(*seeds, strict=True):
            first, answers = several[0], [claim.holds for claim in several]
            verdict = (
                NOT_TESTABLE if None in answers
                else CONFIRMED if all(answers) else UNDECIDED if any(answers) else REFUTED
            )  # fmt: skip
            same = f"; the same in {answers.count(answers[0])} of {len(answers)} seeds" if len(answers) > 1 else ""
            rule = f"{first.criterion} Exact for each network; seeds must agree."
            yield Finding("6.5", first.claim, language.name, verdict, f"{first.found}{same}", rule)
        if not seeds:
            claim = "Weights change little, outer layers more than inner ones, and the input layer late."
            yield Finding("6.5", claim, language.name, WAITING, NOT_YET, "The rules of introspect.py.")
        yield Finding(
            "6.5", "Filters that detect short percussive sounds change more than those that follow pitch in vowels.",
            language.name, NOT_TESTABLE,
            "Judging what a filter detects needs a human eye; Figure 8 shows the filters that changed most and least.",
            "Not tested.",
        )  # fmt: skip


def figures(study: Study, number: int) -> str:
    """Figure 7 or Figure 8 of the first seed of each language that takes part, as HTML; files beside the page."""
    out = ""
    for language in study.languages(f"figure{number}"):
        for networks in _seeds(study, language)[:1]:
            changed, _, filters, sheet = _written(*networks, Path(study.scale.out) / f"weights_{language.name}")
            out += changed if number == 7 else filters + report.folded("Every filter of the input layer", sheet)
    return out


_Networks = tuple[Path, Path, str]  # run, base, early step


def _seeds(study: Study, language: Language) -> list[_Networks]:
    """The networks of each complete seed with an early checkpoint, if the base exists."""
    cells = [cell for cell in study.cells(language, K0) if study.complete(cell)]
    base, early = tasks.base(study.scale), language.eval_every
    if not Run.exists(base):
        return []
    folders = [study.scale.run(cell) for cell in cells]
    with_early = [folder for folder in folders if (folder / "checkpoints" / f"step_{early:08d}").is_dir()]
    return [(folder, base, str(early)) for folder in with_early]


# The report is rewritten often, but complete runs do not change.
@functools.lru_cache(maxsize=32)
def _measured(run: Path, base: Path, early: str) -> Findings:
    return comparison.measure(comparison.read(run, base, "last", early=early))


@functools.lru_cache(maxsize=4)
def _written(run: Path, base: Path, early: str, folder: Path) -> tuple[str, ...]:
    """Writes introspection's files; returns the parts of its page."""
    findings = _measured(run, base, early)
    page.write(findings, folder)
    return tuple(content for _, content in page.sections(findings))
