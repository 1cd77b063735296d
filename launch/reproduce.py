"""Run the paper's experiments as a grid and set our figures beside the paper's claims."""

import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TextIO

import cli
import demo_corpus as demo
from reproduction import grid_page as page
from reproduction.grid import Scale
from reproduction.tasks import Diary, Task, tasks, typed
from terminal import terminal
from w2l_jax import files
from w2l_jax.errors import UserError

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
    scale = cli.parse(Scale, argv, description=DESCRIPTION)
    if not scale.languages:
        raise UserError("--config names the scale: configs/reproduce_demo.toml, _real.toml or _paper.toml")
    every = tasks(scale)
    left = [task for task in every if not task.done()]
    print(f"{len(every)} tasks, {len(left)} of them left", flush=True)
    if scale.dry_run:
        for task in left:
            print(f"# {task.name}\n{typed(task)}")
        return
    if scale.report_only:
        print(f"report: {page.write(scale)}")
        return
    out = Path(scale.out)
    with files.locked(out, f"{out}: another reproduce.py, or a command that it started, is at work there") as lock:
        run(scale, every, left, lock)


def run(scale: Scale, every: list[Task], left: list[Task], lock: TextIO) -> None:
    """Runs the tasks that are `left` of `every`, then writes the report."""
    diary = Diary(Path(scale.out))
    for task in left:
        task.command()  # which finds its data, or says now what is missing
    diary.check(every)
    speak(scale)
    failed = []
    for task in left:
        if task.done():  # by somebody else, meanwhile
            continue
        if waits_for := [other.name for other in every if other.name in task.needs and not other.done()]:
            print(f"\n{task.name}: left out, since there is no {waits_for[0]}", flush=True)
            continue
        seconds, number = diary.left(every), sum(other.done() for other in every) + 1
        about = "" if seconds is None else f", about {seconds / 60:.0f} minutes left"
        print(f"\n[{number}/{len(every)}{about}] {task.name}", flush=True)
        code = call(task, diary, lock)
        if not task.done():
            print(f"stopped with exit code {code} and is not done; the rest continues", flush=True)
            failed.append(task.name)
        if number % REPORT_EVERY == 0:
            report_so_far(scale)
    print(f"report: {page.write(scale)}", flush=True)
    if failed:
        raise UserError(f"not done: {', '.join(failed)} (messages above); run this again to try only what is missing")


def report_so_far(scale: Scale) -> None:
    try:
        print(f"report so far: {page.write(scale)}", flush=True)
    except Exception:  # the grid is worth more than a look at it on the way
        print(f"no report so far; the rest continues\n{traceback.format_exc()}", flush=True)


def speak(scale: Scale) -> None:
    with terminal() as screen:
        for corpus in scale.synthesized:
            demo.make_corpus(corpus.folder, corpus.speech, progress=screen.bar)


def call(task: Task, diary: Diary, lock: TextIO) -> int:
    """Runs a task's command, which holds the lock too, and notes what it took; returns its exit code."""
    script, *arguments = task.command()
    print(f"$ {typed(task)}", flush=True)
    started = time.monotonic()
    with subprocess.Popen([sys.executable, str(HERE / script), *arguments], pass_fds=[lock.fileno()]) as process:
        # Who stops this process stops the command (Ctrl-C reaches both), and waits until it has saved what it has.
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate() or sys.exit(128 + signal.SIGTERM))
        try:
            return process.wait()
        finally:
            process.wait()
            signal.signal(signal.SIGTERM, before)
            diary.add(task, time.monotonic() - started)


if __name__ == "__main__":
    cli.run(main)
