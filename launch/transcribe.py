"""Transcribe recordings, or find when the words of a transcript were said in one."""

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

import cli
from terminal import terminal
from w2l_jax.decoding import formats, recordings, settings
from w2l_jax.decoding.pool import DecoderPool
from w2l_jax.errors import UserError
from w2l_jax.run import LATEST, SHIPPED, Run, write_atomically

DESCRIPTION = """Transcribe recordings, files or folders of them: any rate, mono or stereo, minutes or hours.

The text goes to standard output, or with --out into a file for each recording. The run's own language model is used
where it has one (decode.py makes it). A file that cannot be read is reported, and the others go on. `-` reads
standard input:  ffmpeg -i talk.m4a -f wav - | python launch/transcribe.py -

--align=transcript.txt takes the words from there, and says when each of its lines and words was said.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    files: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Recordings, folders, which are searched however deep, or - for standard input."""
    run: str = LATEST
    """Run folder (default: the last trained run; where there is none, the English network of models/english)."""
    checkpoint: str = "best"
    """Which checkpoint: best, last or a kept step."""
    lm: str = ""
    """Folder of a language model, or none for greedy decoding (default: the run's own)."""
    format: Literal["", "txt", "json", "srt", "vtt", "tsv"] = ""
    """txt, a line for each half minute; json, an object a recording with times and confidences of words; subtitles
    as srt or vtt; or tsv, start and end in seconds and text (default: txt; tsv for --align)."""
    out: str = ""
    """Folder for a file per recording, whatever is there replaced (default: standard output)."""
    align: str = ""
    """Text file with what one recording says, line by line; JSON gives the times of words as well."""
    hot_words: str = ""
    """Words to listen for, each with what it adds to a transcript's score (natural log): kunze=6,ulm=4."""
    workers: int = 1
    """Processes that search (0: one per core); more than one pay off in long recordings."""


def main(argv: list[str] | None = None) -> None:
    options = cli.parse(Options, argv, description=DESCRIPTION)
    kind = options.format or ("tsv" if options.align else "txt")
    found = recordings.find(options.files, written=bool(options.out))
    _check(options, kind, len(found))
    cli.use_compilation_cache()
    run = Run.open(Run.default(options.run))
    if run.folder == SHIPPED:
        print(f"no run here yet: using the English network {run.folder}", file=sys.stderr)
    lines = recordings.read_lines(Path(options.align), run.alphabet) if options.align else []
    failed = 0
    with _pool(run, options) as (pool, calibration), terminal(results=True) as screen:
        params = jax.device_put(run.restore_params(options.checkpoint))
        if pool:
            search = functools.partial(recordings.beam_search, pool=pool, calibration=calibration)
        else:
            search = functools.partial(recordings.greedy_search, params=params, alphabet=run.alphabet)
        for recording in found:
            try:
                with recordings.opened(recording, sys.stdin.buffer) as path:
                    bar = functools.partial(screen.bar, description=f"{recording.name}, seconds")
                    logits = recordings.logits(path, run, params, bar)
                    if lines:
                        segments = recordings.align_lines(np.concatenate(list(logits)), lines, run.alphabet)
                    else:
                        segments = recordings.transcribe(logits, run.alphabet, search)
                    _write(recording, len(found) > 1, kind, segments, options.out)
            except (UserError, PermissionError) as error:
                screen.report(f"error: {error}")
                failed += 1
    if failed:
        raise UserError(f"{failed} of {len(found)} recordings could not be transcribed")


def _check(options: Options, kind: str, count: int) -> None:
    if not count:
        raise UserError("name at least one recording: python launch/transcribe.py a.wav")
    if count > 1 and options.align:
        raise UserError(f"--align takes one recording, not {count}: each has a transcript of its own")
    if count > 1 and not options.out and kind not in ("txt", "json"):
        raise UserError(f"{count} recordings as {kind} need a file each: give --out=<folder>")


@contextlib.contextmanager
def _pool(run: Run, options: Options) -> Iterator[tuple[DecoderPool | None, tuple[float, float]]]:
    """The search with a language model, and the calibration of its confidences; none where nothing asks for it."""
    chosen = settings.DecoderSettings()
    if options.lm != "none":
        chosen = settings.load(run, options.lm) or dataclasses.replace(chosen, lm=options.lm)
    hot_words = settings.hot_words(options.hot_words, run.alphabet)
    if options.align or options.lm == "none" or not (chosen.lm or hot_words):
        if not options.align and options.lm != "none":
            print("no language model: decoding greedily", file=sys.stderr)
        yield None, chosen.calibration
        return
    with DecoderPool(
        run.alphabet, chosen.lm or None, chosen.beam, options.workers or os.cpu_count(), hot_words
    ) as pool:
        yield pool, chosen.calibration


def _write(
    recording: recordings.Recording, several: bool, kind: str, segments: Iterable[recordings.Segment], out: str
) -> None:
    if not out:
        name = recording.name if several or kind == "json" else ""
        for part in formats.FORMATS[kind](name, segments):
            print(part, end="", flush=True)
        return
    path = Path(out) / f"{recording.output}.{kind}"
    content = "".join(formats.FORMATS[kind](recording.name if kind == "json" else "", segments))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


if __name__ == "__main__":
    cli.run(main)
