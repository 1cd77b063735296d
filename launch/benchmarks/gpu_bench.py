"""Shared by the parts of `bench_gpu`: remaining time, timing of calls, output of lines."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax

from benchmarks import BenchmarkOptions
from benchmarks.bench_memory import Variant
from w2l_jax.model import ModelConfig
from w2l_jax.training.certificate import Certificate
from w2l_jax.training.job import Job

SMALL = {"batch_size": 4, "seconds": 0.6, "labels": 8, "model": ModelConfig(8, 12)}
ALL = Variant(0, "bfloat16", False)


@dataclasses.dataclass
class Bench:
    """What the parts share."""

    options: BenchmarkOptions
    folder: Path
    ends: float
    connection: Connection
    products: dict[str, float] = dataclasses.field(default_factory=dict)
    """FLOP/s of a large product, by dtype."""
    updates: dict[Variant, tuple[Any, Certificate]] = dataclasses.field(default_factory=dict)
    jobs: dict[str, Job] = dataclasses.field(default_factory=dict)

    def say(self, part: str, /, **row: Any) -> None:
        """Sends a line."""
        self.connection.send((part, row))

    @property
    def variants(self) -> list[Variant]:
        """The updates to measure."""
        if self.options.small:
            return [ALL, Variant(8, "float32", False, unfold=True)]
        plain = [Variant(k, dtype, False) for dtype in ("bfloat16", "float32") for k in (0, 8, 10)]
        return [*plain, *(Variant(k, "bfloat16", False, unfold=True) for k in (0, 8))]

    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def seconds(self, call: Callable[[], Any], wait: Callable[[Any], Any] = jax.block_until_ready) -> float:
        """Median seconds of a call, with many dispatched before waiting, as in training."""
        budget, rounds = (0.1 if self.options.small else 0.5), []
        for count in (1, 1, 0, 0, 0):  # compiles; shows how long one takes; three rounds
            count = count or max(1, min(200, int(budget / rounds[1])))
            started = time.perf_counter()
            for _ in range(count):
                out = call()
            wait(out)
            rounds.append((time.perf_counter() - started) / count)
        return statistics.median(rounds[2:])
