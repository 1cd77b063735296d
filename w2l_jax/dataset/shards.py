"""Shards of a prepared dataset: each is written whole or not at all, and says what decided its content."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from array_record.python import array_record_module

from w2l_jax.corpora import Utterance
from w2l_jax.dataset import filters
from w2l_jax.dataset.identity import PrepareConfig, digest, piece

Progress = Callable[[int, int, str], None]
Row = dict[str, Any]
Listen = Callable[[Iterable[filters.Task]], Iterator[filters.Heard | filters.Exclusion]]


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard to be: its utterances with their transcripts, and a key of all that decides its content."""

    number: int
    name: str
    items: Sequence[tuple[Utterance, str]]
    key: str

    def finished(self, folder: Path) -> bool:
        """Whether it lies in `folder`, whole and of this content."""
        try:
            with self._rows(folder).open("rb") as file:
                head = json.loads(file.readline())
            return head == {"key": self.key, "bytes": (folder / self.name).stat().st_size}
        except (OSError, ValueError):
            return False

    def rows(self, folder: Path) -> Iterator[Row]:
        """Yields the rows of its utterances, kept and excluded, once it is finished."""
        with self._rows(folder).open("rb") as file:
            next(file)
            yield from map(json.loads, file)

    def write(self, folder: Path, heard: Iterator[filters.Heard | filters.Exclusion]) -> Iterator[None]:
        """Writes it into `folder`, taking what its utterances are heard as from `heard`; yields after each."""
        temporary = folder / f"{self.name}.tmp"
        # One record a group, so that a random read decodes nothing else; noise-like numbers do not compress (8 %).
        writer = array_record_module.ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
        rows: list[Row] = []
        for utterance, transcript in self.items:
            result = next(heard)
            if isinstance(result, filters.Exclusion):
                rows.append(excluded_row(utterance, result))
            else:
                writer.write(result.features_TxM.tobytes())
                rows.append(_kept_row(utterance, transcript, result))
            yield
        writer.close()
        size = temporary.stat().st_size
        os.replace(temporary, folder / self.name)
        write_lines(self._rows(folder), [{"key": self.key, "bytes": size}, *rows])

    def _rows(self, folder: Path) -> Path:
        return folder / f"{self.name}.jsonl"


def plan(
    items: Sequence[tuple[Utterance, str]], size: int, config: PrepareConfig, stamps: Mapping[str, list[Any]]
) -> list[Shard]:
    """Returns the shards of utterances and their transcripts, `size` in each; `stamps` are `identity.stamp`s by id."""
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    return [
        Shard(
            number,
            f"shard-{number:05d}-of-{len(parts):05d}.array_record",
            part,
            digest(config, (stamps[utterance.id] for utterance, _ in part)),
        )
        for number, part in enumerate(parts)
    ]


def write_shards(out: Path, shards: Sequence[Shard], listen: Listen, progress: Progress) -> None:
    """Writes those of `shards` that are not finished in `out`, one after the other."""
    todo = [shard for shard in shards if not shard.finished(out)]
    total = sum(len(shard.items) for shard in shards)
    done = total - sum(len(shard.items) for shard in todo)
    tasks = ((u.audio, transcript, u.start, u.end) for shard in todo for u, transcript in shard.items)
    progress(done, total, "features")
    with contextlib.closing(listen(tasks)) as heard:
        for shard in todo:
            for _ in shard.write(out, heard):
                done += 1
                progress(done, total, "features")


def _kept_row(utterance: Utterance, transcript: str, heard: filters.Heard) -> Row:
    return {
        "id": utterance.id,
        "transcript": transcript,
        "text": utterance.text,
        "speaker": utterance.speaker,
        "source": utterance.source,
        "language": utterance.language,
        "split": utterance.split,
        "frames": len(heard.features_TxM),
        "duration": heard.seconds,
        "sha256": heard.sha256,
        "low_rate": heard.low_rate,
        **dict(zip(("start", "end"), piece(utterance), strict=False)),
    }


def excluded_row(utterance: Utterance, exclusion: filters.Exclusion) -> Row:
    """The row of an utterance that is left out: id, audio, source, reason, message."""
    return {
        "id": utterance.id,
        "audio": str(utterance.audio),
        "source": utterance.source,
        "reason": exclusion.reason,
        "message": exclusion.message,
    }


def write_lines(path: Path, rows: Iterable[Row]) -> None:
    """Writes rows as JSON lines, atomically and one at a time."""
    temporary = path.with_name(path.name + ".tmp")
    # A file name need not be UTF-8: what is not is written as JSON's \udc80 … \udcff, and read back as the same name.
    with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(temporary, path)


def atomically(path: Path, text: str) -> None:
    """Replaces `path` by `text` in one step."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)
