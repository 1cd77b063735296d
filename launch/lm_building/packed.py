"""The lines of a file, plain or compressed (.gz, .bz2, .xz, .zst), in constant memory."""

import bz2
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from w2l_jax.errors import UserError

ENDINGS = (".gz", ".bz2", ".xz", ".zst")
_LONGEST = 2**16
_TELL_EVERY = 2**20


def lines(path: Path, progress: Callable[[int], None] = lambda position: None) -> Iterator[tuple[int, bytes]]:
    """Yields the number (from 1) and the content, without its end, of each line.

    A line of more than 64 KiB is split, at spaces if possible. `progress` takes the number of bytes read. Raises
    UserError, naming the line, if the file cannot be read or is truncated.
    """
    unpack, error = _format(path.suffix.lower())
    number, told = 0, 0
    try:
        with path.open("rb") as packed, unpack(packed) as file:
            for number, line in _cut(file):
                yield number, line
                if packed.tell() - told >= _TELL_EVERY:
                    told = packed.tell()
                    progress(told)
    except (OSError, EOFError, error) as problem:
        raise UserError(f"{path}: cannot be read after line {number} ({problem}); is the file complete?") from None


def _format(ending: str) -> tuple[Callable[[BinaryIO], Any], type[Exception]]:
    """The opener of files with this suffix, and its extra exceptions for damaged ones."""
    if ending == ".zst":
        try:
            from compression import zstd
        except ImportError:  # Python before 3.14
            from backports import zstd
        return zstd.open, zstd.ZstdError
    plain = (contextlib.nullcontext, OSError)
    formats = {".gz": (gzip.open, zlib.error), ".bz2": (bz2.open, OSError), ".xz": (lzma.open, lzma.LZMAError)}
    return formats.get(ending, plain)


def _cut(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number, rest = 1, b""
    while piece := file.readline(_LONGEST):
        line, rest = rest + piece, b""
        ends = line.endswith(b"\n")
        if not ends and len(piece) == _LONGEST:
            line, _, rest = line.rpartition(b" ")
            if not line:  # without spaces: split between two characters, at most 4 bytes back
                last = range(len(rest) - 1, len(rest) - 5, -1)
                begin = next((i for i in last if rest[i] & 0xC0 != 0x80), last[-1])
                line, rest = rest[:begin], rest[begin:]
        if line:
            yield number, line.removesuffix(b"\n").removesuffix(b"\r")
        number += ends
    if rest:
        yield number, rest
