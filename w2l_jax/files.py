"""Files written whole or not at all, and digests of what they hold."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces `path` by `content` so that a reader, or a kill, sees the old or the new one and nothing between."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns SHA-256 of names, types, shapes and values, whatever the order of the names and the arrays' strides."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype} {array.shape} ".encode())
        found.update(array.view(np.uint8).data if array.size else b"")
    return found.hexdigest()
