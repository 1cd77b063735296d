import os

import pytest

from w2l_jax import workers


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 64), ("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), (None, 64), ("odd", 64)],
)
def test_usable_cores_are_those_of_the_process_and_its_container(tmp_path, monkeypatch, quota, cores):
    monkeypatch.setattr(workers, "_CGROUP", tmp_path / "cpu.max")
    if quota:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert workers.usable_cores() == cores
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert workers.usable_cores() == cores
