"""A trace of some updates, for TensorBoard's profiler and for Perfetto."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from w2l_jax.errors import UserError
from w2l_jax.reporting import Report

# By then the common shapes are compiled, and batches fetched before the first update are used up.
_WARM_UP = 10


def traced_updates(text: str, start: int = 0) -> range:
    """The updates, from 1, to trace for `log.profile` after `start` finished ones.

    `100-104` names them, `5` means that many after ten more. Raises UserError for anything else.
    """
    if not text:
        return range(0)
    match = re.fullmatch(r"([1-9]\d*)(?:-(\d+))?", text)
    if not match or not int(match[1]) <= int(match[2] or match[1]):
        raise UserError(f"log.profile={text!r}: give a number of updates, such as 5, or a range, such as 100-104")
    first = int(match[1]) if match[2] else start + _WARM_UP + 1
    last = int(match[2]) if match[2] else start + _WARM_UP + int(match[1])
    return range(first, last + 1)


class Profiler:
    """Runs updates and writes a trace of those in `updates` into `folder`; `report` is told its path."""

    def __init__(self, folder: Path, updates: range, report: Report):
        self._folder, self._updates, self._report = folder, updates, report
        self._running = False

    def run(self, step: int, update: Callable[..., Any], *arguments: Any) -> Any:
        """`update(*arguments)`, which is update `step` (from 1)."""
        if step not in self._updates:
            return update(*arguments)
        if not self._running:
            jax.block_until_ready(arguments)  # earlier updates stay out of the trace
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        with jax.profiler.StepTraceAnnotation("update", step_num=step):
            result = update(*arguments)
        if step == self._updates[-1]:
            jax.block_until_ready(result)
            self.close()
        return result

    def close(self) -> None:
        """Ends a trace that is running."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            self._report(f"trace for TensorBoard and Perfetto: {self._folder}")
