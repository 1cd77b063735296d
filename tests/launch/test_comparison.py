import contextlib
import errno
import json
from pathlib import Path

import matplotlib.figure
import pytest

from pages import comparison, html
from w2l_jax.alphabet import preset
from w2l_jax.errors import UserError
from w2l_jax.run import Run
from w2l_jax.training.options import TrainOptions


def run(folder, texts, minutes, lers):
    """A run with decoded utterances (each with the text 'abcd') and evaluations every 100 updates."""
    Run.create(folder, TrainOptions(), preset("en"))
    (folder / "decode").mkdir()
    records = [
        {"id": f"u{i}", "speaker": f"s{i}", "expected": "abcd", "greedy": text, "predicted": text}
        for i, text in enumerate(texts)
    ]
    (folder / "decode" / "dev.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    lines = []
    for i, ler in enumerate(lers, start=1):
        seconds = 60 * minutes * i / len(lers)
        lines.append({"kind": "train", "step": 100 * i, "seconds": seconds, "loss": 9.0})
        lines.append({"kind": "dev", "step": 100 * i, "seconds": seconds, "loss": 8.0, "ler": ler, "wer": 1.0})
    lines.append({"kind": "frozen", "step": 100 * len(lers), "layers": [1], "arrays": 2, "unchanged": True})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def two(tmp_path):
    adapted = run(tmp_path / "adapted", ["abcd"] * 6 + ["abcx"] * 6, 2, [0.5, 0.3, 0.2, 0.1])
    fresh = run(tmp_path / "fresh", ["abxx"] * 12, 4, [0.9, 0.8, 0.7, 0.5])
    return [comparison.read(folder, "dev") for folder in (adapted, fresh)]


def test_rates_and_differences_by_hand(two):
    adapted, _, fresh, _ = comparison.rates(two)
    assert (adapted["run"], adapted["updates"], adapted["minutes"], adapted["search"]) == (
        "adapted", "400", "2.0", "greedy",
    )  # fmt: skip
    assert adapted["LER"].startswith("12.5% [") and fresh["LER"] == "50.0% [50.0, 50.0]"
    greedy, beam = comparison.differences(two, two[1])
    assert greedy["run"] == "adapted − fresh" and beam["search"] == "with LM"
    assert greedy["LER"].startswith("-37.5 [-") and greedy["WER"].startswith("-50.0 [-")
    assert comparison.units(two) == "speakers"


def test_equal_time_is_that_of_the_shortest_run(two):
    adapted, fresh = comparison.at_equal_time(two)
    assert (adapted["updates"], adapted["LER"]) == ("400", "10.0%")
    assert (fresh["updates"], fresh["minutes"], fresh["LER"]) == ("200", "2.0", "80.0%")


def test_tables_and_pictures(two, tmp_path):
    table = comparison.markdown(comparison.rates(two)).splitlines()
    assert table[0].startswith("| run | updates") and table[1].count("---") == table[2].count("|") - 1
    comparison.plot(two, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_runs_that_cannot_be_compared(two, tmp_path):
    with pytest.raises(UserError, match=r"first: python launch/decode\.py"):
        comparison.read(tmp_path / "adapted", "other")
    few = run(tmp_path / "few", ["abcd"], 1, [0.1])
    with pytest.raises(UserError, match="different utterances"):
        comparison.differences([comparison.read(few, "dev")], two[1])


WRITES = {
    "curves": lambda two, path: comparison.plot(two, path),
    "figure": lambda two, path: html.save(path, (1, 1), lambda figure: None),
}


@pytest.mark.parametrize("figure", WRITES)
def test_pictures_are_written_atomically(two, tmp_path, monkeypatch, figure):
    def half(self, file, **options):
        with open(file, "wb") if isinstance(file, Path) else contextlib.nullcontext(file) as opened:
            opened.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "p").mkdir()
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", half)
    with pytest.raises(OSError, match="No space left"):
        WRITES[figure](two, tmp_path / "p" / "a.png")
    assert list((tmp_path / "p").iterdir()) == []
