"""A sample of all faults in a few seconds; the full table is slow."""

import numpy as np
import pytest

from tests.chaos.__main__ import main
from tests.chaos.faults import SURVIVED, TRACEBACK, WRONG, Findings
from w2l_jax.errors import UserError


@pytest.mark.parametrize("kind", ["fuzz", "corrupt"])
def test_a_slice(kind, capsys):
    bad = main([f"--only={kind}", "--seed=1", "--scale=0.02"])
    assert bad == 0, capsys.readouterr().out


@pytest.mark.slow
def test_everything(capsys):
    bad = main(["--seed=0", "--scale=0.3"])
    assert bad == 0, capsys.readouterr().out


def test_outcomes_are_classified():
    """Tests the harness: wrong results, other exceptions and endless loops do not count as success."""
    findings = Findings("any")
    outcomes = {SURVIVED: lambda: 3, WRONG: lambda: 4, TRACEBACK: lambda: 1 / 0, "refused": _refuse}
    for outcome, read in outcomes.items():
        findings.attempt(read, 3)
        assert findings.counts[outcome] == 1 and findings.counts.total() == len(findings.counts)
    assert [line.split(": ")[1] for line in findings.bad] == [WRONG, TRACEBACK]
    findings.attempt(lambda: np.pi)
    assert findings.counts[SURVIVED] == 2


def _refuse():
    raise UserError("no")
