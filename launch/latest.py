"""Which network a command uses when none is named: the run that was trained last, else the one that is included."""

import os
import sys
from pathlib import Path

from w2l_jax.run import Run

LATEST = "runs/latest"
INCLUDED = "english"


def mark(folder: Path) -> None:
    """Lets `runs/latest` lead to `folder`, for commands that name no run."""
    latest = Path(LATEST)
    if latest.exists() and not latest.is_symlink():
        return
    temporary = latest.with_name(f".latest.{os.getpid()}")
    try:
        latest.parent.mkdir(exist_ok=True)
        temporary.symlink_to(os.path.relpath(folder.resolve(), latest.parent.resolve()))
        temporary.replace(latest)
    except OSError as error:  # such as in a working directory that is read-only: the run may be elsewhere
        print(f"note: {LATEST} does not lead to {folder} ({error.strerror})", file=sys.stderr)


def choose(name: str) -> str:
    """Returns `name`, but the included network for `runs/latest` where no run exists yet."""
    return INCLUDED if name == LATEST and not Run.exists(name) else name


def outputs(name: str) -> Path:
    """Returns the folder for what is made of a network: the run folder, or `runs/<name>` for a file."""
    return Path(name) if Run.exists(name) else Path("runs") / Path(name).stem
