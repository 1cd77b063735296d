"""Commands as a user runs them, on small data: killed at any moment, on a full disk, on a read-only disk."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.chaos.faults import REFUSED, SURVIVED, TRACEBACK, WRONG, Findings
from tests.conftest import ROOT, write_corpus
from w2l_jax import network_file
from w2l_jax.files import digest, file_digest
from w2l_jax.run import Run

SMALL = ("--model.width=8", "--model.top_width=12", "--batch_size=4", "--data.buckets=1", "--data.workers=1")
EVERY = ("--log.eval_every=20", "--log.checkpoint_every=5", "--log.every=5")
GRID = """
title = "Smallest"
base = "runs/english"
base_config = "{here}/network.toml"
base_train = "train"
base_data = "dev"
train_config = "{here}/network.toml"
scratch_arguments = ["--model.width=8", "--model.top_width=12"]
timing = {{ batch_size = 2, seconds = 1.0, labels = 8, model = {{ width = 8, top_width = 12 }}, repetitions = 1 }}

[[languages]]
name = "german"
train = "german"
dev = "german_dev"
experiments = ["figure2"]
steps = 4
eval_every = 2
"""
NETWORK = """
steps = 4
batch_size = 4
[log]
eval_every = 2
checkpoint_every = 2
[model]
width = 8
top_width = 12
[data]
buckets = 1
workers = 1
cache = "{here}/prepared"
unknown_characters = "drop_utterance"
"""

Answer = Callable[[Path], object]


@dataclasses.dataclass(frozen=True)
class Job:
    """A command that writes `result` in its working directory, and the part of it that must be the same after any
    fault.
    """

    name: str
    arguments: Sequence[str]
    result: str
    answer: Answer

    def command(self, place: Path) -> list[str]:
        """The command line; if training has left a run, with the option that its message names for resuming."""
        resume = ["--resume"] if self.name.startswith("train") and Run.exists(place / self.result) else []
        script, *options = self.arguments
        return [sys.executable, str(ROOT / "launch" / script), *options, *resume]

    def run(self, place: Path) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(place), cwd=place, capture_output=True, text=True, timeout=900)

    def finish(self, place: Path) -> object:
        """The result of the undisturbed command."""
        done = self.run(place)
        if done.returncode:
            raise RuntimeError(f"{self.name}\n{done.stdout}{done.stderr}")
        return self.answer(place)


def _files(*patterns: str) -> Answer:
    """The digests of files."""
    return lambda place: {
        str(path.relative_to(place)): file_digest(path)
        for pattern in patterns
        for path in sorted(place.glob(pattern))
        if path.is_file()
    }


def _trained(name: str) -> Answer:
    """Parameters, and everything logged except times."""

    def answer(place: Path) -> object:
        run = Run.open(place / name)
        rows = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
        logged = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
        return digest(run.restore_params("last")), digest(run.restore_params("best")), run.steps(), logged

    return answer


def _network(name: str) -> Answer:
    """A file's content: the bytes may differ, since safetensors writes metadata in any order."""

    def answer(place: Path) -> object:
        params, about, card = network_file.read(place / name)
        return digest(params), about, card

    return answer


def _grid(place: Path) -> object:
    runs = sorted((place / "out" / "runs").iterdir())
    decoded = _files("out/runs/*/decode/*.jsonl")(place)
    return [(run.name, digest(Run.open(run).restore_params("last"))) for run in runs], decoded


def jobs(folder: Path) -> dict[str, Job]:
    """Writes the data of all jobs into `folder`."""
    for seed, (name, count, language) in enumerate(
        [("train", 24, "en"), ("dev", 6, "en"), ("german", 16, "de"), ("german_dev", 4, "de")]
    ):
        write_corpus(folder, name, count, 3, seed, language)
    texts = [json.loads(line)["text"] for line in (folder / "train.jsonl").read_text().splitlines()]
    (folder / "text.txt").write_text("\n".join(f"{a} {b}" for a in texts for b in texts))
    (folder / "network.toml").write_text(NETWORK.format(here=folder))
    (folder / "grid.toml").write_text(GRID.format(here=folder))
    data = f"--data.train={folder}/train.jsonl", f"--data.dev={folder}/dev.jsonl"
    german = f"--data.train={folder}/german.jsonl", f"--data.dev={folder}/german_dev.jsonl"
    prepare = "prepare.py", f"--manifest={folder}/train.jsonl", "--language=en", "--out=data"
    all_jobs = [
        Job("train", ("train.py", *data, f"--data.cache={folder}/prepared", "--from_scratch", "--run=run", "--steps=40",
                      *SMALL, *EVERY), "run", _trained("run")),
        Job("prepare, two workers", (*prepare, "--workers=2"), "data", _files("data/*[!k]")),
        Job("prepare, part 0 of 2", (*prepare, "--workers=1", "--shard=0/2"), "data", _files("data/shard-00000*")),
        Job("build_lm", ("build_lm.py", f"--text={folder}/text.txt", "--language=en", "--order=3", "--memory=100M",
                         "--out=lm"), "lm", _files("lm/*")),
        Job("train on cached activations", ("train.py", *german, "--data.cache=cache", f"--init={folder}/base/run",
            "--frozen_layers=9", "--freeze.cache_activations", "--run=run", "--steps=20", *SMALL[2:], *EVERY),
            "run", _trained("run")),
        Job("export", ("export.py", f"--run={folder}/base/run", "--out=a.safetensors"), "a.safetensors",
            _network("a.safetensors")),
        Job("reproduce", ("reproduce.py", f"--config={folder}/grid.toml", f"--data={folder}", "--out=out"), "out",
            _grid),
    ]  # fmt: skip
    base = folder / "base"
    base.mkdir()
    all_jobs[0].finish(base)
    return {job.name: job for job in all_jobs}


def kill(folder: Path, seed: int, scale: float) -> Iterator[Findings]:
    """Kills each command at random moments and runs it again until it finishes; the result must equal an undisturbed
    one.
    """
    rng = np.random.default_rng(seed)
    counts = {"train": 18, "prepare, two workers": 9, "prepare, part 0 of 2": 4, "build_lm": 8,
              "train on cached activations": 6, "reproduce": 4}  # fmt: skip
    all_jobs = jobs(folder)
    for name, count in counts.items():
        job, findings = all_jobs[name], Findings(f"killed {name}")
        (folder / "whole").mkdir()
        begun = time.monotonic()
        expected = job.finish(folder / "whole")
        seconds = time.monotonic() - begun
        left = max(1, round(count * scale))
        while left > 0:
            place = folder / "killed"
            place.mkdir()
            chain = min(left, int(rng.integers(1, 4)))
            _killed(job, place, [seconds * rng.uniform(0.3, 1.0) for _ in range(chain)], expected, findings)
            left -= chain
            shutil.rmtree(place)
        shutil.rmtree(folder / "whole")
        yield findings


def _killed(job: Job, place: Path, moments: Sequence[float], expected: object, findings: Findings) -> None:
    """Runs the command, stopping it after each of these times, and finally to its end."""
    for number, moment in enumerate(moments):
        log = place / f"log{number}"
        with log.open("w") as output:
            command = job.command(place)
            process = subprocess.Popen(command, cwd=place, stdout=output, stderr=output, start_new_session=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        if process.poll() is None and number % 2:
            process.kill()  # its workers must notice
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL) if not number % 2 else None
        process.wait()
        if "Traceback" in log.read_text():
            findings.add(TRACEBACK, log.read_text())
        log.unlink()
    done = job.run(place)
    outcome, detail = _outcome(done, job, place, expected)
    for _ in moments:
        findings.add(WRONG if outcome == REFUSED else outcome, f"killed after {moments} s\n{detail}")


def _outcome(done: subprocess.CompletedProcess, job: Job, place: Path, expected: object) -> tuple[str, str]:
    output = done.stdout + done.stderr
    if "Traceback" in output or done.returncode not in (0, 1):
        return TRACEBACK, output
    if done.returncode:
        return REFUSED, output
    try:
        result = job.answer(place)
    except Exception as error:
        return WRONG, f"ended well, and {error!r}\n{output}"
    left = sorted(str(path) for path in place.rglob(".*") if path.name.endswith((".tmp", ".partial", ".old")))
    if left:
        return WRONG, f"left behind: {left}"
    return (SURVIVED, "") if result == expected else (WRONG, f"{result}\nis not\n{expected}")


@contextlib.contextmanager
def mounted(place: Path, size: int) -> Iterator[bool]:
    """Mounts a file system of `size` bytes at `place`; yields False if this user may not mount one."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", place], check=True)


def _remount(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", place], check=True)


def fill(folder: Path, seed: int, scale: float) -> Iterator[Findings]:
    """Runs each command on a disk too small for its output, then again with enough space; and on a read-only disk."""
    rng = np.random.default_rng(seed)
    place = folder / "small"
    for job in jobs(folder).values():
        if job.name == "reproduce":
            continue
        full, read_only = Findings(f"disk full: {job.name}"), Findings(f"read-only: {job.name}")
        (folder / "whole").mkdir()
        expected = job.finish(folder / "whole")
        used = sum(path.stat().st_blocks * 512 for path in (folder / "whole").rglob("*"))
        shutil.rmtree(folder / "whole")
        for _ in range(max(1, round(3 * scale))):
            with mounted(place, 2**13 + int(used * rng.uniform(0.05, 0.9))) as may:
                if not may:
                    return
                outcome, detail = _outcome(job.run(place), job, place, expected)
                if outcome == REFUSED and not any(word in detail for word in ("space", "room", "full")):
                    outcome = WRONG
                full.add(outcome, detail)
                if outcome == SURVIVED:
                    continue
                _remount(place, "size=1G")
                outcome, detail = _outcome(job.run(place), job, place, expected)
                if outcome != SURVIVED:
                    full.add(WRONG, f"run again with room: {outcome}\n{detail}")
        with mounted(place, 2**20):
            _remount(place, "ro")
            read_only.add(*_outcome(job.run(place), job, place, expected))
        yield full
        yield read_only
