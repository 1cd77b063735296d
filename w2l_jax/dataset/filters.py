"""Why an utterance is left out of a prepared dataset; every exclusion is counted by its reason.

First the texts, all of them and before any audio is touched; then one recording at a time.
"""

import dataclasses
import functools
import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from w2l_jax import audio, features
from w2l_jax.alphabet import Alphabet
from w2l_jax.corpora import MAX_SKIPPED, Utterance, too_many
from w2l_jax.errors import UserError
from w2l_jax.files import file_digest
from w2l_jax.languages import NAMES, language_name
from w2l_jax.text import Tags, clean, tags_in
from w2l_jax.workers import WorkerDiedError, WorkerPool, usable_cores

EMPTY_TEXT = "empty text"
TAGS = "tags in the text"
NUMBERS = "numbers not spelled"
UNKNOWN_CHARACTERS = "unknown characters"
TOO_LONG = "too long"
LABEL_TOO_LONG = "label too long"

OnUnknown = Literal["error", "drop_utterance"]
Task = tuple[Path, str, float, float | None]
"""A recording, its transcript, and where the piece of it begins and ends, in seconds (None: with the file)."""


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """An utterance that is left out: the short reason it is counted under, and a sentence that says more."""

    reason: str
    message: str


@dataclasses.dataclass(frozen=True, eq=False)
class Extracted:
    """What a usable recording contributes."""

    features_TxM: np.ndarray
    """float16."""
    seconds: float
    sha256: str
    """Of the audio file's bytes."""
    low_rate: bool
    """Recorded below 16 kHz."""


def needed_frames(transcript: str) -> int:
    """The fewest output frames CTC can emit `transcript` in: one a character, and a blank within each pair."""
    return len(transcript) + sum(a == b for a, b in zip(transcript, transcript[1:], strict=False))


def check_languages(utterances: Iterable[Utterance], language: str) -> None:
    """Raises UserError if an utterance says that it is in another of the languages known here than `language`.

    It would seldom be noticed otherwise: German ä becomes a in the English alphabet.
    """
    for utterance in utterances:
        other = language_name(utterance.language)
        if other != language and other in NAMES.values():
            raise UserError(
                f"{utterance.id}: its language is {utterance.language!r}, and {language} was asked for; "
                f"choose the language {other}"
            )


def check_texts(
    utterances: Sequence[Utterance],
    alphabet: Alphabet,
    on_unknown: OnUnknown = "error",
    *,
    language: str = "",
    numbers: bool = False,
    tags: Tags = "drop",
    max_skipped: float = MAX_SKIPPED,
) -> tuple[dict[str, str], dict[str, Exclusion]]:
    """Returns id → transcript (`text.clean`) of those whose text can be used, and id → exclusion of the others.

    Raises UserError with the most frequent characters outside the alphabet if more texts than the share `max_skipped`
    hold such, unless they are to be dropped.
    """
    transcripts, excluded = {}, {}
    unknown: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for utterance in utterances:
        transcript = clean(utterance.text, alphabet, language, numbers=numbers, tags=tags)
        strange = alphabet.unknown(transcript)
        if tags == "skip_utterance" and (found := tags_in(utterance.text)):
            excluded[utterance.id] = Exclusion(TAGS, f"{' '.join(found)} in {utterance.text!r}")
        elif not transcript:
            excluded[utterance.id] = Exclusion(EMPTY_TEXT, f"nothing is left of the text {utterance.text!r}")
        elif strange:
            reason = NUMBERS if numbers and all(char.isdecimal() for char in strange) else UNKNOWN_CHARACTERS
            excluded[utterance.id] = Exclusion(reason, f"{strange!r} in {utterance.text!r}")
            unknown.update(strange)
            examples.update({char: f"{utterance.id}: {utterance.text!r}" for char in strange if char not in examples})
        else:
            transcripts[utterance.id] = transcript
    count = sum(exclusion.reason in (UNKNOWN_CHARACTERS, NUMBERS) for exclusion in excluded.values())
    if on_unknown == "error" and too_many(count, len(utterances), max_skipped):
        rows = [f"  {char} in {n:,} texts, such as {examples[char]}" for char, n in unknown.most_common(10)]
        more = [f"  … and {len(unknown) - 10:,} other characters"] if len(unknown) > 10 else []
        raise UserError(
            "\n".join(
                [
                    f"{count:,} of {len(utterances):,} texts hold characters outside the alphabet, and at most "
                    f"{max_skipped:.0%} may be skipped (max_skipped); the most frequent:",
                    *rows,
                    *more,
                    f"alphabet: {alphabet.characters!r}",
                    "correct the texts, choose their language, take the characters into the alphabet "
                    "(alphabet_from_data), write numbers in words (spell_numbers), or skip these utterances "
                    "(unknown_characters=drop_utterance)",
                ]
            )
        )
    return transcripts, excluded


def extract(
    path: Path,
    transcript: str,
    max_seconds: float,
    config: features.FeatureConfig,
    start: float = 0.0,
    end: float | None = None,
) -> Extracted | Exclusion:
    """Reads a recording, or a piece of one, and computes its features, or says why `transcript` cannot go with it."""
    try:
        promised = (audio.seconds(path) if end is None else end) - start
        if promised > 10 * max_seconds:
            # Not decoded, hours of audio would need gigabytes; headers may be inexact, hence the wide margin.
            return _too_long(path, promised, max_seconds)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            blocks, samples = [], 0
            for block_N in audio.blocks(path, start, end):
                blocks.append(block_N)
                samples += len(block_N)
                if samples > 10 * max_seconds * audio.SAMPLE_RATE:  # its header did not say
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
    exclusion = label_too_long(features.frame_count(len(waveform_N)), transcript)
    if exclusion:
        return exclusion
    low_rate = any(str(warning.message).startswith(f"{path}: recorded at") for warning in caught)
    return Extracted(features.compute(waveform_N, config), seconds, sha256, low_rate)


def label_too_long(frames: int, transcript: str) -> Exclusion | None:
    """Returns an exclusion if `frames` feature frames are too few for the network to emit `transcript`."""
    if features.output_frames(frames) >= needed_frames(transcript):
        return None
    return Exclusion(
        LABEL_TOO_LONG,
        f"{len(transcript)} characters need {needed_frames(transcript)} output frames, the audio has "
        f"{features.output_frames(frames)}: probably text and audio do not belong together",
    )


@functools.lru_cache(maxsize=4)
def _sha256(path: Path, size: int, changed: int) -> str:
    """Of the whole file; remembered for the pieces of one recording, as long as its size and time are the same."""
    return file_digest(path)


def _too_long(path: Path, seconds: float, max_seconds: float) -> Exclusion:
    return Exclusion(TOO_LONG, f"{path}: {seconds:.1f} s, the limit is {max_seconds:g} s")


def table(counts: dict[str, int]) -> str:
    """Returns reasons and their counts as aligned lines, the most frequent first."""
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return "\n".join(f"  {count:>8,}  {reason}" for reason, count in rows)


# Enough work to hide the hand-over, little enough to keep two cores busy on a small corpus (8 · 350 kB).
_CHUNK = 8


def extract_all(
    tasks: Iterable[Task], max_seconds: float, config: features.FeatureConfig, workers: int | None = 0
) -> Iterator[Extracted | Exclusion]:
    """Yields `extract` of each task in order, computed by `workers` processes (0: one a core).

    One worker means this process. Raises UserError if a worker dies.
    """
    tasks = iter(tasks)
    chunks = iter(lambda: tuple(itertools.islice(tasks, _CHUNK)), ())
    work = functools.partial(_extract, max_seconds=max_seconds, config=config)
    workers = workers or usable_cores()
    if workers < 0:
        raise UserError(f"the number of workers must not be negative, as {workers} is")
    if workers == 1:
        for chunk in chunks:
            yield from work(chunk)
        return
    with WorkerPool(work, workers) as pool:
        try:
            yield from itertools.chain.from_iterable(pool.in_order(chunks))
        except WorkerDiedError:
            raise UserError(
                "a worker process died, perhaps for lack of memory; what is finished is kept: run the same command "
                "again, with fewer workers"
            ) from None


def _extract(chunk: Sequence[Task], max_seconds: float, config: features.FeatureConfig) -> list[Extracted | Exclusion]:
    return [extract(path, transcript, max_seconds, config, start, end) for path, transcript, start, end in chunk]
