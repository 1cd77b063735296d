"""Run the paper's experiments as a grid and compare the results with the paper's claims."""

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
DESCRIPTION = """Run the experiments of "Transfer Learning for Speech Recognition on a Budget" and report the results.

  python launch/reproduce.py --config=configs/reproduce_demo.toml --out=reproduction
  python launch/reproduce.py --config=configs/reproduce_real.toml --data=<folder of manifests> --only=figure3,table1

Each step is a command that you could run yourself, printed before it runs. The same command again does only what is
missing and resumes what was interrupted. At the end, and with --report_only at any time, index.html in --out shows
every figure and table with data so far; Markdown, PNG, CSV and JSON files are beside it.
"""


def main(argv: list[str] | None = None) -> None:
    scale = cli.parse(Scale, argv, description=DESCRIPTION)
    if not scale.languages:
        raise UserError("give --config: configs/reproduce_demo.toml, _real.toml or _paper.toml")
    every = tasks(scale)
    left = [task for task in every if not task.done()]
    print(f"{len(every)} tasks, {len(left)} left", flush=True)
    if scale.dry_run:
        for task in left:
            print(f"# {task.name}\n{typed(task)}")
        return
    if scale.report_only:
        print(f"report: {page.write(scale)}")
        return
    out = Path(scale.out)
    with files.locked(out, f"{out}: another reproduce.py, or a command that it started, is running there") as lock:
        run(scale, every, left, lock)


def run(scale: Scale, every: list[Task], left: list[Task], lock: TextIO) -> None:
    """Runs the tasks that are `left` of `every`, then writes the report."""
    diary = Diary(Path(scale.out))
    for task in left:
        task.command()  # raises now if data are missing
    diary.check(every)
    speak(scale)
    failed = []
    for task in left:
        if task.done():  # by another process meanwhile
            continue
        if waits_for := [other.name for other in every if other.name in task.needs and not other.done()]:
            print(f"\n{task.name}: skipped, since {waits_for[0]} is missing", flush=True)
            continue
        seconds, number = diary.left(every), sum(other.done() for other in every) + 1
        about = "" if seconds is None else f", about {seconds / 60:.0f} minutes left"
        print(f"\n[{number}/{len(every)}{about}] {task.name}", flush=True)
        code = call(task, diary, lock)
        if not task.done():
            print(f"stopped with exit code {code}; continuing with the rest", flush=True)
            failed.append(task.name)
        if number % REPORT_EVERY == 0:
            report_so_far(scale)
    print(f"report: {page.write(scale)}", flush=True)
    if failed:
        raise UserError(f"not done: {', '.join(failed)} (messages above); run this again to retry only these")


def report_so_far(scale: Scale) -> None:
    try:
        print(f"report so far: {page.write(scale)}", flush=True)
    except Exception:  # the grid is worth more than an intermediate report
        print(f"no report so far; continuing\n{traceback.format_exc()}", flush=True)


def speak(scale: Scale) -> None:
    with terminal() as screen:
        for corpus in scale.synthesized:
            demo.make_corpus(corpus.folder, corpus.speech, progress=screen.bar)


def call(task: Task, diary: Diary, lock: TextIO) -> int:
    """Runs a task's command, which inherits the lock, and records its duration; returns its exit code."""
    script, *arguments = task.command()
    print(f"$ {typed(task)}", flush=True)
    started = time.monotonic()
    with subprocess.Popen([sys.executable, str(HERE / script), *arguments], pass_fds=[lock.fileno()]) as process:
        # Stopping this process also stops the command (Ctrl-C reaches both) and waits until it has saved.
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate() or sys.exit(128 + signal.SIGTERM))
        try:
            return process.wait()
        finally:
            process.wait()
            signal.signal(signal.SIGTERM, before)
            diary.add(task, time.monotonic() - started)


if __name__ == "__main__":
    cli.run(main)
