"""Trees of arrays on disk: stored by Orbax under their fields' names, with digests checked on reading."""

import contextlib
import json
import logging
import os
import re
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from w2l_jax.errors import UserError
from w2l_jax.files import digest, read, write_atomically

_DIGESTS = "digests.json"


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return not re.search("orbax|tensorstore", record.getMessage())


def write(folder: Path, trees: Mapping[str, Any]) -> None:
    """Stores each tree (dictionaries, tuples, optax states) under its name in `folder`, with digests.

    Raises OSError if the file system is full or refuses them.
    """
    try:
        with _checkpointer() as checkpointer:
            for name, tree in trees.items():
                checkpointer.save((folder / name).absolute(), tree)
    except Exception as error:
        _wait_for_writers(folder)
        if isinstance(error, OSError):
            error.filename = str(folder)
        elif code := re.search(r"os_error_code='(\d+)'", str(error)):  # TensorStore raises no OSError
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(folder)) from None
        raise
    write_atomically(folder / _DIGESTS, json.dumps({name: digest(named(tree)) for name, tree in trees.items()}))


def _wait_for_writers(folder: Path) -> None:
    """Returns when no thread of TensorStore creates files any more: they continue after one has failed."""
    before, now = None, sorted(folder.rglob("*"))
    while now != before:
        time.sleep(0.2)
        before, now = now, sorted(folder.rglob("*"))


def restore(path: Path) -> Any:
    """Returns the tree stored as `path`, of dictionaries and lists; raises UserError if it was changed since."""
    jax.devices()  # raises here if there is no device, which is not the checkpoint's fault
    expected = read(path.parent / _DIGESTS, lambda text: dict(json.loads(text)), "use another checkpoint")
    try:
        with _checkpointer() as checkpointer:
            tree = jax.tree.map(np.asarray, checkpointer.restore(path.absolute()))
    except Exception as error:  # Orbax and TensorStore raise many types for damaged files
        reason = textwrap.shorten(str(error).partition(" [tensorstore_spec")[0], 300) or type(error).__name__
        raise UserError(f"{path}: damaged or incomplete checkpoint ({reason}); use another one") from None
    if digest(named(tree)) != expected.get(path.name):
        raise UserError(f"{path}: damaged checkpoint (its digest differs); use another one")
    return tree


def named(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by name: those of Adam's state are `count`, `mu.layer_01.kernel`, ….

    A tree as `restore` returns it has the names of the one that was stored.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


@contextlib.contextmanager
def _checkpointer() -> Iterator[Any]:
    """An Orbax checkpointer that does not wait for other processes (one saves, each restores).

    It raises errors without also printing them.
    """
    import orbax.checkpoint as ocp

    own = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    # After the first failed array, whose error is raised, asyncio would print those of the others, possibly later.
    logging.getLogger("asyncio").addFilter(_not_of_orbax)
    try:
        with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
            yield checkpointer
    finally:
        logger.setLevel(before)
