"""Run the paper's experiments as a grid and set our figures beside the paper's claims."""

import fcntl
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

from w2l_jax import config
from w2l_jax.corpora import demo
from w2l_jax.errors import UserError
from w2l_jax.reproduction import page
from w2l_jax.reproduction.grid import Scale
from w2l_jax.reproduction.tasks import Clock, Task, check, tasks
from w2l_jax.terminal import terminal

REPORT_EVERY = 10
HERE = Path(__file__).resolve().parent
DESCRIPTION = """Run the experiments of "Transfer Learning for Speech Recognition on a Budget" and report what came out.

  python launch/reproduce.py --config=configs/reproduce_demo.toml --out=reproduction
  python launch/reproduce.py --config=configs/reproduce_real.toml --data=<folder of manifests> --only=figure3,table1

Each step is a command that you could give yourself, printed before it runs. The same command again does only what is
missing; interrupted, it goes on where it was. At the end, and with --report_only at any time, index.html in --out shows
every figure and table there is data for, with the same as Markdown, PNG, CSV and JSON beside it.
"""


def main(argv: list[str] | None = None) -> None:
    scale = config.parse(Scale, argv, description=DESCRIPTION)
    if not scale.languages:
        raise UserError("--config names the scale: configs/reproduce_demo.toml, _real.toml or _paper.toml")
    check(scale)
    every = tasks(scale)
    left = [task for task in every if not task.done()]
    print(f"{len(every)} tasks, {len(left)} of them left", flush=True)
    if scale.dry_run:
        for task in left:
            print(f"{task.name}: {' '.join(task.command())}")
        return
    if scale.report_only:
        print(f"report: {page.write(scale)}")
        return
    lock = alone(Path(scale.out))
    speak(scale)
    clock, failed = Clock(Path(scale.out) / "seconds.json"), []
    for task in left:
        if task.done():  # by somebody else, meanwhile
            continue
        if waits_for := [other.name for other in every if other.name in task.needs and not other.done()]:
            print(f"\n{task.name}: left out, since there is no {waits_for[0]}", flush=True)
            continue
        seconds, number = clock.left(every), sum(other.done() for other in every) + 1
        about = "" if seconds is None else f", about {seconds / 60:.0f} minutes left"
        print(f"\n[{number}/{len(every)}{about}] {task.name}", flush=True)
        if code := call(task, clock, lock):
            print(f"stopped with exit code {code}; the rest goes on", flush=True)
            failed.append(task.name)
        if number % REPORT_EVERY == 0:
            print(f"report so far: {page.write(scale)}", flush=True)
    print(f"report: {page.write(scale)}", flush=True)
    if failed:
        raise UserError(f"failed: {', '.join(failed)} (messages above); run this again to try only what is missing")


def alone(out: Path) -> TextIO:
    """Takes the folder for this process and the commands it starts; raises UserError while others work in it."""
    out.mkdir(parents=True, exist_ok=True)
    lock = (out / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{out}: another reproduce.py, or a command that it started, is at work there") from None
    return lock


def speak(scale: Scale) -> None:
    with terminal() as screen:
        for corpus in scale.synthesized:
            demo.make_corpus(corpus.folder, corpus.speech, progress=screen.bar)


def call(task: Task, clock: Clock, lock: TextIO) -> int:
    """Runs a task's command, which holds the lock too, and notes what it took; returns its exit code."""
    script, *arguments = task.command()
    print(f"$ python launch/{script} {shlex.join(arguments)}", flush=True)
    started = time.monotonic()
    try:
        return subprocess.run([sys.executable, str(HERE / script), *arguments], pass_fds=[lock.fileno()]).returncode
    finally:
        clock.add(task, time.monotonic() - started)


if __name__ == "__main__":
    config.run(main)
