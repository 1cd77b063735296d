"""A dataset prepared in parts, as by several machines with a shared folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from w2l_jax.dataset.prepare import PrepareConfig, prepare, prepare_part
from w2l_jax.errors import UserError

ROOT = Path(__file__).parents[2]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory, utterances):
    out = tmp_path_factory.mktemp("reference") / "p"
    prepare(utterances, out, workers=1, shard_size=5)
    return content(out)


def write(utterances, out, i, n, config=PrepareConfig()):
    return prepare_part(utterances, out, config, (i, n), workers=1, shard_size=5)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 1, 0, 2)])
def test_the_last_part_writes_the_index(utterances, reference, tmp_path, order):
    results = [write(utterances[:: 1 - 2 * (i % 2)], tmp_path / "p", i, 3) for i in order]
    assert results[:-1] == [None] * (len(order) - 1)
    assert results[-1].fingerprint
    assert content(tmp_path / "p") == reference
    # Idempotent: any part that runs again finds the work done.
    assert write(utterances, tmp_path / "p", 1, 3).fingerprint == results[-1].fingerprint
    assert content(tmp_path / "p") == reference


def test_a_part_writes_only_its_own_shards(utterances, tmp_path):
    write(utterances, tmp_path / "p", 1, 2)
    names = {path.name for path in (tmp_path / "p").iterdir() if not path.name.startswith(".")}
    shards = [f"shard-0000{i}-of-00005.array_record" for i in (1, 3)]
    assert names == {*shards, *(f"{name}.jsonl" for name in shards)}


def test_more_parts_than_shards(utterances, reference, tmp_path):
    results = [write(utterances, tmp_path / "p", i, 9) for i in range(9)]
    assert [result is None for result in results] == [True] * 4 + [False] * 5
    assert content(tmp_path / "p") == reference


def test_shards_that_another_part_is_writing_are_left_alone(utterances, tmp_path):
    out = tmp_path / "p"
    write(utterances, out, 0, 2)
    (out / ".shard-00001-of-00005.array_record.tmp").write_bytes(b"half")
    (out / "shard-00002-of-00005.array_record.jsonl").unlink()
    (out / ".shard-00002-of-00005.array_record.tmp").write_bytes(b"half")
    write(utterances, out, 0, 2)
    assert (out / ".shard-00001-of-00005.array_record.tmp").exists()
    assert not (out / ".shard-00002-of-00005.array_record.tmp").exists()
    assert write(utterances, out, 1, 2) is not None


def test_a_command_without_parts_writes_the_missing_ones(utterances, reference, tmp_path):
    write(utterances, tmp_path / "p", 2, 3)
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "p").glob("*.array_record")}
    prepare(utterances, tmp_path / "p", workers=1, shard_size=5)
    assert content(tmp_path / "p") == reference
    assert {name: (tmp_path / "p" / name).stat().st_mtime_ns for name in times} == times


def test_parts_of_other_input_are_not_mixed(utterances, tmp_path):
    write(utterances, tmp_path / "p", 0, 2)
    for others, config in ((utterances[1:], PrepareConfig()), (utterances, PrepareConfig(max_seconds=30))):
        with pytest.raises(UserError, match="other input or options"):
            write(others, tmp_path / "p", 1, 2, config)


def test_parts_run_concurrently(corpus, reference, tmp_path):
    """Processes for two parts, and a second process for the first part: one writes it, and all agree."""
    code = (
        "import sys; from w2l_jax.corpora import manifest\n"
        "from w2l_jax.dataset.prepare import PrepareConfig, prepare_part\n"
        f"us = manifest.read({str(corpus)!r})\n"
        "d = prepare_part(us, sys.argv[1], PrepareConfig(), (int(sys.argv[2]), 2), workers=1, shard_size=5)\n"
        "print(d and len(d))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "p"), part],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for part in "010"
    ]
    reports = [process.communicate()[0].strip() for process in started]
    assert set(reports) <= {"24", "None"} and "24" in reports
    assert content(tmp_path / "p") == reference
