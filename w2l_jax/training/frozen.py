"""Verifies that frozen layers are, byte for byte, as training began."""

import json
from pathlib import Path

import jax

from w2l_jax import freezing
from w2l_jax.errors import UserError
from w2l_jax.files import digest, read, write_atomically
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
    """Stores the digests of a run's initial frozen layers in its folder."""
    write_atomically(folder / FROZEN_FILE, json.dumps(digests(params, frozen), indent=1))


def verify(folder: Path, params: Params, frozen: frozenset[int]) -> int:
    """Compares the frozen layers with those the run in `folder` began with; returns the number of arrays.

    Raises UserError naming those that differ in any bit.
    """
    path = folder / FROZEN_FILE
    expected = read(path, lambda text: dict(json.loads(text)), "freeze.verify cannot compare without it")
    actual = digests(params, frozen)
    changed = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
    if changed:
        raise UserError(
            f"{folder}: frozen arrays changed since training began: {', '.join(changed)}; nothing was saved. "
            "Resume from the last checkpoint; if this happens again, that one is damaged: start a new run"
        )
    return len(actual)
