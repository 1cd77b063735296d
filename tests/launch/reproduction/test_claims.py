"""Every claim with hand-made networks for which it is true, false or undecided."""

import dataclasses
import json
from pathlib import Path

import pytest

from reproduction import beyond, claims_of_cost, claims_of_quality
from reproduction.evidence import CONFIRMED, NOT_TESTABLE, REFUTED, UNDECIDED, WAITING
from reproduction.grid import K0, K8, REINITIALIZED, SCRATCH, UNFROZEN, Variant
from reproduction.study import Study

FEW, MIDDLE = K8._replace(hours=0.1), K8._replace(hours=0.4)
GOOD, BAD = {"wrong": [1, 2] * 10}, {"wrong": [4, 5] * 10}
ALIKE = {"wrong": [2, 1] * 10}  # as many errors as GOOD, in other utterances
FAST, SLOW = {"loss": lambda step: 200 - 4 * step}, {"loss": lambda step: 200 - step}
LOW, HIGH = {"losses": [50.0, 52.0] * 10}, {"losses": [60.0, 65.0] * 10}

OTHERS = {v: GOOD | {"losses": [50.0, 52.0] * 10} for v in (SCRATCH, REINITIALIZED)}
WRONG = {v: BAD | {"losses": [50.0, 52.0] * 10} for v in (SCRATCH, REINITIALIZED)}


def ks(first, *rest):
    """The networks of figure 3: `first` for k = 0, then `rest` in turns for the others."""
    others = dict(zip((6, 8, 9, 10), rest * 4, strict=False))
    return {K0: first} | {Variant(k): course for k, course in others.items()}


def flat(value):
    return {"loss": lambda step: value + 50 - step / 100}


def ler(best, end):
    """A curve that falls to `best` at update 50 and then moves to `end`, in percent."""
    return {"ler": lambda step: (best + (end - best) * max(step - 50, 0) / 50 + max(50 - step, 0)) / 100}


CASES = [
    ("Adaptation is much faster", "german", {K8: FAST, REINITIALIZED: SLOW}, CONFIRMED),
    ("Adaptation is much faster", "german", {K8: SLOW, REINITIALIZED: SLOW}, REFUTED),
    ("Adaptation is much faster", "german", {K8: FAST}, WAITING),
    ("costs no accuracy", "german", {K8: GOOD, REINITIALIZED: GOOD}, CONFIRMED),
    ("costs no accuracy", "german", {K8: BAD, REINITIALIZED: GOOD}, REFUTED),
    ("costs no accuracy", "german", {K8: {"wrong": [0, 4] * 10}, REINITIALIZED: {"wrong": [4, 0] * 10}}, UNDECIDED),
    ("At any time, k = 0", "german", ks(flat(0), flat(9)), CONFIRMED),
    ("At any time, k = 0", "german", ks(flat(9), flat(0)), REFUTED),
    ("At almost any time, the fewer", "german", ks(flat(0), flat(1), flat(2), flat(3), flat(4)), CONFIRMED),
    ("At almost any time, the fewer", "german", ks(flat(0), flat(1), flat(3), flat(2), flat(4)), REFUTED),
    ("no reason to freeze", "german", ks(LOW, HIGH), CONFIRMED),
    ("no reason to freeze", "german", ks(LOW, HIGH, {"losses": [40.0, 41.0] * 10}), REFUTED),
    ("no reason to freeze", "german", ks(LOW, HIGH, {"losses": [52.0, 50.0] * 10}), UNDECIDED),
    ("no reason to freeze", "german", {K0: LOW, K8: HIGH}, WAITING),  # the other k are missing
    ("Two trained layers", "german", ks(LOW, HIGH), NOT_TESTABLE),
    ("far less computing time", "german", {K0: FAST, SCRATCH: SLOW}, CONFIRMED),
    ("far less computing time", "german", {K0: SLOW, SCRATCH: FAST}, REFUTED),
    ("a quarter of the speech gives almost", "german, 0.4 h", {MIDDLE: GOOD, K8: GOOD}, CONFIRMED),
    ("a quarter of the speech gives almost", "german, 0.4 h", {MIDDLE: BAD, K8: GOOD}, REFUTED),
    ("a quarter of the speech, longer", "german, 0.4 h", {MIDDLE: ler(20, 25)}, CONFIRMED),
    ("a quarter of the speech, longer", "german, 0.4 h", {MIDDLE: ler(20, 20.5)}, REFUTED),
    ("overfits even earlier", "german, 0.1 h", {FEW: ler(40, 50), MIDDLE: ler(30, 20)}, CONFIRMED),
    ("overfits even earlier", "german, 0.1 h", {FEW: ler(40, 50), MIDDLE: ler(40, 50)}, UNDECIDED),
    ("overfits even earlier", "german, 0.1 h", {FEW: ler(40, 40.5), MIDDLE: ler(30, 20)}, REFUTED),  # hardly overfits
    ("overfits even earlier", "german, 0.1 h", {FEW: ler(30, 20), MIDDLE: ler(40, 50)}, REFUTED),
    ("overfits even earlier", "german, 0.1 h", {FEW: ler(40, 50)}, WAITING),
    ("scratch in LER", "de_dev", {K0: GOOD, SCRATCH: BAD}, CONFIRMED),
    ("scratch in LER", "de_test", {K0: BAD, SCRATCH: GOOD}, REFUTED),
    ("scratch in LER", "de_dev", {K0: GOOD, SCRATCH: ALIKE}, UNDECIDED),
    ("scratch in WER", "de_dev", {K0: {"wrong": [0, 0, 1] * 7}, SCRATCH: {"wrong": [1] * 21}}, CONFIRMED),
    ("scratch in WER", "de_dev", {K0: GOOD, SCRATCH: BAD}, UNDECIDED),  # every word is wrong
    ("the one with k = 0", "german", ks(GOOD, BAD), CONFIRMED),
    ("the one with k = 0", "german", ks(GOOD, BAD, ALIKE), UNDECIDED),
    ("the one with k = 0", "german", ks(BAD, BAD, GOOD), REFUTED),
    ("order the networks alike", "german", ks(GOOD | LOW, BAD | HIGH) | OTHERS, CONFIRMED),
    ("order the networks alike", "german", ks(BAD | LOW, GOOD | HIGH) | WRONG, REFUTED),
    ("order the networks alike", "german", ks(GOOD | LOW, ALIKE | HIGH) | OTHERS, UNDECIDED),
    ("dialect", "–", {}, NOT_TESTABLE),
    ("lowers the LER", "de_dev", {K0: GOOD | {"greedy": [4, 5] * 10}}, CONFIRMED),
    ("lowers the LER", "de_dev", {K0: BAD | {"greedy": [1, 2] * 10}}, REFUTED),
    ("lowers the WER", "de_test", {K0: {"wrong": [0, 0, 1] * 7, "greedy": [1] * 21}}, CONFIRMED),
    ("k = 8 beats k = 0", "german", {K0: GOOD, K8: BAD}, REFUTED),
    ("k = 8 beats k = 0", "german", {K0: BAD, K8: GOOD}, CONFIRMED),
    ("beats training all from the start", "german", {K0: BAD, UNFROZEN: GOOD}, CONFIRMED),
    ("beats freezing throughout", "german", {K8: GOOD, UNFROZEN: BAD}, REFUTED),
    ("Transfer (k = 0) beats", "german, 0.1 h", {v._replace(hours=0.1): e for v, e in ((K0, GOOD), (SCRATCH, BAD))},
     CONFIRMED),
    ("Freezing (k = 8) beats", "german, all", {K0: GOOD, K8: BAD}, REFUTED),
    ("preserves more of the base's", "german", {K0: {"old": 0.9}, K8: {"old": 0.7}}, CONFIRMED),
    ("preserves more of the base's", "german", {K0: {"old": 0.7}, K8: {"old": 0.9}}, REFUTED),
]  # fmt: skip


def every(study):
    return [*claims_of_cost.findings(study), *claims_of_quality.findings(study), *beyond.findings(study)]


def one(scale, claim, where):
    (found,) = [f for f in every(Study(scale)) if claim in f.claim and f.where == where]
    assert found.found and found.rule and found.section
    return found


@pytest.mark.parametrize(("claim", "where", "networks", "expected"), CASES)
def test_verdicts(scale, write, claim, where, networks, expected):
    for variant, course in networks.items():
        write("german", variant, **course)
    assert one(scale, claim, where).verdict == expected


def test_every_corpus_has_its_own_verdict(scale, write):
    write("german", K0, wrong=[1, 2] * 10, elsewhere=[4, 5] * 10)
    write("german", SCRATCH, wrong=[3, 4] * 10)
    assert one(scale, "scratch in LER", "de_dev").verdict == CONFIRMED
    assert one(scale, "scratch in LER", "de_test").verdict == REFUTED


def test_a_disagreeing_seed_leaves_it_undecided(scale, write):
    write("german", K0, seeds=[0], wrong=[0] * 20)
    write("german", K0, seeds=[1], wrong=[6] * 20)
    write("german", SCRATCH, wrong=[5] * 20)
    found = one(scale, "scratch in LER", "de_dev")
    assert found.verdict == UNDECIDED and found.found == (
        "-20.0 points of LER [-20.0, -20.0] over utterances (by seed -50.0, +10.0)"
    )


def test_seeds_missing_on_one_side_are_ignored(scale, write):
    write("german", K0, wrong=[1, 2] * 10)
    write("german", SCRATCH, seeds=[1], wrong=[3, 3] * 10)
    assert one(scale, "scratch in LER", "de_dev").found.startswith("-15.0 points of LER [")


@pytest.mark.parametrize(
    ("dutch", "mandarin", "expected"), [(1, 4, CONFIRMED), (4, 1, REFUTED), (3, 3, UNDECIDED), (None, 3, WAITING)]
)
def test_distance(scale, write, dutch, mandarin, expected):
    for language, wrong in (("dutch", dutch), ("mandarin", mandarin)):
        write(language, SCRATCH, wrong=[5, 6] * 10)
        if wrong is not None:
            write(language, K0, wrong=[wrong, wrong + 1] * 10)
    assert one(scale, "The more distant the language", "dutch and mandarin").verdict == expected
    assert one(scale, "Even for a distant language", "mandarin").verdict == CONFIRMED


def test_gains_by_the_amount_of_speech(scale, write):
    for hours, wrong in ((0.0, 4), (0.1, 2)):
        write("german", K0._replace(hours=hours), wrong=[wrong, wrong] * 10)
        write("german", SCRATCH._replace(hours=hours), wrong=[5, 5] * 10)
    found = one(scale, "The less training speech", "german")
    assert found.verdict == CONFIRMED and "LER reduction: all 20 %, 0.1 h 60 %; difference" in found.found


def test_gains_that_fall_with_less_speech(scale, write):
    for hours, wrong in ((0.0, 1), (0.1, 4)):
        write("german", K0._replace(hours=hours), wrong=[wrong, wrong] * 10)
        write("german", SCRATCH._replace(hours=hours), wrong=[5, 5] * 10)
    assert one(scale, "The less training speech", "german").verdict == REFUTED


def measured(scale, subject, **columns):
    path = Path(scale.out) / "benchmark" / f"{subject}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"title": subject, "columns": list(columns), "rows": list(zip(*columns.values(), strict=True))}
    path.write_text(json.dumps({"device": "1 × cpu", "tables": [table]}))


@pytest.mark.parametrize(
    ("seconds", "speed", "expected"),
    [
        ([4, 3, 2, 1, 1], [5, 5, 5, 5, 4], CONFIRMED),
        ([4, 3, 3.1, 1, 0.5], [5, 5, 4, 5, 4], CONFIRMED),  # one exception in the measured times
        ([4, 4.5, 3.1, 3.2, 0.5], [5, 4, 4, 3, 4], REFUTED),
        ([4, 3, 2, 1, 1], [5, 5, 5, 5, 5], REFUTED),  # FLOPs stay the same
    ],
)
def test_the_time_of_an_update(scale, seconds, speed, expected):
    measured(scale, "step", k=[0, 6, 8, 9, 10], seconds=seconds, **{"GFLOP/s": speed})
    found = one(scale, "falls almost monotonically", "one update")
    assert found.verdict == expected and f"k = 6: {seconds[1] / 4:.2f}" in found.found


@pytest.mark.parametrize(
    ("at_8", "falls", "halves"), [(50, CONFIRMED, CONFIRMED), (60, CONFIRMED, REFUTED), (70, REFUTED, REFUTED)]
)
def test_memory(scale, at_8, falls, halves):
    zero = [0] * 5
    measured(
        scale, "memory", k=[0, 6, 8, 9, 10], **{"temporary MiB": [100, 70, at_8, 20, 10], "held MiB": zero},
        **{"updated MiB": zero},
    )  # fmt: skip
    assert one(scale, "The more layers are frozen", "one update").verdict == falls
    assert one(scale, "Freezing 8 layers", "one update").verdict == halves


def test_only_the_selected_experiments_are_reported(scale):
    found = every(Study(scale))
    assert {f.section for f in found} >= {"6.1", "6.2", "6.3", "6.4", "6.6", "6.7", "6.8"}
    assert {f.verdict for f in found} == {NOT_TESTABLE, WAITING}
    assert {f.section for f in every(Study(dataclasses.replace(scale, only="figure6,memory")))} == {"6.3", "6.4"}
