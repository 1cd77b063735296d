"""Progress: bars on a terminal, occasional lines in a log file."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

_LOG_SECONDS = 10.0


class Terminal:
    """Lines and one progress bar at a time; `bar` fits every `progress(done, total, description)` callback."""

    def __init__(self, progress: Any = None, stream: TextIO | None = None):
        self._progress, self._stream = progress, stream
        self._task: Any = None
        self._description = ""
        self._last_print = time.monotonic()

    def report(self, line: str) -> None:
        """Prints a line above the bar."""
        if self._progress:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self._stream, flush=True)

    def bar(self, done: float, total: float, description: str) -> None:
        """Shows `done` of `total`."""
        if self._progress is None:
            if time.monotonic() - self._last_print >= _LOG_SECONDS:
                self._last_print = time.monotonic()
                print(f"{description}: {done:,.0f} of {total:,.0f}", file=self._stream, flush=True)
            return
        head = description.split(":")[0]
        if self._task is None or head != self._description:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task, self._description = self._progress.add_task(description, total=total), head
        self._progress.update(self._task, completed=done, total=total, description=description)


@contextlib.contextmanager
def terminal(*, results: bool = False) -> Iterator[Terminal]:
    """A Terminal for the duration of a job: with a live bar on an interactive terminal, plain lines elsewhere.

    With `results`, standard output is for them, and progress goes to standard error, as a bar if they are redirected.
    """
    stream = sys.stderr if results else sys.stdout
    if not stream.isatty() or (results and sys.stdout.isatty()):
        yield Terminal(stream=stream)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Rich would redirect standard output to its own console.
    console = Console(file=stream)
    with Progress(*columns, console=console, transient=True, redirect_stdout=not results) as progress:
        yield Terminal(progress)
