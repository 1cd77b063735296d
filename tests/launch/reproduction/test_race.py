import math

import numpy as np
import pytest

from reproduction import curves, inventory, race
from reproduction.grid import K0, K8, SCRATCH, UNFROZEN, Cell, Variant
from reproduction.study import Study


def german(scale):
    return scale.languages[0]


def test_the_time_at_which_a_curve_reaches_a_loss():
    curve = np.array([(10, 100.0), (20, 80), (30, 90), (40, 40)])
    assert race.to_reach(curve, 90) == 15  # halfway between evaluations
    assert race.to_reach(curve, 80) == 20
    assert race.to_reach(curve, 60) == pytest.approx(36)
    assert race.to_reach(curve, 120) == 10  # reached at the first evaluation
    assert race.to_reach(curve, 39) == math.inf


def test_rows_of_curves(scale, write):
    write("german", K8, seeds=[1], loss=lambda step: float(step), seconds=6.0, flops=3e12)
    rows = curves.rows(Study(scale), Cell(german(scale), K8, 1))
    train, dev = ([row for row in rows if row["kind"] == kind] for kind in ("train", "dev"))
    assert [row["update"] for row in dev] == list(range(10, 101, 10))
    # Medians of the ten updates around the end of each block; batches have half of the certificate's frames.
    assert [row["update"] for row in train] == list(range(10, 91, 10))
    assert [row["loss"] for row in train] == [step + 0.5 for step in range(10, 91, 10)]
    assert train[1] == {
        "network": "k = 8", "seed": 1, "kind": "train", "update": 20, "minutes": 2.0, "TFLOP": pytest.approx(30),
        "loss": 20.5, "LER (%)": None, "WER (%)": None,
    }  # fmt: skip
    assert dev[-1]["LER (%)"] == 50 and dev[-1]["loss"] == 100 and dev[-1]["TFLOP"] == pytest.approx(150)
    assert curves.smoothing(2000) == 200 and curves.smoothing(50) == 10


def test_one_exploding_batch_does_not_change_the_curve(scale, write):
    strange = {55: 1e6, 56: float("nan")}
    write("german", K8, seeds=[0], loss=lambda step: strange.get(step, 100.0))
    rows = curves.rows(Study(scale), Cell(german(scale), K8, 0))
    assert {row["loss"] for row in rows if row["kind"] == "train"} == {100.0}
    (run,) = inventory.runs(Study(scale)).rows
    assert run["largest training loss"] == 1e6


def test_work_before_unfreezing_has_its_own_cost(scale, write):
    write("german", UNFROZEN, seeds=[0])
    path = scale.run(Cell(german(scale), UNFROZEN, 0)) / "certificate.json"
    path.write_text('{"flops": 6e12, "frames": 1000, "before_unfreezing": {"flops": 2e12, "frames": 500}}')
    work = curves.work(Study(scale), Cell(german(scale), UNFROZEN, 0))
    assert work[50] == pytest.approx(50 * 2) and work[100] == pytest.approx(50 * 2 + 50 * 3)


def test_head_starts(scale, write):
    write("german", K0, loss=lambda step: 200 - 4 * step, flops=4e12, seconds=0.5)
    write("german", SCRATCH, loss=lambda step: 200 - step, flops=2e12)
    study = Study(scale)
    # The other's loss of 100 after 100 updates is reached after 25, each with twice the work and half the time.
    for clock, expected in (("update", 0.25), ("TFLOP", 0.5), ("minutes", 0.125)):
        found = race.head_start(study, german(scale), K0, SCRATCH, clock)
        assert found.seeds == pytest.approx((expected, expected)), clock
    never = race.head_start(study, german(scale), SCRATCH, K0, "TFLOP")
    assert never.value == math.inf


def test_incomplete_networks_are_not_compared(scale, write):
    write("german", K0)
    write("german", SCRATCH, finished=False)
    assert race.head_start(Study(scale), german(scale), K0, SCRATCH, "TFLOP") is None


def test_shares_of_time_with_a_lower_loss(scale, write):
    six, nine = Variant(6), Variant(9)
    write("german", K0, loss=lambda step: 100.0)
    write("german", six, loss=lambda step: 110 - step / 5)  # equal after 50 updates, and lower afterwards
    write("german", nine, loss=lambda step: 150.0)
    study, language = Study(scale), german(scale)
    assert race.outperformed(study, language, K0, [six, nine], "update").value == pytest.approx(50, abs=3)
    assert race.outperformed(study, language, six, [K0, nine], "update").value == pytest.approx(50, abs=3)
    assert race.outperformed(study, language, nine, [K0, six], "update").value == 100
    # One of three pairs is out of order half of the time.
    assert race.out_of_order(study, language, [K0, six, nine], "update").value == pytest.approx(50 / 3, abs=1)
    assert race.out_of_order(study, language, [nine, six, K0], "update").value == pytest.approx(100 - 50 / 3, abs=1)
    # Networks with more work per update are compared over the work that both have done.
    write("german", K8, loss=lambda step: 101.0, flops=1e12)
    assert race.outperformed(Study(scale), language, K0, [K8], "TFLOP").value == 0
