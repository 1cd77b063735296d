"""Shards of a prepared dataset: each is written whole or not at all, and says what decided its content."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from array_record.python import array_record_module

from w2l_jax.corpora import Utterance
from w2l_jax.dataset import filters

Progress = Callable[[int, int, str], None]
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard to be: its utterances with their transcripts, and a key of all that decides its content."""

    name: str
    items: Sequence[tuple[Utterance, str]]
    key: str

    def finished_rows(self, folder: Path) -> list[Row] | None:
        """Returns the rows of its utterances, kept and excluded, or None unless it lies finished in `folder`."""
        try:
            head, *rows = map(json.loads, (folder / f"{self.name}.jsonl").read_bytes().splitlines())
            size = (folder / self.name).stat().st_size
        except (OSError, ValueError):
            return None
        return rows if head == {"key": self.key, "bytes": size} else None


def write_shards(
    out: Path,
    shards: Sequence[Shard],
    rows: dict[str, list[Row]],
    listen: Callable[[Iterable[tuple[Path, str]]], Iterator[filters.Heard | filters.Exclusion]],
    progress: Progress,
) -> dict[str, list[Row]]:
    """Writes the shards that `rows` lacks, the finished ones; returns the rows of all, by shard, in order."""
    todo = [shard for shard in shards if shard.name not in rows]
    total, done = sum(len(shard.items) for shard in shards), sum(map(len, rows.values()))
    tasks = [(utterance.audio, transcript) for shard in todo for utterance, transcript in shard.items]
    progress(done, total, "features")
    with contextlib.closing(listen(tasks)) as heard:
        for shard in todo:
            rows[shard.name] = []
            for row in _write_shard(out, shard, heard):
                rows[shard.name].append(row)
                done += 1
                progress(done, total, "features")
    return {shard.name: rows[shard.name] for shard in shards}


def _write_shard(out: Path, shard: Shard, heard: Iterator[filters.Heard | filters.Exclusion]) -> Iterator[Row]:
    temporary = out / f"{shard.name}.tmp"
    # One record a group, so that a random read decodes nothing else; noise-like numbers do not compress (8 %).
    writer = array_record_module.ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
    rows = []
    for utterance, transcript in shard.items:
        result = next(heard)
        if isinstance(result, filters.Exclusion):
            rows.append(excluded_row(utterance, result))
        else:
            writer.write(result.features_TxM.tobytes())
            rows.append(_kept_row(utterance, transcript, result))
        yield rows[-1]
    writer.close()
    size = temporary.stat().st_size
    os.replace(temporary, out / shard.name)
    write_lines(out / f"{shard.name}.jsonl", [{"key": shard.key, "bytes": size}, *rows])


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
    }


def excluded_row(utterance: Utterance, exclusion: filters.Exclusion) -> Row:
    """The row of an utterance that is left out: id, audio, reason, message."""
    return {
        "id": utterance.id,
        "audio": str(utterance.audio),
        "reason": exclusion.reason,
        "message": exclusion.message,
    }


def write_lines(path: Path, rows: Iterable[Row]) -> None:
    """Writes rows as JSON lines, atomically."""
    atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def atomically(path: Path, text: str) -> None:
    """Replaces `path` by `text` in one step."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)
