"""Proof on the arrays themselves that frozen layers are, byte for byte, what training began with."""

import json
from pathlib import Path

import jax

from w2l_jax import freezing
from w2l_jax.errors import UserError
from w2l_jax.files import digest, write_atomically
from w2l_jax.model import Params

FROZEN_FILE = "frozen.json"


def digests(params: Params, frozen: frozenset[int]) -> dict[str, str]:
    """`layer_01/kernel` → digest, for every array of the frozen layers."""
    _, held = freezing.partition(params, frozen)
    return {
        f"{layer}/{name}": digest({name: jax.device_get(leaf)})
        for layer, leaves in held.items()
        for name, leaf in leaves.items()
    }


def remember(folder: Path, params: Params, frozen: frozenset[int]) -> None:
    """Writes the digests of what a run begins with into its folder."""
    write_atomically(folder / FROZEN_FILE, json.dumps(digests(params, frozen), indent=1))


def verify(folder: Path, params: Params, frozen: frozenset[int]) -> int:
    """Compares the frozen layers with what the run in `folder` began with; returns the number of arrays.

    Raises UserError naming those that differ, in however little.
    """
    path = folder / FROZEN_FILE
    try:
        expected = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}), so freeze.verify cannot compare") from None
    found = digests(params, frozen)
    changed = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if changed:
        raise UserError(
            f"{folder}: frozen, but not what training began with: {', '.join(changed)}; nothing of this was saved. If "
            "resume, which starts from the last checkpoint, ends here again, that one is damaged: start a new run"
        )
    return len(found)
