"""Files that survive a kill, a full disk or a second process: one atomic write, one lock, one digest."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, TypeVar

from w2l_jax.errors import UserError

T = TypeVar("T")
_MANY = 1000
_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def read(path: str | Path, parse: Callable[[str], T], advice: str = "") -> T:
    """Returns `parse(text)`, such as `json.loads`, of a text file.

    Raises UserError, with the file's name and `advice`, if it cannot be read, is not UTF-8, or `parse` fails.
    """
    try:
        return parse(Path(path).read_bytes().decode())
    except OSError as error:
        reason = f"not readable: {error.strerror}"
    except UnicodeDecodeError as error:
        reason = f"damaged: not UTF-8 text ({error.reason} at byte {error.start})"
    except RecursionError:
        reason = "damaged: nested too deeply"
    except KeyError as error:
        reason = f"damaged: {error} is missing"
    except (ValueError, TypeError, AttributeError) as error:
        reason = f"damaged: {error}"
    raise UserError(f"{path}: {reason}" + (f"; {advice}" if advice else "")) from None


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Replaces `path` by `content`: a reader or a kill sees the old file or the new one, nothing between."""
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a file to write, which replaces `path` if the block ends without an exception.

    The content is synced to disk first. Processes that write the same path take turns.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with lock(temporary) as file:
        try:
            with contextlib.suppress(OSError):  # a device cannot be truncated
                file.truncate(0)  # left by a killed process
            yield temporary
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.truncate(temporary, 0)  # frees the space even while a writer holds the file
                temporary.unlink()
            if isinstance(error, OSError) and error.filename in (None, str(temporary)):
                error.filename = str(path)
            raise
    _sync(path.parent)


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Yields an empty folder to fill, which replaces `folder` if the block ends without an exception.

    A reader finds the old folder, none, or the new one. The caller holds a lock.
    """
    partial, old = (folder.with_name(f".{folder.name}.{ending}") for ending in ("partial", "old"))
    for leftover in (partial, old):  # of a killed process
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        _sync_all(partial)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    finally:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
    _sync(folder.parent)


def lock(path: Path, refusal: str = "", *, shared: bool = False) -> TextIO:
    """Locks the file `path` until the result is closed, or this process and all that inherited it have ended.

    Waits while another process holds the lock, or raises `refusal` as UserError; shared locks exclude only exclusive
    ones. On file systems without locks every process gets it.
    """
    while True:
        try:
            file = path.open("a")
        except OSError as error:
            error.filename = str(path.parent)  # which the user knows
            raise
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (fcntl.LOCK_NB if refusal else 0))
        except BlockingIOError:
            file.close()
            raise UserError(refusal) from None
        except OSError:
            return file
        # The previous owner may have renamed or removed it, and another process may have made a new one.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()


@contextlib.contextmanager
def locked(folder: Path, refusal: str) -> Iterator[TextIO]:
    """Yields the lock of a folder, made if necessary; raises `refusal` as UserError if another process holds it.

    Removes at the end what it made and is still empty.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock", refusal) as held:
        try:
            yield held
        finally:
            with contextlib.suppress(OSError):
                os.unlink(held.name)
                for path in created:  # that are still empty
                    path.rmdir()


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Lets one process at a time enter a block for the same folder; leaves no lock file."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.lock")
    with lock(beside):
        try:
            yield
        finally:
            beside.unlink(missing_ok=True)


def digest(arrays: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of named arrays: names, dtypes, shapes and bytes, in any order.

    Nested names are joined by dots, so a parameter tree has the digest of its flat form {"layer_01.kernel": …}.
    """
    import numpy as np

    sha = hashlib.sha256()
    for name, value in sorted(_flat(arrays), key=lambda pair: pair[0]):
        array = np.asarray(value)
        sha.update(f"{name} {array.dtype} {array.shape} ".encode())
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return sha.hexdigest()


def _flat(arrays: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def sealed(table: Mapping[str, Any]) -> str:
    """Returns JSON that holds a digest of itself."""
    return json.dumps({**table, "sha256": _json_digest(table)}, indent=1, ensure_ascii=False)


def unsealed(text: str) -> dict[str, Any]:
    """Returns the table of such JSON; raises ValueError if it was changed. Without a digest it is taken as it is."""
    table = dict(json.loads(text))
    expected = table.pop("sha256", None)
    if expected not in (None, _json_digest(table)):
        raise ValueError("not what was written (if you changed it, delete its sha256)")
    return table


def _json_digest(table: Mapping[str, Any]) -> str:
    return text_digest(json.dumps(json.loads(json.dumps(table)), sort_keys=True))


def text_digest(content: str | bytes) -> str:
    """Returns the SHA-256 of a text."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def file_digest(path: str | Path) -> str:
    """Returns the SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_all(folder: Path) -> None:
    """Syncs the content of `folder` to disk, file by file unless syncing everything is faster."""
    paths = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    if len(paths) > _MANY:
        os.sync()
        return
    for path in paths:
        if path.is_file():
            _sync(path)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno in _LOST:  # otherwise it is a folder on a file system that cannot sync those
            raise
    finally:
        os.close(opened)
