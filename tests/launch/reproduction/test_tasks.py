import contextlib
import dataclasses
import json
import shlex
import subprocess
import sys
import types

import pytest

from reproduction import tasks
from reproduction.grid import K0, K8, REINITIALIZED, SCRATCH, UNFROZEN
from reproduction.tasks import Diary, Task
from tests.conftest import ROOT
from w2l_jax import files
from w2l_jax.errors import UserError

sys.path.insert(0, str(ROOT / "launch"))
import reproduce


def by_name(scale):
    every = tasks.tasks(scale)
    names = [task.name for task in every]
    assert len(set(names)) == len(names)
    assert {need for task in every for need in task.needs} - {"base"} <= set(names)
    return {task.name: task for task in every}


def options(task):
    script, *arguments = task.command()
    pairs = [argument.partition("=") for argument in arguments]
    return {"script": script} | {name.removeprefix("--"): value for name, _, value in pairs}


def test_commands_of_networks(scale):
    every = by_name(dataclasses.replace(scale, scratch_arguments=("--model.width=8",)))
    k0 = options(every["german_k0_seed1"])
    assert (k0["script"], k0["frozen_layers"], k0["seed"], k0["steps"]) == ("train.py", "0", "1", "100")
    assert k0["init"] == "english" and k0["log.keep_steps"] == "10" and "data.train_hours" not in k0
    assert k0["data.old_dev"].endswith("en_dev.jsonl") and k0["data.train"].endswith("de_train.jsonl")
    scratch = options(every["german_scratch_seed0"])
    assert "from_scratch" in scratch and scratch["model.width"] == "8" and "init" not in scratch
    reinitialized = options(every["german_k8_reinitialized_seed0"])
    assert "reinitialize" in reinitialized and reinitialized["frozen_layers"] == "8"
    assert options(every["german_k8_unfrozen_seed0"])["freeze.unfreeze_after"] == "50"
    few = options(every["german_k8_0.1h_seed0"])
    assert few["data.train_hours"] == "0.1" and "data.old_dev" not in few
    decode = options(every["decode german_k8_seed0 on de_test"])
    assert decode["checkpoint"] == "last" and "table" in decode and decode["out"].endswith("decode/de_test.jsonl")
    assert "--resume" not in every["german_k0_seed0"].command()


def test_only_selected_experiments_run(scale):
    names = set(by_name(dataclasses.replace(scale, only="figure2")))
    trained = {f"german_{v.name}_seed{s}" for v in (K8, REINITIALIZED) for s in (0, 1)}
    decoded = {f"decode {name} on {data}" for name in trained for data in ("de_dev", "de_test")}
    assert names == trained | decoded | {"decode base", "language model german"}
    assert "measure step" in by_name(dataclasses.replace(scale, only="figure4"))
    assert {UNFROZEN, SCRATCH, K0} <= {cell.variant for cell in dataclasses.replace(scale, only="unfreezing").cells()}


def test_finished_tasks_are_skipped_and_started_ones_resumed(scale, write):
    write("german", K8, seeds=[0])
    write("german", K0, seeds=[0], finished=False)
    every = by_name(scale)
    assert every["german_k8_seed0"].done() and every["decode german_k8_seed0 on de_dev"].done()
    assert not every["german_k0_seed0"].done() and "--resume" in every["german_k0_seed0"].command()
    assert not every["german_k8_seed1"].done()


def task(name, kind, done, weight=1.0):
    return Task(name, lambda: ("train.py", f"--run={name} x"), lambda: done, kind, weight)


def test_the_diary_forecasts_by_kind_and_sort(tmp_path):
    diary = Diary(tmp_path / "deep")
    every = [
        task("a", "train german k8", True, 100), task("b", "train german k8", False, 200),
        task("c", "train german k0", False, 100),
    ]  # fmt: skip
    assert diary.left(every) is None
    diary.add(every[0], 20)
    diary.add(every[0], 30)  # after an interruption
    assert json.loads((tmp_path / "deep" / "seconds.json").read_text()) == {"a": 50}
    # Half a second per update: 200 updates of the same kind, and 100 of another kind of the same sort.
    assert Diary(tmp_path / "deep").left(every) == pytest.approx(100 + 50)
    assert diary.left([*every, task("d", "decode de_dev", False)]) is None


def test_results_of_other_commands_are_refused(tmp_path):
    def train_task(*options, done=True):
        return Task("k8", lambda: ("train.py", f"--config={ROOT}/configs/a.toml", *options), lambda: done, "train")

    Diary(tmp_path).add(train_task("--steps=100", "--resume"), 1.0)
    Diary(tmp_path).check([train_task("--steps=100"), task("b", "train", True)])
    Diary(tmp_path).check([train_task("--steps=200", done=False)])  # which train.py checks itself
    with pytest.raises(UserError, match=r"(?s)k8 exists, but was made by another.*--steps=100\n  now: .*--steps=200"):
        Diary(tmp_path).check([train_task("--steps=200")])

    def gone():
        raise UserError("neither a nor a.jsonl exists")

    Diary(tmp_path).check([Task("k8", gone, lambda: True, "train")])  # whose result exists, but no longer its data


@pytest.fixture
def ran(scale, monkeypatch, capsys):
    """Runs the grid of figure 2 with fake commands, of which those in `fails` fail."""

    def run(*arguments, fails=()):
        called = []

        def call(command, pass_fds):
            called.append(command[1:])
            name = next((a.partition("=")[2] for a in command if a.startswith("--run=")), "")
            failed = any(name.endswith(part) for part in fails)
            made = [a.partition("=")[2] for a in command if a.startswith("--out=")]
            if not failed and "train.py" in command[1]:
                (folder := reproduce.Path(name) / "checkpoints").mkdir(parents=True)
                (folder / "checkpoints.json").write_text('{"finished": true}')
                (folder.parent / "run.json").write_text('{"format": 1}')
            elif not failed and made:
                out = reproduce.Path(made[0])
                (out if "build_lm" in command[1] else out.parent).mkdir(parents=True, exist_ok=True)
                (out / "card.json" if "build_lm" in command[1] else out.with_suffix(".summary.json")).write_text("[]")
            return contextlib.nullcontext(types.SimpleNamespace(wait=lambda: 3 if failed else 0))

        options = dataclasses.replace(scale, only="figure2", dry_run="--dry_run" in arguments)
        monkeypatch.setattr(reproduce.cli, "parse", lambda *_, **__: options)
        monkeypatch.setattr(reproduce.subprocess, "Popen", call)
        try:
            reproduce.main(list(arguments))
        except UserError as error:
            return called, f"{capsys.readouterr().out}\n{error}"
        return called, capsys.readouterr().out

    return run


def test_a_failed_cell_does_not_stop_the_rest(ran, scale):
    called, out = ran(fails=["german_k8_seed0"])
    # The base decoded, a language model, four trainings (one fails), and the other three decoded on two data sets.
    assert len(called) == 2 + 4 + 6
    assert "stopped with exit code 3; continuing with the rest" in out and "not done: german_k8_seed0" in out
    assert "decode german_k8_seed0 on de_dev: skipped, since german_k8_seed0 is missing" in out
    assert (reproduce.Path(scale.out) / "index.html").is_file()
    called, out = ran()
    assert len(called) == 1 + 2 and "14 tasks, 3 left" in out and "not done" not in out
    called, out = ran()
    assert called == [] and "14 tasks, 0 left" in out


def test_a_dry_run_shows_commands_to_paste_and_does_nothing(ran, scale):
    called, out = ran("--dry_run")
    assert called == [] and not reproduce.Path(scale.out).exists()
    commands = [line for line in out.splitlines() if line.startswith("python launch/")]
    assert len(commands) == 14 and sum("train.py" in line for line in commands) == 4
    assert f"--run={scale.out}/runs/german_k8_seed0" in shlex.split(commands[2])


def test_missing_data_are_reported_before_anything_runs(ran, scale):
    (reproduce.Path(scale.data) / "de_test.jsonl").unlink()
    called, out = ran()
    assert called == [] and "neither" in out and "de_test" in out


def test_one_at_a_time(ran, scale):
    with files.locked(reproduce.Path(scale.out), "busy"):
        called, out = ran()
        assert called == [] and "another reproduce.py" in out
    called, _ = ran()
    assert called


def test_a_failing_intermediate_report_does_not_stop_the_grid(ran, monkeypatch):
    calls = []

    def write(scale):
        calls.append(scale)
        if len(calls) == 1:
            raise ValueError("no such curve")
        return "index.html"

    monkeypatch.setattr(reproduce.page, "write", write)
    called, out = ran()
    assert len(called) == 14 and "no such curve" in out and "report: index.html" in out


SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), open(sys.argv[1], "w").close(), sys.exit(0)))
print("ready", flush=True)
time.sleep(30)
"""


def test_stopping_waits_until_the_command_has_saved(tmp_path):
    """A process that runs `call` is stopped while its command takes a while to save."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    program = (
        f"import sys, pathlib; sys.path.insert(0, {str(ROOT / 'launch')!r}); import reproduce\n"
        "from reproduction.tasks import Diary, Task\n"
        f"reproduce.HERE = pathlib.Path({str(tmp_path)!r})\n"
        f"task = Task('t', lambda: ('sleeper.py', {str(tmp_path / 'saved')!r}), lambda: False, 'train')\n"
        f"reproduce.call(task, Diary(reproduce.HERE), open({str(tmp_path / 'lock')!r}, 'w'))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert any(line.startswith("ready") for line in process.stdout)
    process.terminate()
    assert process.wait(timeout=60) == 128 + 15
    assert (tmp_path / "saved").exists() and "t" in Diary(tmp_path).seconds
