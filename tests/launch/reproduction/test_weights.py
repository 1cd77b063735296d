import dataclasses
import json

import pytest

from introspection.weight_claims import Claim
from reproduction import weights
from reproduction.evidence import CONFIRMED, NOT_TESTABLE, REFUTED, UNDECIDED, WAITING
from reproduction.grid import K0, Cell
from reproduction.study import Study


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([True, True], CONFIRMED), ([False, False], REFUTED), ([True, False], UNDECIDED), ([None, None], NOT_TESTABLE),
        ([True], CONFIRMED),
    ],
)  # fmt: skip
def test_seeds_must_agree(scale, monkeypatch, answers, expected):
    monkeypatch.setattr(weights, "_seeds", lambda *_: [(answer,) for answer in answers])
    monkeypatch.setattr(weights, "_measured", lambda holds: holds)
    monkeypatch.setattr(weights.of_weights, "claims", lambda holds: [Claim("a", "b", "c.", holds, "d", {})])
    first, filters = weights.findings(Study(scale))
    assert (first.section, first.claim, first.where, first.verdict) == ("6.5", "b", "german", expected)
    assert filters.verdict == NOT_TESTABLE
    assert first.found == (f"d; the same in {answers.count(answers[0])} of 2 seeds" if len(answers) == 2 else "d")


def test_claims_wait_for_missing_networks(scale, write):
    write("german", K0, seeds=[0], finished=False)
    assert [finding.verdict for finding in weights.findings(Study(scale))] == [WAITING, NOT_TESTABLE]
    assert weights.figures(Study(scale), 7) == weights.figures(Study(scale), 8) == ""
    # Complete, but its checkpoints have been deleted.
    pointer = scale.run(Cell(scale.languages[0], K0, 0)) / "checkpoints" / "checkpoints.json"
    pointer.write_text(json.dumps({"last": 100, "finished": True}))
    assert weights.figures(Study(scale), 7) == ""
    assert list(weights.findings(Study(dataclasses.replace(scale, only="figure2")))) == []
