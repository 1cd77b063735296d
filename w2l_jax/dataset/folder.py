"""A folder of shards during writing: locks, clearing, full disks."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from w2l_jax.dataset.identity import PrepareConfig
from w2l_jax.dataset.shards import Shard
from w2l_jax.dataset.store import PREPARED, read_meta
from w2l_jax.errors import UserError
from w2l_jax.files import lock

INPUTS = "inputs.sha256"
_LOCK = ".lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_of(out: Path, inputs: str) -> bool:
    """Whether `out` is finished and was made from the input with the key `inputs`."""
    try:
        return (out / PREPARED).exists() and (out / INPUTS).read_bytes() == inputs.encode()
    except OSError:
        return False


def is_from(out: Path, source: str, config: PrepareConfig) -> bool:
    """Whether the finished folder `out` was made from `source` (with any content) and this `config`."""
    meta = read_meta(out)
    return meta.get("source") == source and meta["config"] == config.as_dict


@contextlib.contextmanager
def writing(
    out: Path, shards: Sequence[Shard], mine: Sequence[Shard], option: str = "out", size: str = "115 MB"
) -> Iterator[None]:
    """Makes the folder and locks the shards `mine` against other processes on any machine, waiting if necessary.

    Turns a full disk into a UserError with advice; raises UserError if the folder holds other files or cannot be
    written. `option` chooses the folder; `size` is that of an hour of speech.
    """
    # In this order: a writer's first file is the lock.
    if out.is_dir() and any(out.iterdir()) and not (out / _LOCK).exists():
        raise UserError(f"{out}: the folder holds other files; give a new {option}")
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            for taken in _wait_for(out, mine, len(mine) == len(shards)):
                stack.enter_context(taken)
        except OSError as error:
            raise UserError(f"{out}: cannot be written ({error.strerror}); give another {option}") from None
        try:
            yield
        except (OSError, RuntimeError) as error:
            # ArrayRecord's writer raises only RuntimeError.
            full = isinstance(error, OSError) and error.errno in _FULL
            if not full and not any(os.strerror(number) in str(error) for number in _FULL):
                raise
            raise UserError(_disk_full(out, shards, size)) from None


def _wait_for(out: Path, mine: Sequence[Shard], every: bool) -> Iterator[TextIO]:
    """Writing all shards excludes others; parts share the folder, except parts with the same first shard."""
    yield lock(out / _LOCK, shared=not every)
    if mine and not every:
        yield lock(out / f"{_LOCK}-{mine[0].number:05d}")
    if every:
        for path in [*out.glob(f"{_LOCK}-*"), *out.glob(".*.tmp")]:  # of processes that have ended
            path.unlink()


def clear_away(out: Path, shards: Sequence[Shard], mine: Sequence[Shard], replace: bool) -> None:
    """Removes what an earlier preparation left in `out`, except finished shards and those not `mine`."""
    finished = {shard.name for shard in shards if shard.finished(out)}
    if not finished and not replace and any(out.glob("shard-*.jsonl")):
        raise other_input(out)
    others = {shard.name for shard in shards} - {shard.name for shard in mine}
    # First the file that marks the folder as complete.
    for path in [out / PREPARED, out / INPUTS, *out.glob("shard-*")]:
        if path.name.removesuffix(".jsonl") not in finished | others:
            path.unlink(missing_ok=True)


def _disk_full(out: Path, shards: Sequence[Shard], size: str) -> str:
    finished = [shard for shard in shards if shard.finished(out)]
    free = shutil.disk_usage(out).free / 1e6
    if finished:
        written = sum((out / shard.name).stat().st_size for shard in finished)
        items = sum(len(shard.items) for shard in finished)
        total = written / items * sum(len(shard.items) for shard in shards)
        need = f"about {(total - written) / 1e6:,.0f} MB more are needed (of {total / 1e6:,.0f} MB)"
    else:
        need = f"an hour of speech takes about {size}"
    return (
        f"{out}: no space left on the device; {need}, {free:,.0f} MB are free. Make room and run the same "
        f"command again (it resumes: {len(finished)} of {len(shards)} shards are finished), or write to "
        "another disk"
    )


def other_input(out: Path) -> UserError:
    """The error of a folder that holds another preparation."""
    return UserError(
        f"{out}: holds a preparation of other input or options (or texts or audio files have changed since); "
        "delete the folder, or choose another folder"
    )
