"""Make a run small enough to give away: weights in bfloat16, no optimizer state, no paths of this machine."""

import dataclasses
import sys
from pathlib import Path

import cli
from w2l_jax import network
from w2l_jax.errors import UserError
from w2l_jax.export import Dtype, export, import_safetensors, to_safetensors
from w2l_jax.run import LATEST, Run

DESCRIPTION = """Write a run to pass on: one checkpoint, in bfloat16, without optimizer state.

As a folder it can be adapted (train.py --init=<out>), decoded and used for transcription as any run; its data are
named without their folders. models/english was made with it. As one file, --out=<name>.safetensors, other JAX programs
read it with w2l_jax.load; --run=<name>.safetensors --out=<folder> makes a run folder of such a file.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    out: str
    """Folder to write, or file if it ends in .safetensors."""
    run: str = LATEST
    """Run folder to export, or .safetensors file to make a run folder of."""
    checkpoint: str = "best"
    """Which checkpoint: best, last or a kept step."""
    dtype: Dtype = "bfloat16"
    """Precision of the stored weights."""


def main(argv: list[str] | None = None) -> None:
    options = cli.parse(Options, argv, description=DESCRIPTION)
    to_file = Path(options.out).suffix == network.SUFFIX
    if Path(options.run).suffix == network.SUFFIX:
        _check_import(cli.given(sys.argv[1:] if argv is None else argv), to_file)
        run = import_safetensors(options.run, options.out)
        print(f"{run.folder}: step {run.step_of('best')}; adapt it with train.py --init={run.folder}")
        return
    source = Run.open(options.run)
    if to_file:
        to_safetensors(source, options.out, options.checkpoint, options.dtype)
        weights = [Path(options.out)]
    else:
        weights = export(source, options.out, options.checkpoint, options.dtype).checkpoints.rglob("*")
    size = sum(path.stat().st_size for path in weights if path.is_file())
    step = source.step_of(options.checkpoint)
    print(f"{options.out}: step {step}, weights {size / 1e6:.1f} MB in {options.dtype}")


def _check_import(given: dict[str, str], to_file: bool) -> None:
    if to_file:
        raise UserError("--run and --out are both files: copy it, or give --out=<folder> to make a run folder of it")
    for name in ("checkpoint", "dtype"):
        if name in given:
            raise UserError(f"--{name} has no meaning for a file, which holds one checkpoint and is taken as it is")


if __name__ == "__main__":
    cli.run(main)
