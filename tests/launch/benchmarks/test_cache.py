"""The benchmark of the cache at a small size: its exact numbers."""

import pytest

from benchmarks import BenchmarkOptions
from benchmarks import bench_cache as cache
from w2l_jax.model import ModelConfig


@pytest.mark.slow
def test_it_compares_updates_with_and_without(monkeypatch):
    monkeypatch.setattr(cache, "_CACHED", (10,))
    options = BenchmarkOptions(
        "cache", repetitions=1, batch_size=4, seconds=2.0, labels=20, model=ModelConfig(8, 512)
    )  # fmt: skip
    reports = []
    (table,) = cache.run(options, reports.append)
    assert [row[:2] for row in table.rows] == [(0, "no"), (10, "no"), (10, "yes")]
    full, plain, cached = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert full["× k = 0"] == plain["× same k uncached"] == 1
    assert cached["× k = 0"] == pytest.approx(cached["updates/s"] / full["updates/s"])
    assert cached["× same k uncached"] == pytest.approx(cached["updates/s"] / plain["updates/s"])
    assert plain["MB read per update"] == pytest.approx(4 * 250 * 128 * 2 / 1e6)
    assert cached["MB read per update"] == pytest.approx(4 * 125 * 512 * 2 / 1e6)
    # 62.5 frames per second, and the record files' overhead, which is large for eight utterances.
    hour = 3600 * 62.5 * 512 * 2 / 1e9
    assert hour < cached["GB on disk per hour of speech"] < 1.3 * hour
    assert any(
        "activations of layer 10 for 8 utterances: 1.02 MB (0.23 GB per hour of speech)" in line for line in reports
    )
