"""Utterances to a prepared dataset: checked texts, features in shards, an index, a list of what was left out.

Shards are written one after the other, each whole or not at all, so that preparation killed at any moment goes on
with the first one that is missing. `store` describes the folder and reads it.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from w2l_jax.alphabet import BLANK, language_name, preset
from w2l_jax.corpora import Utterance, manifest
from w2l_jax.dataset import filters
from w2l_jax.dataset.shards import Progress, Row, Shard, atomically, excluded_row, write_lines, write_shards
from w2l_jax.dataset.store import EXCLUDED, FORMAT, INDEX, PREPARED, Dataset, open_dataset
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig

_INPUTS, _LOCK = "inputs.sha256", ".lock"


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """What decides the content of a prepared dataset, beside the utterances."""

    language: str = "english"
    """Language of the transcripts (english, german, … or en, de, …): alphabet and normalisation."""
    max_seconds: float = 35.0
    """Longer recordings are left out."""
    unknown_characters: filters.OnUnknown = "error"
    """What to do about texts with characters outside the alphabet."""
    features: FeatureConfig = FeatureConfig()

    def __post_init__(self):
        object.__setattr__(self, "language", language_name(self.language))
        if not self.max_seconds > 0:
            raise UserError(f"max_seconds must be positive, not {self.max_seconds}")


def prepare(
    utterances: Iterable[Utterance],
    out: str | Path,
    config: PrepareConfig = PrepareConfig(),
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    shard_size: int = 512,
    replace: bool = False,
) -> Dataset:
    """Writes a prepared dataset of `utterances` into the folder `out` and opens it.

    A finished folder made from the same input is opened as it is, an interrupted one goes on; one of other input is
    an error unless it may be replaced. Neither the utterances' order and paths nor `workers` (processes; 0 or None:
    one a core) change the content. Warns once about recordings below 16 kHz. Raises UserError for duplicate ids,
    unknown characters (unless they are to be dropped), a full disk, and if every utterance would be left out.
    """
    out, given = Path(out), sorted(utterances, key=lambda utterance: utterance.id)
    _check_ids(given)
    stamps = {utterance.id: _stamp(utterance) for utterance in given}
    inputs = _digest(config, list(stamps.values()))
    if _is_of(out, inputs):
        return open_dataset(out)
    if (out / PREPARED).exists() and not replace:
        raise _other_input(out)
    filters.check_languages(given, config.language)
    transcripts, exclusions = filters.check_texts(given, preset(config.language), config.unknown_characters)
    left_out = [excluded_row(utterance, exclusions[utterance.id]) for utterance in given if utterance.id in exclusions]
    if not transcripts:
        raise _nothing_left(left_out)
    shards = _plan([(u, transcripts[u.id]) for u in given if u.id in transcripts], shard_size, config, stamps)
    with _writing(out, shards):
        if not _is_of(out, inputs):  # another process may have written it while this one waited
            rows = _write_shards(out, shards, config, replace, workers, progress or (lambda *_: None))
            _finish(out, rows, left_out, config, inputs)
    return open_dataset(out)


def prepare_cached(
    path: str | Path,
    cache: str | Path,
    config: PrepareConfig = PrepareConfig(),
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Prepares a manifest into a folder of `cache` that is named after its content, place and settings.

    It is opened without work where it is complete and no audio file's size or time of change differs from what they
    were; else it is prepared again. Raises UserError as `manifest.read` and `prepare`.
    """
    path = Path(path)
    utterances = manifest.read(path)
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"{path.stem}-{_digest(config, [content, str(path.resolve())])[:10]}"
    return prepare(utterances, Path(cache) / name, config, workers=workers, progress=progress, replace=True)


def open_or_prepare(
    path: str | Path,
    cache: str | Path,
    config: PrepareConfig = PrepareConfig(),
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Opens a prepared folder, or a manifest (`.jsonl`) by way of `prepare_cached`.

    Raises UserError for anything else, and for a folder whose language or features differ from `config`'s.
    """
    path = Path(path)
    if path.is_file() and path.suffix in (".jsonl", ".json"):
        return prepare_cached(path, cache, config, workers=workers, progress=progress)
    if not path.is_dir():
        what = "no such file or folder" if not path.exists() else "neither a .jsonl manifest nor a prepared folder"
        raise UserError(f"{path}: {what}; data are JSON-lines manifests or what launch/prepare.py made of them")
    dataset = open_dataset(path)
    pairs = [("language", dataset.language, config.language)]
    for field in dataclasses.fields(FeatureConfig):
        pairs.append((f"features.{field.name}", *(getattr(c.features, field.name) for c in (dataset, config))))
    for name, found, wanted in pairs:
        if found != wanted:
            raise UserError(
                f"{path}: prepared with {name}={found}, but here it is to be {wanted}; "
                f"prepare it again with --{name}={wanted}, or change that option here"
            )
    return dataset


def _check_ids(utterances: Sequence[Utterance]) -> None:
    if not utterances:
        raise UserError("there are no utterances to prepare")
    for first, second in zip(utterances, utterances[1:], strict=False):
        if first.id == second.id:
            raise UserError(
                f"two utterances have the id {first.id!r}: {first.audio} and {second.audio}; rename one, "
                "results are reported by id"
            )


def _stamp(utterance: Utterance) -> list[Any]:
    """What would make an utterance's row another one, as far as it can be told without reading its audio."""
    try:
        stat = utterance.audio.stat()
        size, changed = stat.st_size, stat.st_mtime_ns
    except (OSError, ValueError):
        size, changed = -1, -1
    fields = (utterance.id, utterance.text, utterance.speaker, utterance.source, utterance.language, utterance.split)
    return [*fields, size, changed]


def _digest(config: PrepareConfig, content: Sequence[Any]) -> str:
    text = json.dumps([FORMAT, dataclasses.asdict(config), content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_of(out: Path, inputs: str) -> bool:
    try:
        return (out / PREPARED).exists() and (out / _INPUTS).read_text() == inputs
    except OSError:
        return False


def _plan(
    items: Sequence[tuple[Utterance, str]], size: int, config: PrepareConfig, stamps: dict[str, list[Any]]
) -> list[Shard]:
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    return [
        Shard(
            f"shard-{number:05d}-of-{len(parts):05d}.array_record",
            part,
            _digest(config, [stamps[utterance.id] for utterance, _ in part]),
        )
        for number, part in enumerate(parts)
    ]


def _write_shards(
    out: Path, shards: Sequence[Shard], config: PrepareConfig, replace: bool, workers: int | None, progress: Progress
) -> dict[str, list[Row]]:
    finished = {shard.name: rows for shard in shards if (rows := shard.finished_rows(out)) is not None}
    _clear_away(out, set(finished), replace)

    def listen(tasks: Iterable[tuple[Path, str]]) -> Iterator[filters.Heard | filters.Exclusion]:
        return filters.listen_all(tasks, config.max_seconds, config.features, workers)

    return write_shards(out, shards, finished, listen, progress)


def _finish(out: Path, rows: dict[str, list[Row]], left_out: list[Row], config: PrepareConfig, inputs: str) -> None:
    """Writes what stands beside the shards, `prepared.json` last."""
    left_out = sorted(left_out + [row for part in rows.values() for row in part if "reason" in row], key=_id)
    write_lines(out / EXCLUDED, left_out)
    kept, low = [], 0
    for number, part in enumerate(rows.values()):
        for position, row in enumerate(row for row in part if "reason" not in row):
            low += row["low_rate"]
            row = {name: value for name, value in row.items() if name != "low_rate"}
            kept.append(row | {"shard": number, "position": position})
    if not kept:
        for path in out.glob("shard-*"):
            path.unlink()
        raise _nothing_left(left_out, f"; {out / EXCLUDED} lists them")
    write_lines(out / INDEX, kept)
    settings = dataclasses.asdict(config)
    meta = {
        "format": FORMAT,
        "fingerprint": _fingerprint(kept, settings),
        "config": settings,
        "alphabet": {"blank": BLANK, "characters": preset(config.language).characters},
        "utterances": len(kept),
        "hours": sum(row["duration"] for row in kept) / 3600,
        "excluded": Counter(row["reason"] for row in left_out),
        "below_16_khz": low,
        "index_sha256": hashlib.sha256((out / INDEX).read_bytes()).hexdigest(),
        "shards": [{"file": name, "bytes": (out / name).stat().st_size} for name in rows],
    }
    atomically(out / _INPUTS, inputs)
    atomically(out / PREPARED, json.dumps(meta, ensure_ascii=False, indent=1))
    for path in out.glob("shard-*.jsonl"):
        path.unlink()
    if low:
        warnings.warn(
            f"{out}: {low:,} of {len(kept):,} recordings are sampled below 16 kHz, so the upper bands of their "
            "features are empty; do not mix them with others unknowingly",
            stacklevel=3,
        )


def _fingerprint(kept: list[Row], settings: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, settings], sort_keys=True).encode())
    for row in sorted(kept, key=_id):
        content = [row[name] for name in ("id", "sha256", "text", "transcript", "speaker")]
        digest.update(json.dumps(content).encode() + b"\n")
    return digest.hexdigest()


def _id(row: Row) -> str:
    return row["id"]


def _clear_away(out: Path, finished: set[str], replace: bool) -> None:
    """Removes what an earlier preparation left in `out`, but for `finished` shards."""
    if not finished and not replace and any(out.glob("shard-*.jsonl")):
        raise _other_input(out)
    # First of all what says that the folder is complete.
    for path in [out / PREPARED, out / _INPUTS, *out.glob("shard-*")]:
        if path.name.removesuffix(".jsonl") not in finished:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(out: Path, shards: Sequence[Shard]) -> Iterator[None]:
    """Makes the folder, keeps other processes out of it, and turns a full disk into advice (UserError)."""
    if out.is_dir() and not (out / _LOCK).exists() and any(out.iterdir()):
        raise UserError(f"{out}: the folder holds other files; give a new --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / _LOCK).open("w")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); give another --out") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        except (OSError, RuntimeError) as error:
            # ArrayRecord's writer knows RuntimeError only.
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            if not full and os.strerror(errno.ENOSPC) not in str(error) and os.strerror(errno.EDQUOT) not in str(error):
                raise
            for path in out.glob("*.tmp"):
                os.truncate(path, 0)  # frees the room even while the writer holds the file
                path.unlink()
            raise UserError(_disk_full(out, shards)) from None


def _disk_full(out: Path, shards: Sequence[Shard]) -> str:
    finished = [shard for shard in shards if shard.finished_rows(out) is not None]
    free = shutil.disk_usage(out).free / 1e6
    if finished:
        written = sum((out / shard.name).stat().st_size for shard in finished)
        items = sum(len(shard.items) for shard in finished)
        total = written / items * sum(len(shard.items) for shard in shards)
        need = f"about {(total - written) / 1e6:,.0f} MB more are needed ({total / 1e6:,.0f} MB in all)"
    else:
        need = "features take about 115 MB per hour of speech"
    return (
        f"{out}: no space left on the device; {need}, {free:,.0f} MB are free there. Make room and run the same "
        f"command again (it goes on: {len(finished)} of {len(shards)} shards are finished and kept), or prepare to "
        "another disk"
    )


def _other_input(out: Path) -> UserError:
    return UserError(
        f"{out}: holds a preparation of other input or settings (or texts or audio files have changed since); "
        "delete the folder, or give another --out"
    )


def _nothing_left(left_out: Sequence[Row], where: str = "") -> UserError:
    counts = filters.table(Counter(row["reason"] for row in left_out))
    return UserError(
        f"nothing is left to prepare, all {len(left_out)} utterances were left out:\n{counts}\n"
        f"the first: {left_out[0]['id']}: {left_out[0]['message']}{where}"
    )
