"""Compare runs that were decoded on the same data: error rates, differences with intervals, learning curves."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

import cli
from pages import comparison
from w2l_jax.errors import UserError

DESCRIPTION = """Compare two or more runs on the same utterances.

Prints Markdown tables: error rates with 95 % bootstrap intervals, paired differences from a baseline, and each run's
state after the training time of the fastest one. With --out also a picture of the learning curves. Decode each run on
the data first:

  python launch/decode.py --run=runs/french_k0 --data=fr_dev.jsonl
  python launch/decode.py --run=runs/french_scratch --data=fr_dev.jsonl
  python launch/compare.py runs/french_k0 runs/french_scratch --data=fr_dev --baseline=runs/french_scratch
"""


@dataclasses.dataclass(frozen=True)
class Options:
    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Run folders."""
    data: str
    """Name of the data, as in <run>/decode/<name>.jsonl."""
    baseline: str = ""
    """Run folder to compare the others with (default: the last one named)."""
    out: str = ""
    """PNG file for the learning curves."""


def main(argv: list[str] | None = None) -> None:
    options = cli.parse(Options, argv, description=DESCRIPTION)
    if len(options.runs) < 2:
        raise UserError("name at least two run folders to compare")
    runs = [comparison.read(folder, Path(options.data).stem) for folder in options.runs]
    baseline = comparison.read(options.baseline or options.runs[-1], Path(options.data).stem)
    intervals = f"95 % bootstrap intervals over {comparison.units(runs)}"
    print(f"## {Path(options.data).stem}\n\nError rates, {intervals}:\n\n{comparison.markdown(comparison.rates(runs))}")
    print(f"Differences in percentage points, paired, {intervals}:\n")
    print(comparison.markdown(comparison.differences(runs, baseline)))
    if rows := comparison.at_equal_time(runs):
        print(f"Last evaluation on the runs' own dev data after equal training time:\n\n{comparison.markdown(rows)}")
    if options.out:
        Path(options.out).parent.mkdir(parents=True, exist_ok=True)
        comparison.plot(runs, Path(options.out))
        print(f"learning curves: {options.out}")


if __name__ == "__main__":
    cli.run(main)
