"""Updates distributed over devices and processes: the same as on one device, with a single writer."""

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from tests.conftest import ROOT, launch
from tests.training_options import train_options
from w2l_jax import model
from w2l_jax.dataset.batches import Batch
from w2l_jax.errors import UserError
from w2l_jax.model import ModelConfig
from w2l_jax.run import Run
from w2l_jax.training.certificate import certify
from w2l_jax.training.devices import Devices, distributed
from w2l_jax.training.options import AugmentOptions
from w2l_jax.training.step import StepConfig, init_state, make_step, split_rows

EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
CONFIG = ModelConfig(width=8, top_width=12)
MELS, ROWS, FRAMES = 6, 16, 32


def batch() -> Batch:
    """Empty rows and infeasible targets are on only some of the eight devices."""
    rng = np.random.default_rng(0)
    frames_B = rng.integers(FRAMES // 2, FRAMES + 1, ROWS)
    frames_B[[2, 3, 9]] = 0, 0, 6
    labels_BxL = rng.integers(1, 7, (ROWS, 5))
    lengths_B = rng.integers(0, 6, ROWS)
    features_BxTxM = rng.standard_normal((ROWS, FRAMES, MELS)).astype(np.float16)
    return Batch(features_BxTxM, *(x.astype(np.int32) for x in (frames_B, labels_BxL, lengths_B)))


def first_update(count: int, k: int = 0, limit: int = 0, random: bool = False) -> dict:
    """Loss, gradient (by a step of SGD) and compiled program of the first update on `count` devices."""
    config = dataclasses.replace(CONFIG, dropout=0.2 if random else 0.0)
    augment = AugmentOptions(frequency_masks=1, frequency_width=3, time_masks=1) if random else AugmentOptions()
    devices, frozen, optimizer = Devices.choose(count, ROWS), frozenset(range(1, k + 1)), optax.sgd(1.0)
    before = model.init(jax.random.key(0), CONFIG, 7, MELS)
    state, placed = devices.replicate(init_state(before, optimizer, frozen)), devices.place(batch())
    step_config = StepConfig(config, frozen, max_microbatch_frames=limit, augment=augment, mesh=devices.mesh)
    step = make_step(optimizer, step_config)
    compiled = step.lower(state, placed).compile()
    cost = certify(compiled, state, model.layers(CONFIG, 7, MELS), (ROWS, FRAMES), step_config)
    after, metrics = compiled(state, placed)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params)[2 * k :])  # donated
    gradient = jax.tree.map(lambda a, b: (np.asarray(a) - np.asarray(b)).ravel().tolist(), before, after.params)
    collectives = re.findall(r" (all-\w+|collective-\w+|reduce-scatter|send|recv)\(", compiled.as_text())
    return {
        "metrics": {name: float(value) for name, value in metrics.items()},
        "gradient": gradient,
        "collectives": sorted(set(collectives)),
        "flops": cost.flops,
        "bytes": cost.temporary_bytes,
    }


def choose_devices(requested: int, rows: int) -> list[str]:
    """The report of choosing devices and their number, or the error."""
    reports: list[str] = []
    try:
        return [*reports, str(Devices.choose(requested, rows, reports.append).count), *reports]
    except UserError as error:
        return [str(error)]


def on_eight(path: str) -> None:
    """Writes the results of eight devices; runs in a process that has eight."""
    parts = {"one": first_update(1, random=True), "eight": first_update(8, random=True)}
    parts |= {"frozen": first_update(1, k=8), "cut": first_update(0, k=8, limit=FRAMES)}
    choices = [choose_devices(*case) for case in ((0, 16), (0, 12), (0, 7), (5, 16), (9, 18), (3, 6))]
    Path(path).write_text(json.dumps({**parts, "choices": choices}))


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    path = tmp_path_factory.mktemp("eight") / "out.json"
    code = f"from tests.training.test_devices import on_eight; on_eight({str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **EIGHT}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text())


def assert_same_update(found: dict, expected: dict, layers: range):
    for name in ("loss", "infeasible", "skipped"):
        assert found["metrics"][name] == pytest.approx(expected["metrics"][name], rel=1e-5)
    for number in layers:
        for leaf in ("kernel", "bias"):
            a, b = (np.array(x["gradient"][model.layer_name(number)][leaf]) for x in (found, expected))
            assert np.linalg.norm(b) > 1e-3
            assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b), (number, leaf)


def test_eight_devices_give_the_same_update_as_one(computed):
    """Including dropout and masks: an utterance's random numbers do not depend on its device."""
    one, eight = computed["one"], computed["eight"]
    assert one["metrics"]["infeasible"] == 3
    assert_same_update(eight, one, range(1, 12))
    assert eight["metrics"]["gradient_norm"] == pytest.approx(one["metrics"]["gradient_norm"], rel=1e-5)


def test_devices_exchange_only_sums(computed):
    """Features and activations stay on their devices; each device does an eighth of the work."""
    assert computed["one"]["collectives"] == []
    assert computed["eight"]["collectives"] == computed["cut"]["collectives"] == ["all-reduce"]
    assert computed["eight"]["flops"] == pytest.approx(computed["one"]["flops"], rel=0.05)
    assert computed["eight"]["bytes"] < 0.25 * computed["one"]["bytes"]


def test_microbatches_on_eight_devices(computed):
    """Each device has two utterances and may process one at a time; frozen layers do not change."""
    assert_same_update(computed["cut"], computed["frozen"], range(9, 12))
    for number in range(1, 9):
        assert not any(computed["cut"]["gradient"][model.layer_name(number)]["kernel"])


def test_choosing_devices(computed):
    everything, most, few, uneven, absent, some = computed["choices"]
    assert everything == ["8"] and some == ["3"]
    assert most[0] == "6" and "6 of 8 devices are used" in most[1]
    assert few[0] == "7" and "7 of 8" in few[1]
    assert "batch_size=16 is not a multiple of the 5 devices" in uneven[0]
    assert "devices.count=9: there are 8" in absent[0]


def test_microbatches_are_cut_within_each_device():
    rows = Batch(*[np.arange(12)] * 4)
    assert split_rows(rows, 2).frames_B.tolist() == np.arange(12).reshape(2, 6).tolist()
    # Devices have rows 0-3, 4-7, 8-11: each gives its first two, then its last two.
    assert split_rows(rows, 2, devices=3).frames_B.tolist() == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]


def test_processes_share_the_rows(monkeypatch):
    devices = Devices.choose(1, 12)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    seen = []
    for number in range(3):
        monkeypatch.setattr(jax, "process_index", lambda number=number: number)
        seen.append(list(devices.own(range(12))))
        assert devices.first == (number == 0)
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize("text", ["yes", "0/2", "2@host:1", "0/2@host"])
def test_malformed_process(text):
    with pytest.raises(UserError, match="i/n@host:port"), distributed(text):
        pass


def test_processes_without_a_description():
    jax.devices()  # too late, too
    with pytest.raises(UserError, match=r"did not find each other .* i/n@host:port"), distributed("auto"):
        pass


def test_negative_number_of_devices():
    with pytest.raises(UserError, match="must be a number of devices"):
        train_options(count=-1)


SMALL = [
    "--model.width=8", "--model.top_width=12", "--model.initializer=he_uniform", "--batch_size=8", "--log.eval_every=4",
    "--log.checkpoint_every=4", "--log.every=1", "--learning_rate=1e-3", "--data.buckets=2", "--data.workers=1",
    "--augment.speed=0.1", "--augment.time_masks=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tones, cache, tmp_path_factory):
    """A folder with `runs/one`, six updates on one device, and the arguments that made it."""
    folder = tmp_path_factory.mktemp("place")
    data = [f"--data.train={tones}/train.jsonl", f"--data.dev={tones}/dev.jsonl", f"--data.cache={cache}"]
    done = launch("train.py", *data, *SMALL, "--steps=6", "--run=runs/one", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, [*data, *SMALL]


def lines(run: Path, kind: str) -> list[dict]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def assert_same_course(run: Path, expected: Path):
    for kind in ("train", "dev"):
        for a, b in zip(lines(run, kind), lines(expected, kind), strict=True):
            assert a["step"] == b["step"]
            # From the second update on, Adam amplifies rounding.
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-5 if a["step"] == 1 else 1e-3)


@pytest.mark.slow
def test_several_devices_through_the_command_line(place):
    """Three updates on two devices, the others in microbatches on all eight, with a certificate for both."""
    folder, arguments = place
    command = [*arguments, "--run=runs/shared"]
    done = launch("train.py", *command, "--steps=3", "--devices.count=2", cwd=folder, env=EIGHT)
    assert done.returncode == 0, done.stderr
    assert "memory of each of 2 devices" in done.stdout
    pieces = "--memory.max_microbatch_frames=1"  # one utterance at a time on each device, in evaluations, too
    done = launch("train.py", *command, "--steps=6", "--resume", "--devices.count=0", pieces, cwd=folder, env=EIGHT)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "runs" / "shared" / "certificate.json").read_text())["devices"] == 8
    for kind in ("train", "dev"):  # when it stopped, the distributed run was evaluated again
        shared, one = ({r["step"]: r["loss"] for r in lines(folder / "runs" / run, kind)} for run in ("shared", "one"))
        assert one and {step: shared[step] for step in one} == pytest.approx(one, rel=1e-3)


def processes(folder: Path, *arguments: str, env: tuple[dict, dict] = ({}, {}), each=((), ())):
    """Starts train.py twice."""
    command = [sys.executable, str(ROOT / "launch" / "train.py"), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": folder}
    return [subprocess.Popen([*command, *each[i]], env={**os.environ, **env[i]}, **pipes) for i in range(2)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _own(output: str) -> list[str]:
    """The lines that are not from the library that connects the processes."""
    return [line for line in output.splitlines() if not line.startswith("[Gloo]")]


LISTENING = """
import sys
from w2l_jax.training.devices import distributed
with distributed(f"0/1@{sys.argv[1]}:{sys.argv[2]}"):
    rows = [line.split() for name in ("tcp", "tcp6") for line in list(open(f"/proc/net/{name}"))[1:]]
    found = {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{int(sys.argv[2]):04X}")}
    print(*found, file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="asks Linux who listens")
def test_the_first_process_listens_only_on_the_given_address():
    port = str(free_port())
    done = subprocess.run(
        [sys.executable, "-c", LISTENING, "127.0.0.1", port], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (listening,) = done.stderr.splitlines()[-1].split()
    assert listening.removeprefix("0000000000000000FFFF0000") == f"0100007F:{int(port):04X}"


@pytest.mark.slow
def test_two_processes_started_by_slurm(place):
    folder, arguments = place
    slurm = {"SLURM_JOB_ID": str(free_port()), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2"}
    env = tuple({**slurm, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2))
    both = processes(folder, *arguments, "--steps=6", "--run=runs/two", "--devices.distributed=auto", env=env)
    (reports, _), (other, _) = (process.communicate(timeout=600) for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert "6 steps are done" in reports and "memory of each of 2 devices" in reports and not _own(other)
    assert_same_course(folder / "runs" / "two", folder / "runs" / "one")
    runs = [Run.open(folder / "runs" / name) for name in ("one", "two")]
    assert runs[1].config()["devices"]["distributed"] == "" and Run.complete(runs[1].folder)
    for a, b in zip(*(jax.tree.leaves(run.restore_params("last")) for run in runs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)  # six updates of at most 1e-3 each way
    # One process resumes what two have started.
    done = launch("train.py", *arguments, "--steps=7", "--run=runs/two", "--resume", cwd=folder)
    assert done.returncode == 0 and "7 steps are done" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_signal_or_death_of_one_process_stops_both(place):
    folder, arguments = place
    run = folder / "runs" / "stopped"

    def start(*more: str):
        address = f"127.0.0.1:{free_port()}"
        each = [(f"--devices.distributed={i}/2@{address}",) for i in range(2)]
        both = processes(
            folder, *arguments, "--steps=100000", "--log.eval_every=99999", f"--run={run}", *more, each=each
        )
        known = len(lines(run, "train")) if more else 0
        while not (run / "metrics.jsonl").exists() or len(lines(run, "train")) < known + 8:
            assert all(process.poll() is None for process in both)
            time.sleep(0.5)
        return both

    both = start()
    both[1].send_signal(signal.SIGTERM)
    (reports, _), _ = (process.communicate(timeout=120) for process in both)
    assert [process.returncode for process in both] == [143, 143]
    assert "stopped by SIGTERM" in reports
    pointers = Run.open(run).pointers()
    assert pointers["last"] >= 8 and not pointers["finished"]
    for victim in range(2):
        both = start("--resume")
        both[victim].kill()
        both[1 - victim].communicate(timeout=200)
        assert both[1 - victim].returncode != 0
