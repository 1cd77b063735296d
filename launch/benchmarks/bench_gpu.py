"""Updates on a GPU, measured in a few minutes: the most important first, and nothing is lost when time is up."""

import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import BenchmarkOptions, Report, Table
from benchmarks.gpu_bench import SMALL
from benchmarks.gpu_measurements import measure

_RESERVE = 10.0  # seconds reserved for imports before and printing afterwards


def run(options: BenchmarkOptions, report: Report) -> Sequence[Table]:
    """A table for each part reached within `minutes`; `report` takes each line at once.

    A separate process measures: it is stopped when time is up, even while compiling, and may run out of memory.
    """
    ends = time.monotonic() + 60 * options.minutes - _RESERVE
    if options.small:
        options = dataclasses.replace(options, **SMALL)
    rows_of: dict[str, list[dict[str, Any]]] = {}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="w2l-gpu-") as folder:
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=measure, args=(options, folder, ends - time.monotonic(), sending))
        process.start()
        sending.close()
        try:
            while (left := ends - time.monotonic()) > 0 and receiving.poll(left):
                part, row = receiving.recv()
                report(f"{part}: " + ", ".join(f"{name} {_text(value)}" for name, value in row.items()))
                rows_of.setdefault(part, []).append(row)
            report(f"time is up ({options.minutes:g} minutes); raise --minutes for the rest")
        except EOFError:  # it has ended
            process.join(1)
            if process.exitcode:
                report(f"the measuring process died (exit code {process.exitcode})")
        finally:
            process.kill()
            process.join()
    return [_table(part, rows) for part, rows in rows_of.items()]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(part: str, rows: list[dict[str, Any]]) -> Table:
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return Table(part, columns, tuple(tuple(row.get(name, "–") for name in columns) for row in rows))
