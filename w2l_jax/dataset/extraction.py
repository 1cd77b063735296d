"""Extracts features of recordings with transcripts, one at a time, in several processes."""

import contextlib
import dataclasses
import functools
import itertools
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from w2l_jax import audio, features
from w2l_jax.corpora import Skipped, Utterance
from w2l_jax.dataset import filters
from w2l_jax.dataset.filters import Exclusion
from w2l_jax.dataset.identity import PrepareConfig, piece
from w2l_jax.dataset.shards import Result, Row
from w2l_jax.errors import UserError
from w2l_jax.files import file_digest
from w2l_jax.workers import WorkerDiedError, WorkerPool, usable_cores

Task = tuple[Path, str, float, float | None]
"""A recording, its transcript, and start and end of the piece in seconds (None: the end of the file)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Extracted:
    """The features and facts of a usable recording."""

    features_TxM: np.ndarray
    """float16."""
    seconds: float
    sha256: str
    """Of the audio file's bytes."""
    low_rate: bool
    """Recorded below 16 kHz."""
    cut: bool
    """Truncated or damaged, and read to its end."""


def extract(
    path: Path,
    transcript: str,
    max_seconds: float,
    config: features.FeatureConfig,
    start: float = 0.0,
    end: float | None = None,
    truncated: audio.Truncated = "error",
) -> Extracted | Exclusion:
    """Reads a recording, or a piece of one, and computes its features; returns an exclusion if it cannot be used."""
    try:
        promised = (audio.seconds(path) if end is None else end) - start
        if promised > 10 * max_seconds:
            # Before decoding, since hours need gigabytes; headers may be inexact, hence the wide margin.
            return _too_long(path, promised, max_seconds)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            blocks, samples = [], 0
            for block_N in audio.blocks(path, start, end, truncated):
                blocks.append(block_N)
                samples += len(block_N)
                if samples > 10 * max_seconds * audio.SAMPLE_RATE:  # not in its header
                    return _too_long(path, samples / audio.SAMPLE_RATE, max_seconds)
            waveform_N = np.concatenate(blocks)
        sha256 = _sha256(path, path.stat().st_size, path.stat().st_mtime_ns)
    except audio.AudioError as error:
        return Exclusion(error.reason, str(error))
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        return Exclusion("unreadable audio", f"{path}: cannot be read ({error})")
    seconds = len(waveform_N) / audio.SAMPLE_RATE
    if seconds > max_seconds:
        return _too_long(path, seconds, max_seconds)
    exclusion = filters.label_too_long(features.frame_count(len(waveform_N)), transcript)
    if exclusion:
        return exclusion
    messages = [str(warning.message).removeprefix(f"{path}: ") for warning in caught]
    low_rate, cut = (
        any(text.startswith("recorded at") for text in messages),
        any("; read up to" in text for text in messages),
    )
    return Extracted(features.compute(waveform_N, config), seconds, sha256, low_rate, cut)


@functools.lru_cache(maxsize=4)
def _sha256(path: Path, size: int, changed: int) -> str:
    """The SHA-256 of the whole file; cached for the pieces of one recording while its size and time are the same."""
    return file_digest(path)


def _too_long(path: Path, seconds: float, max_seconds: float) -> Exclusion:
    return Exclusion(filters.TOO_LONG, f"{path}: {seconds:.1f} s, the limit is {max_seconds:g} s")


# Enough work per chunk to hide the transfer, little enough to keep two cores busy on a small corpus (8 · 350 kB).
_CHUNK = 8


def extract_all(
    tasks: Iterable[Task],
    max_seconds: float,
    config: features.FeatureConfig,
    workers: int | None = 0,
    truncated: audio.Truncated = "error",
) -> Iterator[Extracted | Exclusion]:
    """Yields `extract` of each task in order, computed by `workers` processes (0: one per core).

    One worker means this process. Raises UserError if a worker dies.
    """
    tasks = iter(tasks)
    chunks = iter(lambda: tuple(itertools.islice(tasks, _CHUNK)), ())
    work = functools.partial(_extract, max_seconds=max_seconds, config=config, truncated=truncated)
    workers = workers or usable_cores()
    if workers < 0:
        raise UserError(f"the number of workers must not be negative, but it is {workers}")
    if workers == 1:
        for chunk in chunks:
            yield from work(chunk)
        return
    with WorkerPool(work, workers) as pool:
        try:
            yield from itertools.chain.from_iterable(pool.in_order(chunks))
        except WorkerDiedError:
            raise UserError(
                "a worker process died, perhaps for lack of memory; finished work is kept: run the same command "
                "again with fewer workers"
            ) from None


def _extract(chunk: Sequence[Task], **options: Any) -> list[Extracted | Exclusion]:
    return [extract(path, transcript, start=start, end=end, **options) for path, transcript, start, end in chunk]


def extract_features(
    items: Sequence[tuple[Utterance, str]], config: PrepareConfig, workers: int | None
) -> Generator[Result, None, None]:
    """Yields the features of utterances with their transcripts, or why they are excluded."""
    tasks = ((utterance.audio, transcript, utterance.start, utterance.end) for utterance, transcript in items)
    truncated = "read" if config.truncated == "read" else "error"
    results = extract_all(tasks, config.max_seconds, config.features, workers, truncated)
    with contextlib.closing(results) as extracted:
        for (utterance, transcript), result in zip(items, extracted, strict=True):
            if isinstance(result, Exclusion):
                yield None, excluded_row(utterance, result)
            else:
                yield result.features_TxM, _kept_row(utterance, transcript, result)


def _kept_row(utterance: Utterance, transcript: str, extracted: Extracted) -> Row:
    return {
        "id": utterance.id,
        "transcript": transcript,
        "text": utterance.text,
        "speaker": utterance.speaker,
        "source": utterance.source,
        "language": utterance.language,
        "split": utterance.split,
        "frames": len(extracted.features_TxM),
        "duration": extracted.seconds,
        "sha256": extracted.sha256,
        "low_rate": extracted.low_rate,
        "cut": extracted.cut,
        **dict(zip(("start", "end"), piece(utterance), strict=False)),
    }


def excluded_row(utterance: Utterance, exclusion: Exclusion) -> Row:
    """The row of an excluded utterance: id, audio, source, reason, message."""
    return {
        "id": utterance.id,
        "audio": str(utterance.audio),
        "source": utterance.source,
        "reason": exclusion.reason,
        "message": exclusion.message,
    }


def skipped_row(skipped: Skipped, source: str = "") -> Row:
    """The row of an item that gave no utterance, as `excluded_row`."""
    return {
        "id": skipped.id,
        "audio": str(skipped.path),
        "source": source,
        "reason": skipped.reason,
        "message": skipped.message,
    }
