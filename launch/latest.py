"""The default network of commands: the run trained last, else the included one."""

import os
import sys
from pathlib import Path

from w2l_jax.run import Run

LATEST = "runs/latest"
INCLUDED = "english"


def mark(folder: Path) -> None:
    """Points `runs/latest` to `folder`, for commands that name no run."""
    latest = Path(LATEST)
    if latest.exists() and not latest.is_symlink():
        return
    temporary = latest.with_name(f".latest.{os.getpid()}")
    try:
        latest.parent.mkdir(exist_ok=True)
        temporary.symlink_to(os.path.relpath(folder.resolve(), latest.parent.resolve()))
        temporary.replace(latest)
    except OSError as error:  # such as in a read-only working directory
        print(f"note: {LATEST} could not be pointed to {folder} ({error.strerror})", file=sys.stderr)


def choose(name: str) -> str:
    """Returns `name`, or the included network for `runs/latest` if no run exists."""
    return INCLUDED if name == LATEST and not Run.exists(name) else name


def outputs(name: str) -> Path:
    """Returns the folder for a network's results: the run folder, or `results/<name>` for a file."""
    return Path(name) if Run.exists(name) else Path("results") / Path(name).stem


def described(name: str) -> str:
    """Returns the run folder that `runs/latest` points to, or `name`."""
    return os.path.relpath(Path(name).resolve()) if Path(name).is_symlink() else name
