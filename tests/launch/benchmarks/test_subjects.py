"""Subjects measured at a tiny size: their tables hold plausible numbers."""

import pytest

import benchmarks
from benchmarks import BenchmarkOptions
from w2l_jax.model import ModelConfig

TINY = {"repetitions": 2, "batch_size": 2, "seconds": 0.5, "labels": 8, "model": ModelConfig(8, 12)}


@pytest.mark.parametrize("name", ["features", "loop", pytest.param("input", marks=pytest.mark.slow)])
def test_tables_have_sensible_numbers(name):
    tables = benchmarks.subject(name)(BenchmarkOptions(what=name, **TINY), lambda line: None)
    for table in tables:
        assert len(table.rows) == (5 if table.title.startswith("Input") else 2) and table.markdown().count("|\n") >= 3
        for row in table.rows:
            assert len(row) == len(table.columns)
            assert all(value > 0 for value in row if isinstance(value, float))
    if name == "input":
        assert all(row[-1].endswith("%") and 0 <= float(row[-1][:-1]) < 100 for row in tables[1].rows)


@pytest.mark.slow
def test_a_stream_against_the_whole_recording(tones):
    options = BenchmarkOptions(what="live", data=str(tones / "dev.jsonl"), limit=3, minutes=0.2, **TINY)
    cost, latency, rates = benchmarks.subject("live")(options, lambda line: None)
    assert len(cost.rows) == 2 and all(0 < cores < 10 for _, cores, *_ in cost.rows)
    assert all(0 < middle <= most < 3 for _, _, _, middle, _, most in latency.rows)
    assert [pause for pause, *_ in rates.rows] == [0.0, 1.5, 6.0]
    for pause, minutes, *letters, _ in rates.rows:
        assert len(letters) == 4 and all(rate > 0 for rate in letters)
        assert minutes == pytest.approx(rates.rows[0][1] + 3 * pause / 60)
