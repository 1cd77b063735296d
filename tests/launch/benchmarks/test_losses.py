import numpy as np

import benchmarks
from benchmarks import BenchmarkOptions


def test_losses_are_timed_and_compared_with_float64():
    options = BenchmarkOptions(what="losses", batch_size=3, seconds=4.0, labels=60, repetitions=1)
    (table,) = benchmarks.subject("losses")(options, lambda line: None)
    rows = {name: values for name, *values in table.rows}
    assert {"CTC, optax", "CTC, ours", "ASG"} <= set(rows)
    assert rows["CTC, optax"][1] == rows["CTC, optax"][3] == rows["CTC, optax"][5] == 1
    for name in ("CTC, optax", "CTC, ours"):
        assert 0 < rows[name][4] < 1e-3, "the gradient is far from float64's"
    assert rows["CTC, ours"][5] > 10
    assert np.isfinite([rows[name][0] for name in rows]).all()
    assert ("CTC, torch" in rows) != ("torch is not installed" in table.note)
