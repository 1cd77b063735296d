"""Make a run small enough to give away: weights in bfloat16, no optimizer state, no paths of this machine."""

import dataclasses

from w2l_jax import config
from w2l_jax.checkpoint import LATEST, Run
from w2l_jax.export import Dtype, export

DESCRIPTION = """Write a run folder to pass on: one checkpoint, in bfloat16, without optimizer state.

What it holds can be adapted (train.py --init=<out>), decoded and used for transcription as any run; its data are
named without their folders. models/english was made with it.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    out: str
    """Folder to write."""
    run: str = LATEST
    """Run folder to export."""
    checkpoint: str = "best"
    """Which checkpoint: best, last or a kept step."""
    dtype: Dtype = "bfloat16"
    """Precision of the stored weights."""


def main(argv: list[str] | None = None) -> None:
    options = config.parse(Options, argv, description=DESCRIPTION)
    run = export(Run.open(options.run), options.out, options.checkpoint, options.dtype)
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    weights = sum(path.stat().st_size for path in files if "checkpoints" in path.parts)
    print(f"{run.folder}: step {run.step_of('best')}, weights {weights / 1e6:.1f} MB in {options.dtype}")


if __name__ == "__main__":
    config.run(main)
