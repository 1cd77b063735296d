"""Measure the cost of training and decoding on this machine."""

import dataclasses
import json
import sys
from pathlib import Path

import jax

import benchmarks
import cli
from benchmarks import BenchmarkOptions
from w2l_jax.files import write_atomically

DESCRIPTION = """Measure costs on this machine, as Markdown tables.

FLOPs and bytes are the compiler's figures and exact. Seconds are medians of interleaved repetitions: read them as
ratios, and compare only what one command printed.

  python launch/benchmark.py --what=memory,step
  python launch/benchmark.py --what=gpu --minutes=3
"""


def main(argv: list[str] | None = None) -> None:
    options = cli.parse(BenchmarkOptions, argv, description=DESCRIPTION)
    cli.use_compilation_cache()
    tables = []
    for name in options.subjects:
        for table in benchmarks.subject(name)(options, lambda line: print(line, file=sys.stderr, flush=True)):
            tables.append(table)
            print(f"{table.markdown()}\n", flush=True)
    # Not earlier: querying devices takes their memory.
    device = f"{jax.device_count()} × {jax.devices()[0].device_kind}, jax {jax.__version__}"
    print(f"({device})")
    content = {"device": device, "tables": [dataclasses.asdict(table) for table in tables]}
    if "gpu" in options.subjects:
        print(json.dumps(content, ensure_ascii=False))
    if options.out:
        Path(options.out).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(options.out), json.dumps(content, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    cli.run(main)
