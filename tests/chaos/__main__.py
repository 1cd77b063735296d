"""Injects all faults and prints a table: python -m tests.chaos --seed=0 [--only=kill,fill,corrupt,fuzz] [--scale=1]."""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "launch"))

import cli
from tests.chaos import commands, corruption, fuzz, parts
from tests.chaos.faults import OUTCOMES, TRACEBACK, WRONG, Findings

KINDS: dict[str, Callable[[Path, int, float], Iterator[Findings]]] = {
    "fuzz": lambda folder, seed, scale: fuzz.fuzz(folder, seed, round(10_000 * scale)),
    "corrupt": lambda folder, seed, scale: corruption.corrupt(folder, seed, round(200 * scale)),
    "fill": commands.fill,
    "kill": lambda folder, seed, scale: itertools.chain(
        parts.parts(folder, seed, max(1, round(20 * scale))), commands.kill(folder, seed, scale)
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Returns the number of faults with a bad outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, between commas")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the faults")
    options = parser.parse_args(argv)
    print(f"{'':<42}{'faults':>8}" + "".join(f"{outcome:>16}" for outcome in OUTCOMES) + f"{'seconds':>9}")
    total = Findings("all")
    for kind in options.only.split(","):
        with tempfile.TemporaryDirectory(prefix="chaos") as folder:
            begun = time.monotonic()
            for findings in KINDS[kind](Path(folder), options.seed, options.scale):
                _row(findings, time.monotonic() - begun)
                begun = time.monotonic()
                total += findings
    _row(total, None)
    for detail in total.bad:
        print(f"\n{detail[:3000]}")
    return total.counts[WRONG] + total.counts[TRACEBACK]


def _row(findings: Findings, seconds: float | None) -> None:
    counts = "".join(f"{findings.counts[outcome]:>16,}" for outcome in OUTCOMES)
    said = f"{seconds:>9.0f}" if seconds is not None else ""
    print(f"{findings.kind:<42}{findings.counts.total():>8,}{counts}{said}", flush=True)


if __name__ == "__main__":
    cli.run(lambda: sys.exit(min(1, main())))
