"""Subjects measured at a size that costs nothing: tables with sensible numbers in them."""

import pytest

import benchmarks
from benchmarks import BenchmarkOptions
from w2l_jax.model import ModelConfig

TINY = {"repetitions": 2, "batch_size": 2, "seconds": 0.5, "labels": 8, "model": ModelConfig(8, 12)}


@pytest.mark.parametrize("name", ["features", "loop", pytest.param("input", marks=pytest.mark.slow)])
def test_tables_have_sensible_numbers(name):
    tables = benchmarks.subject(name)(BenchmarkOptions(what=name, **TINY), lambda line: None)
    for table in tables:
        assert len(table.rows) == (6 if table.title.startswith("Input") else 2) and table.markdown().count("|\n") >= 3
        for row in table.rows:
            assert len(row) == len(table.columns)
            assert all(value > 0 for value in row if isinstance(value, float))
    if name == "input":
        assert all(row[-1].endswith("%") and 0 <= float(row[-1][:-1]) < 100 for row in tables[1].rows)
