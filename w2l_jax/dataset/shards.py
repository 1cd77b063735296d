"""Shards of stored arrays: written whole or not at all, with a key of their inputs, and read at random."""

import collections
import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from w2l_jax.errors import UserError
from w2l_jax.files import replacing
from w2l_jax.reporting import Progress

AGAIN = "delete the folder and prepare it again"
# File descriptors are few (often 1024 per process) and LibriSpeech has 550 shards.
_OPEN_SHARDS = 128

Row = dict[str, Any]
Result = tuple[np.ndarray | None, Row]
"""The result of an item: the array to store (None if excluded) and its row."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """A planned shard: its items, one utterance each, and a key of everything that determines its content."""

    number: int
    name: str
    items: Sequence[Any]
    key: str

    def finished(self, folder: Path) -> bool:
        """Whether it is in `folder`, complete and with this content."""
        try:
            with self._rows(folder).open("rb") as file:
                head = json.loads(file.readline())
            return head == {"key": self.key, "bytes": (folder / self.name).stat().st_size}
        except (OSError, ValueError):
            return False

    def rows(self, folder: Path) -> Iterator[Row]:
        """Yields the rows of its items, stored and excluded, once it is finished."""
        with self._rows(folder).open("rb") as file:
            next(file)
            yield from map(json.loads, file)

    def write(self, folder: Path, results: Iterator[Result]) -> Iterator[None]:
        """Writes it into `folder` from the `results` of its items; yields after each."""
        from array_record.python import array_record_module

        rows: list[Row] = []
        with replacing(folder / self.name) as temporary:
            # One record per group, so that a random read decodes nothing else; features hardly compress (8 %).
            writer = array_record_module.ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
            for _ in self.items:
                array, row = next(results)
                if array is not None:
                    writer.write(array.tobytes())
                rows.append(row)
                yield
            writer.close()
            size = temporary.stat().st_size
        write_lines(self._rows(folder), [{"key": self.key, "bytes": size}, *rows])

    def _rows(self, folder: Path) -> Path:
        return folder / f"{self.name}.jsonl"


def plan(items: Sequence[Any], size: int, key: Callable[[Sequence[Any]], str]) -> list[Shard]:
    """Returns the shards of `items`, `size` in each; `key` hashes the inputs of a shard's items."""
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    return [
        Shard(number, f"shard-{number:05d}-of-{len(parts):05d}.array_record", part, key(part))
        for number, part in enumerate(parts)
    ]


def write_shards(
    out: Path,
    shards: Sequence[Shard],
    work: Callable[[Sequence[Any]], Generator[Result, None, None]],
    progress: Progress,
    what: str = "features",
) -> None:
    """Writes the unfinished `shards` into `out`, one by one.

    `work` yields the result of each given item; `what` names them for `progress`.
    """
    todo = [shard for shard in shards if not shard.finished(out)]
    total = sum(len(shard.items) for shard in shards)
    done = total - sum(len(shard.items) for shard in todo)
    progress(done, total, what)
    with contextlib.closing(work([item for shard in todo for item in shard.items])) as results:
        for shard in todo:
            for _ in shard.write(out, results):
                done += 1
                progress(done, total, what)


def write_lines(path: Path, rows: Iterable[Row]) -> None:
    """Writes rows as JSON lines, atomically and one at a time."""
    # A file name need not be UTF-8: other bytes are written as JSON's \udc80 … \udcff and read back unchanged.
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


@dataclasses.dataclass(frozen=True)
class Record:
    """Describes the stored array of an utterance of T frames: [ceil(T / stride), channels]."""

    channels: int
    dtype: np.dtype = np.dtype(np.float16)
    stride: int = 1
    layer: int = 0
    """The network's layer whose output it is; 0 for features."""
    repair: str = AGAIN
    """What to do if it is damaged."""

    def rows(self, frames: int) -> int:
        """The array's length for `frames` input frames."""
        return -(-frames // self.stride)

    def bytes(self, frames: int) -> int:
        """The array's size for `frames` input frames."""
        return self.rows(frames) * self.channels * self.dtype.itemsize


class ShardReader:
    """The record files of one folder, opened when first used; thread-safe and picklable (reopened)."""

    def __init__(self, folder: Path, names: Sequence[str], record: Record):
        self._folder, self._names, self.record = folder, tuple(names), record
        self._lock = threading.Lock()
        self._open: collections.OrderedDict[int, Any] = collections.OrderedDict()

    def __reduce__(self):
        return ShardReader, (self._folder, self._names, self.record)

    def __len__(self) -> int:
        return len(self._names)

    def read(self, shard: int, positions: Sequence[int], frames: Sequence[int]) -> list[np.ndarray]:
        """Returns the arrays at `positions` of one shard; raises UserError if they are damaged."""
        path = self._folder / self._names[shard]
        try:
            records = self._reader(shard, path).read([int(position) for position in positions])
        except (RuntimeError, IndexError, ValueError) as error:
            raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); {self.record.repair}") from None
        if [len(record) for record in records] != [self.record.bytes(count) for count in frames]:
            raise UserError(f"{path}: damaged (records are not of the sizes the index states); {self.record.repair}")
        return [np.frombuffer(record, self.record.dtype).reshape(-1, self.record.channels) for record in records]

    def followed_by(self, other: "ShardReader") -> "ShardReader":
        """The files of both, those of `other` numbered last."""
        names = [str((shards._folder / name).absolute()) for shards in (self, other) for name in shards._names]
        return ShardReader(self._folder, names, self.record)

    def _reader(self, shard: int, path: Path) -> Any:
        with self._lock:
            if shard not in self._open:
                from array_record.python import array_record_module

                # Random access: read-ahead and the reader's own threads would only slow it down.
                options = "readahead_buffer_size:0,max_parallelism:0"
                self._open[shard] = array_record_module.ArrayRecordReader(
                    str(path), options, file_reader_buffer_size=32768
                )
                # Dropped, not closed: another thread may still be reading from it.
                if len(self._open) > _OPEN_SHARDS:
                    self._open.popitem(last=False)
            self._open.move_to_end(shard)
            return self._open[shard]
