"""Transcribe recordings, or align a transcript with one."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

import cli
import latest
import live
import recording_files
import w2l_jax
from terminal import Terminal, terminal
from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding import decoder_config, formats, recordings
from w2l_jax.errors import UserError
from w2l_jax.files import write_atomically
from w2l_jax.recognizer import Recognizer
from w2l_jax.text import normalize
from w2l_jax.workers import usable_cores

DESCRIPTION = """Transcribe recordings, files or folders of them: any rate, mono or stereo, minutes or hours.

The text goes to standard output, or with --out into one file per recording. The run's own language model is used if it
has one (decode.py builds it). Unreadable files are reported and skipped. `-` reads standard input:  espeak-ng --stdout
hello | python launch/transcribe.py -

--live prints words during speech, from the microphone or, with -, from a pipe:
arecord -f S16_LE -r 16000 | python launch/transcribe.py --live -

--align=transcript.txt aligns these words with the recording and prints the times of each line.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    files: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Recordings, folders (searched recursively), or - for standard input."""
    run: str = latest.LATEST
    """Run folder, .safetensors file or included network (default: the last trained run, else `english`)."""
    checkpoint: str = "best"
    """Which checkpoint: best, last or a kept step."""
    lm: str = ""
    """Folder of a language model, or none for greedy decoding (default: the run's own)."""
    format: Literal["", "txt", "json", "srt", "vtt", "tsv", "manifest"] = ""
    """txt (one line per half minute), json (one object per recording with times and confidences of words), srt, vtt,
    tsv (start, end, text) or manifest (pieces to train on) (default: txt; tsv for --align).
    """
    out: str = ""
    """Folder for one file per recording, replacing existing ones (default: standard output)."""
    truncated: Literal["read", "skip"] = "read"
    """Truncated or damaged files: read up to the damage with a note, or skip as an error."""
    align: str = ""
    """Text file with the transcript of one recording, line by line; json also gives the times of words."""
    hot_words: str = ""
    """Words to favour, each with its boost of the score (natural log): kunze=6,ulm=4."""
    live: bool = False
    """Transcribe the microphone, or `-` (wav or raw s16le), live until it ends or Ctrl-C; txt prints a line per pause,
    json an object per event.
    """
    rate: int = 16_000
    """Sample rate of raw samples for --live."""
    workers: int = 1
    """Search processes (0: one per core); several are worthwhile for long recordings."""


def main(argv: list[str] | None = None) -> None:
    options = cli.parse(Options, argv, description=DESCRIPTION)
    kind = options.format or ("tsv" if options.align else "txt")
    if options.live:
        _live(options, kind)
        return
    inputs = recording_files.find(options.files, written=bool(options.out))
    _check(options, kind, len(inputs))
    if ignored := recording_files.skipped(options.files):
        print(f"skipped, not recordings by their suffix: {_listed(ignored)}", file=sys.stderr)
    recognizer = _load(options)
    lines = recording_files.read_lines(Path(options.align), recognizer.alphabet) if options.align else []
    truncated = "error" if options.truncated == "skip" else "read"
    failed = 0
    with _search(recognizer, options) as search, terminal(results=True) as screen:
        for recording in inputs:
            try:
                with recording_files.opened(recording, sys.stdin.buffer) as path:
                    bar = functools.partial(_bar, screen, recording.name)
                    if lines:
                        logits_SxV = recognizer.logits(path, progress=bar)
                        segments = recording_files.align_lines(logits_SxV, lines, recognizer.alphabet)
                    else:
                        segments = recognizer.segments(path, progress=bar, search=search, truncated=truncated)
                    _write(recording, len(inputs) > 1, kind, segments, options.out)
            except (UserError, PermissionError) as error:
                screen.report(f"error: {error}")
                failed += 1
    if failed:
        raise UserError(f"{failed} of {len(inputs)} recordings could not be transcribed")


def _bar(screen: Terminal, name: str, done: float, total: float, unit: str) -> None:
    screen.bar(done, total, f"{name}, {unit}")


def _load(options: Options) -> Recognizer:
    cli.use_compilation_cache()
    name = latest.choose(options.run)
    recognizer = w2l_jax.load(name, options.checkpoint, lm="none" if options.align else options.lm)
    if options.run == latest.LATEST:
        why = "the last trained run" if name == options.run else "included; no run exists"
        lm = recognizer.decoder.lm and f", with the language model {recognizer.decoder.lm}"
        print(f"network: {latest.described(name)} ({why}), step {recognizer.step}{lm}", file=sys.stderr)
    return recognizer


def _live(options: Options, kind: str) -> None:
    if options.files not in ((), ("-",)):
        raise UserError("--live transcribes the microphone or, with -, standard input, not files")
    if kind not in ("txt", "json") or options.out or options.align:
        raise UserError("--live prints txt or json; --align and --out are for recordings")
    if options.rate < 1:
        raise UserError(f"--rate={options.rate}: give the samples per second")
    recognizer = _load(options)
    hot_words = read_hot_words(options.hot_words, recognizer.alphabet)
    with contextlib.ExitStack() as stack:
        # Unbuffered: else the process could not end while a thread waits for a buffer to fill.
        piped = stack.enter_context(open(0, "rb", buffering=0, closefd=False)) if options.files else None
        live.transcribe(recognizer, piped, options.rate, hot_words, kind)


def _check(options: Options, kind: str, count: int) -> None:
    if not count:
        raise UserError("name at least one recording: python launch/transcribe.py a.wav")
    if count > 1 and options.align:
        raise UserError(f"--align takes one recording, not {count}")
    if count > 1 and not options.out and kind not in ("txt", "json", "manifest"):
        raise UserError(f"{count} recordings as {kind} need a file each: give --out=<folder>")


def _listed(paths: Sequence[Path], most: int = 10) -> str:
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(map(str, paths[:most])) + more + " (name a file itself to transcribe it)"


def read_hot_words(text: str, alphabet: Alphabet) -> dict[str, float]:
    """Reads hot words and their boosts, such as `kunze=6,ulm=4`; raises UserError for anything else."""
    boosts = {}
    for pair in filter(None, text.split(",")):
        word, _, boost = pair.rpartition("=")
        word = normalize(word, alphabet)
        try:
            boosts[word] = float(boost)
        except ValueError:
            word = ""
        if not word:
            raise UserError(f"write hot words as word=boost,word=boost, not {pair!r}; a boost of 5 is strong")
    return boosts


@contextlib.contextmanager
def _search(recognizer: Recognizer, options: Options) -> Iterator[recordings.Search | None]:
    """The beam search with hot words and workers; None (the recogniser's own) if neither is given."""
    hot_words = read_hot_words(options.hot_words, recognizer.alphabet)
    if options.align or not (recognizer.decoder.lm or hot_words):
        if not options.align and options.lm != "none":
            print("no language model: decoding greedily", file=sys.stderr)
        yield None
        return
    from w2l_jax.decoding.pool import DecoderPool

    beam = recognizer.decoder.beam if recognizer.decoder.lm else decoder_config.DecoderConfig().beam
    workers = options.workers or usable_cores()
    with DecoderPool(recognizer.alphabet, recognizer.decoder.lm or None, beam, workers, hot_words) as pool:
        yield functools.partial(recordings.beam_search, pool=pool, calibration=recognizer.decoder.calibration)


def _write(
    recording: recording_files.Recording, several: bool, kind: str, segments: Iterable[recordings.Segment], out: str
) -> None:
    name = recording.name if kind == "json" or (several and not out) else ""
    if kind == "manifest":
        name = str(recording.path.absolute())
    if not out:
        for part in formats.FORMATS[kind](name, segments):
            print(part, end="", flush=True)
        return
    path = Path(out) / f"{recording.output}.{'jsonl' if kind == 'manifest' else kind}"
    content = "".join(formats.FORMATS[kind](name, segments))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


if __name__ == "__main__":
    cli.run(main)
