"""launch/plan.py as a user runs it: the recommended command line trains."""

import shlex

import pytest

from tests.conftest import ROOT, launch

BUDGET = ["--hours=0.02", "--memory=2GB", "--batch_size=8"]


@pytest.fixture(scope="module")
def place(tones, tmp_path_factory):
    """A folder with a small English run, and options for adapting it to German."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "small.toml").write_text("learning_rate = 3e-3\n[data]\nbuckets = 1\nworkers = 1\n")
    done = launch(
        "train.py", "--config=small.toml", f"--data.train={tones}/train.jsonl", "--run=base", "--steps=1",
        "--batch_size=8", "--model.width=8", "--model.top_width=16", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_a_plan_whose_recommendation_runs(place, tones):
    plan = [f"--data={tones}/german.jsonl", "--init=base", "--train_config=small.toml", "--frozen_layers=9", *BUDGET]
    done = launch("plan.py", *plan, cwd=place)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "| float32 |" in line]
    rows = [[cell.strip().replace(",", "") for cell in line.split("|")[1:-1]] for line in lines]
    assert [(row[0], row[3]) for row in rows] == [("9", "no"), ("9", "yes")]
    for _, _, _, cached, _, fits, _, gigabytes, seconds, updates, epochs, fill_minutes, _ in rows:
        assert fits == "yes" and 0 < float(gigabytes) < 2
        left = 72 - (60 * float(fill_minutes) if cached == "yes" else 0)
        assert float(updates) == pytest.approx(left / float(seconds), rel=0.02)
        assert float(epochs) == pytest.approx(float(updates) * 8 / 24, rel=0.01)
    command = next(shlex.split(line) for line in done.stdout.splitlines() if line.startswith("  python "))
    assert (place / command[1]).resolve() == ROOT / "launch" / "train.py"
    assert {"--config=small.toml", "--init=base", "--frozen_layers=9", "--batch_size=8"} < set(command)
    trained = launch("train.py", *command[2:], "--steps=2", cwd=place)
    assert trained.returncode == 0, trained.stderr
    assert "2 steps are done" in trained.stdout


def test_too_little_memory_or_time_says_what_would_be_enough(place, tones):
    plan = [f"--data={tones}/german.jsonl", "--init=base", "--train_config=small.toml", "--frozen_layers=0"]
    done = launch("plan.py", *plan, "--hours=1", "--memory=50kB", "--batch_size=1", cwd=place)
    assert done.returncode == 1 and "nothing fits" in done.stderr and "the least is" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hours=1"], "no data"),
        (["--data=none.jsonl", "--hours=1"], "none.jsonl"),
        (["--data=none.jsonl", "--hours=1", "--init=nowhere"], "nowhere"),
    ],
)
def test_bad_options_stop_before_any_work(tmp_path, arguments, message):
    done = launch("plan.py", *arguments, cwd=tmp_path)
    assert done.returncode in (1, 2) and message in done.stderr and "Traceback" not in done.stderr
