"""`benchmark.py --what=gpu` on a CPU: measures every part that a CPU has, and stops when time is up."""

import json
import time

import jax
import pytest

from benchmarks import BenchmarkOptions, bench_gpu
from tests.conftest import launch


def test_every_part_on_a_cpu(tmp_path):
    out = tmp_path / "found.json"
    done = launch("benchmark.py", "--what=gpu", "--small", "--minutes=5", f"--out={out}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    written = json.loads(last)
    assert written == json.loads(out.read_text())
    tables = {table["title"]: [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
              for table in written["tables"]}  # fmt: skip
    assert "failed" not in tables, tables["failed"]
    order = [
        "machine",
        "ceilings",
        "CTC and its gradient",
        "compilation, all at once",
        "an update",
        "input",
        "training",
    ]
    assert [name for name in tables if name in order] == order and list(tables)[-1] == "kernels"
    assert [row["k"] for row in tables["an update"]] == [0, 8]
    assert len(tables["compilation, all at once"]) == 4
    for row in tables["an update"]:
        assert row["ms"] > 0 and row["temporary MiB"] > 0 and 0 < float(row["of the product's"][:-1]) < 100
    assert [(row["features"], row["resident"]) for row in tables["input"]] == [
        (features, resident) for features in ("as it is", "every augmentation") for resident in ("off", "on")
    ]
    *kernels, total = tables["kernels"]
    times = [row["ms per update"] for row in kernels]
    if jax.__version_info__ <= (0, 7, 1):  # its CPU backend traces no operations
        assert not kernels and total["kernel"].startswith("none was traced")
        return
    assert len(kernels) == 15 and times == sorted(times, reverse=True) and sum(times) <= total["ms per update"]
    # Each line was printed as soon as it was known.
    assert done.stderr.count("\n") >= sum(map(len, tables.values()))


def endless(options, folder, seconds, connection):
    connection.send(("first", {"number": 1.5}))
    time.sleep(600)


def failing(options, folder, seconds, connection):
    connection.send(("first", {"number": 1.5}))
    raise SystemExit(3)


@pytest.mark.parametrize(("measure", "why"), [(endless, "time is up"), (failing, "exit code 3")])
@pytest.mark.slow
def test_finished_measurements_are_not_lost(monkeypatch, measure, why):
    monkeypatch.setattr(bench_gpu, "measure", measure)
    monkeypatch.setattr(bench_gpu, "_RESERVE", 0)
    reports, started = [], time.monotonic()
    (table,) = bench_gpu.run(BenchmarkOptions("gpu", minutes=0.3), reports.append)
    assert time.monotonic() - started < 25
    assert (table.title, table.columns, table.rows) == ("first", ("number",), ((1.5,),))
    assert reports[0] == "first: number 1.5" and why in reports[-1]
