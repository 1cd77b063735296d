"""Which network a command uses when none is named: the run that was trained last, else the one that is included."""

import os
from pathlib import Path

from w2l_jax.run import Run

LATEST = "runs/latest"
INCLUDED = "english"


def mark(folder: Path) -> None:
    """Lets `runs/latest` lead to `folder`, for commands that name no run."""
    latest = Path(LATEST)
    latest.parent.mkdir(exist_ok=True)
    if latest.is_symlink() or not latest.exists():
        temporary = latest.with_name(".latest.tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(folder.resolve(), latest.parent.resolve()))
        temporary.replace(latest)


def choose(name: str) -> str:
    """Returns `name`, but the included network for `runs/latest` where no run exists yet."""
    return INCLUDED if name == LATEST and not Run.exists(name) else name


def outputs(name: str) -> Path:
    """Returns the folder for what is made of a network: the run folder, or `runs/<name>` for a file."""
    return Path(name) if Run.exists(name) else Path("runs") / Path(name).stem
