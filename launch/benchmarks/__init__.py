"""Benchmarks, measured side by side in one run: one module per subject, each with `run(options, report)`.

Every subject returns tables; `launch/benchmark.py` prints them and writes them as JSON. Figures of the compiler (FLOPs,
bytes) are exact; seconds are medians of interleaved repetitions; read them as ratios.
"""

import dataclasses
import importlib
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from w2l_jax.errors import UserError
from w2l_jax.model import ModelConfig

Report = Callable[[str], None]
SUBJECTS = ("memory", "step", "cache", "losses", "peers", "features", "input", "loop", "decode", "live", "gpu")


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """The measurements and their size."""

    what: str
    """Subjects, separated by commas."""
    out: str = ""
    """JSON file for the tables."""
    repetitions: int = 5
    """Measurements of each variant; their median counts."""
    batch_size: int = 64
    """Utterances in a batch."""
    seconds: float = 12.0
    """Length of each utterance."""
    labels: int = 150
    """Padded length of each transcript."""
    model: ModelConfig = ModelConfig()
    plain: bool = False
    """For `memory` and `step`: only float32 without `remat`, as in the paper."""
    run: str = ""
    """Network for `decode` and `live` (default: the last trained run, or the included English network)."""
    data: str = ""
    """Prepared folder that `decode` decodes; manifest that `live` compares with whole recordings."""
    lm: str = ""
    """Folder of a language model for `decode` (default: the run's own)."""
    minutes: float = 3.0
    """Time limit of `gpu`; length of the sound for `live`."""
    small: bool = False
    """For `gpu`: only measurements that a CPU finishes in time."""
    limit: int = 100
    """Utterances for `decode`, evenly spaced, and for `live`, at random."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects asked for; raises UserError for one that does not exist."""
        asked = tuple(part.strip() for part in self.what.split(",") if part.strip())
        for name in asked:
            if name not in SUBJECTS:
                raise UserError(f"--what={name}: choose from {', '.join(SUBJECTS)}")
        return asked


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of one measurement, with a note on how they were measured."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """The table as Markdown; floats with three significant digits."""
        lines = [f"### {self.title}", "", _line(self.columns), _line(["---"] * len(self.columns))]
        lines += [_line(map(_cell, row)) for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def interleaved(variants: Mapping[Any, Callable[[], Any]], repetitions: int) -> dict[Any, float]:
    """Median seconds of each variant, run in turns so that noise affects all alike.

    Each is called once before (compilation, caches) and must wait for its own result.
    """
    seconds: dict[Any, list[float]] = {name: [] for name in variants}
    for call in variants.values():
        call()
    for name, call in itertools.chain.from_iterable(itertools.repeat(tuple(variants.items()), repetitions)):
        started = time.perf_counter()
        call()
        seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def subject(name: str) -> Callable[[BenchmarkOptions, Report], Sequence[Table]]:
    """The function that measures a subject; its module is imported on use."""
    return importlib.import_module(f"benchmarks.bench_{name}").run
