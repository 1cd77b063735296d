"""Synthesises the lines of a script as audio files, in worker processes, since espeak-ng supports one voice per
process.
"""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from demo_corpus.room import SAMPLE_RATE, place_in_room
from demo_corpus.sentences import Line
from demo_corpus.speak import speak
from w2l_jax.errors import UserError


def record_all(
    lines: Sequence[Line], folder: Path, workers: int, progress: Callable[[int, int, str], None]
) -> dict[str, float]:
    """Synthesises every line without an audio file; returns seconds by stem.

    Raises UserError if a worker dies; finished files stay.
    """
    for audio in {line.audio for line in lines}:
        (folder / audio).parent.mkdir(parents=True, exist_ok=True)
    seconds = {line.stem: duration(folder / line.audio) for line in lines}
    missing = [line for line in lines if seconds[line.stem] is None]
    done = len(lines) - len(missing)
    if not missing:
        return seconds
    progress(done, len(lines), "synthesising the demo corpus")
    # Not forked: JAX may have started threads in this process.
    context = multiprocessing.get_context("spawn")
    executor = concurrent.futures.ProcessPoolExecutor(min(workers, len(missing)), context, _leave_with_parent)
    try:
        paths = [folder / line.audio for line in missing]
        for line, length in zip(missing, executor.map(record, missing, paths, chunksize=8), strict=True):
            seconds[line.stem] = length
            done += 1
            progress(done, len(lines), "synthesising the demo corpus")
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError("a worker of the demo corpus died; run again, finished files are kept") from error
    finally:
        executor.shutdown(cancel_futures=True)
    return seconds


def record(line: Line, path: Path) -> float:
    """Synthesises a line as a FLAC file, 16 kHz mono 16 bit, written atomically; returns its seconds."""
    import soundfile

    speech, rate = speak(line.spoken, line.speaker.voice)
    sound = place_in_room(speech, rate, np.random.default_rng(line.seed))
    temporary = path.with_suffix(".part")
    soundfile.write(temporary, sound, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    temporary.replace(path)
    return len(sound) / SAMPLE_RATE


def duration(path: Path) -> float | None:
    """Returns the seconds of an audio file, or None if it is missing or unreadable."""
    import soundfile

    if not path.exists():
        return None
    try:
        return soundfile.info(path).duration or None
    except soundfile.LibsndfileError:
        return None


def _leave_with_parent() -> None:
    # Ctrl-C reaches the whole process group; only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    # A killed parent cannot stop its workers, which would wait forever.
    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
