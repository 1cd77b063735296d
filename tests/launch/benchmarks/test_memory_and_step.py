"""The tables of cost: well-formed, relative to k = 0, and falling with k."""

import json
from pathlib import Path

import pytest

import benchmarks
from benchmarks import SUBJECTS, BenchmarkOptions
from benchmarks import bench_memory as memory
from tests.conftest import launch

TINY = {"batch_size": 8, "seconds": 1, "labels": 8, "model.width": 4, "model.top_width": 64}


def columns(table):
    return [dict(zip(["k", "dtype", "remat", *map(str, range(20))], row, strict=False)) for row in table["rows"]]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "tables.json"
    options = [f"--{name}={value}" for name, value in TINY.items()]
    done = launch("benchmark.py", "--what=memory,step", "--repetitions=1", f"--out={out}", *options, cwd=out.parent)
    assert done.returncode == 0, done.stderr
    written = json.loads(out.read_text())["tables"]
    assert [f"### {table['title']}" in done.stdout for table in written] == [True, True]
    return written


@pytest.mark.slow
def test_every_setting_has_its_row(tables):
    for table in tables:
        assert "8 utterances of 1 s, 8 labels, width 4 and 64" in table["title"]
        assert [tuple(row[:3]) for row in table["rows"]] == [variant.cells for variant in memory.variants()]
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
        assert len(table["rows"]) == 20


@pytest.mark.slow
def test_ratios_are_to_k_0_of_the_same_settings(tables):
    for table, value in zip(tables, ("GFLOP", "seconds"), strict=True):
        at, ratio = table["columns"].index(value), table["columns"].index("to k = 0")
        for row in table["rows"]:
            (base,) = (other for other in table["rows"] if other[:3] == [0, *row[1:3]])
            assert row[ratio] == pytest.approx(row[at] / base[at])
            assert row[at] > 0


@pytest.mark.slow
def test_costs_fall_with_k(tables):
    table = tables[0]
    for name in ("GFLOP", "temporary MiB", "updated MiB"):
        at = table["columns"].index(name)
        for start in range(0, 20, 5):
            if table["rows"][start][2] == "off":
                values = [row[at] for row in table["rows"][start : start + 5]]
                assert values == sorted(values, reverse=True), name


def test_subjects():
    assert BenchmarkOptions(what=" memory, step").subjects == ("memory", "step")
    assert set(SUBJECTS) == {path.stem[6:] for path in Path(benchmarks.__file__).parent.glob("bench_*.py")}
