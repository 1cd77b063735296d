"""Write a trained network as one file to share."""

import dataclasses
from pathlib import Path
from typing import Literal

import cli
import w2l_jax
from latest import LATEST

DESCRIPTION = """Write a network as one .safetensors file to share: one checkpoint in bfloat16, no optimizer state.

Every command accepts such a file instead of a run folder (train.py --init=german.safetensors, transcribe.py
--run=german.safetensors), and other programs read it with w2l_jax.load. The run folder's README.md, if any, is included
as the network's card; the language model is not.

  python launch/export.py --run=runs/german_k8 --out=german.safetensors
"""


@dataclasses.dataclass(frozen=True)
class Options:
    out: str
    """File to write, ending in .safetensors."""
    run: str = LATEST
    """Run folder, .safetensors file or included network (default: the last trained run)."""
    checkpoint: str = "best"
    """Checkpoint: best, last or a stored step."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the stored weights."""


def main(argv: list[str] | None = None) -> None:
    options = cli.parse(Options, argv, description=DESCRIPTION)
    recognizer = w2l_jax.load(options.run, options.checkpoint)
    recognizer.save(options.out, options.dtype)
    size = Path(options.out).stat().st_size
    print(f"{options.out}: step {recognizer.step}, {size / 1e6:.1f} MB in {options.dtype}")


if __name__ == "__main__":
    cli.run(main)
