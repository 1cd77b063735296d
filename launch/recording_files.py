"""Files named by the user: recordings in folders, standard input, and the transcript to align."""

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from deliveries import archives as files
from w2l_jax.alphabet import Alphabet
from w2l_jax.corpora.rows import lines
from w2l_jax.decoding.align import align
from w2l_jax.decoding.recordings import Segment, timed
from w2l_jax.errors import UserError
from w2l_jax.features import OUTPUT_SECONDS
from w2l_jax.text import clean

_MARGIN = 0.5  # seconds of a pause that stay with the words before or after it


class Recording(NamedTuple):
    """A file to transcribe: its name for messages, its path, and its output path below a folder."""

    name: str
    path: Path
    output: Path


def find(names: Sequence[str], written: bool = False) -> list[Recording]:
    """The recordings of files and folders (searched recursively, in order); `-` is standard input.

    If outputs are `written`, files with the same name in several folders get distinct output paths. Raises UserError
    for a folder without recordings and, if outputs are `written`, for a file named twice.
    """
    recordings = []
    for name in names:
        folder = Path(name)
        if name == "-":
            recordings.append(Recording("standard input", Path("-"), Path("stdin")))
        elif not folder.is_dir():
            recordings.append(Recording(name, folder, Path(folder.stem)))
        else:
            inside = [path for path in _files(folder) if path.suffix.lower() in files.AUDIO]
            if not inside:
                raise UserError(f"{folder}: no recordings in this folder or below it ({', '.join(files.AUDIO)})")
            recordings += [Recording(str(path), path, path.relative_to(folder).with_suffix("")) for path in inside]
    return _with_distinct_outputs(recordings) if written else recordings


def skipped(names: Sequence[str]) -> list[Path]:
    """The files in folders that `find` ignores, except hidden ones."""
    inside = [path for name in names if name != "-" and Path(name).is_dir() for path in _files(Path(name))]
    return [path for path in inside if path.suffix.lower() not in files.AUDIO and not path.name.startswith(".")]


def _files(folder: Path) -> list[Path]:
    return [parent / file for parent, below in files.listing(folder) for file in below]


def _with_distinct_outputs(recordings: Sequence[Recording]) -> list[Recording]:
    """The recordings with distinct outputs: of equal ones first the paths, then the suffixes are added."""
    groups: dict[Path, list[Recording]] = {}
    for recording in recordings:
        groups.setdefault(recording.output, []).append(recording)
    outputs: dict[Recording, Path] = {}
    for output, sharing in groups.items():
        paths = [os.path.abspath(recording.path) for recording in sharing]
        if len(set(paths)) < len(paths):
            raise UserError(f"{sharing[-1].name} is named twice")
        common = os.path.commonpath([os.path.dirname(path) for path in paths])
        paths_below = [Path(os.path.relpath(path, common)) for path in paths]
        stems = [path.with_suffix("") for path in paths_below]
        apart = [output] if len(sharing) == 1 else stems if len(set(stems)) == len(stems) else paths_below
        outputs |= dict(zip(sharing, apart, strict=True))
    if len(set(outputs.values())) < len(recordings):
        raise UserError("two recordings would be written to one file; rename one of them")
    return [recording._replace(output=outputs[recording]) for recording in recordings]


@contextlib.contextmanager
def opened(recording: Recording, standard_input: BinaryIO) -> Iterator[Path]:
    """The path of a recording's audio; standard input is first written to a temporary file."""
    if recording.path != Path("-"):
        yield recording.path
        return
    with tempfile.NamedTemporaryFile(prefix="w2l_jax-") as file:
        shutil.copyfileobj(standard_input, file)
        file.flush()
        try:
            yield Path(file.name)
        except UserError as error:
            raise UserError(str(error).replace(file.name, recording.name)) from None


def read_lines(path: Path, alphabet: Alphabet) -> list[str]:
    """The lines of a transcript, normalised to the alphabet, without empty ones.

    Raises UserError for an unreadable or empty file, and, with the line, for characters outside the alphabet.
    """
    texts = []
    for place, line in lines(path, "transcript"):
        text = clean(line, alphabet)
        if unknown := alphabet.unknown(text):
            raise UserError(
                f"{place}: holds {unknown!r}, which the network's alphabet lacks; spell it out in the letters "
                f"{alphabet.characters!r}"
            )
        texts += [text] if text else []
    if not texts:
        raise UserError(f"{path}: holds no words")
    return texts


def align_lines(logits_SxV: np.ndarray, lines: Sequence[str], alphabet: Alphabet) -> list[Segment]:
    """Aligns consecutive lines with a recording that contains all of them in order; raises as `align` does.

    A line's segment extends from the middle of a pause to the middle of the next, at most half a second beyond its
    words, for cutting the recording.
    """
    spans = iter(align(logits_SxV, " ".join(lines), alphabet))
    words = [timed(list(itertools.islice(spans, len(line.split())))) for line in lines]
    begun = [line[0].start for line in words]
    ended = [line[-1].end for line in words]
    seconds = len(logits_SxV) * OUTPUT_SECONDS
    opens = [max(b - _MARGIN, (a + b) / 2) for a, b in zip([-begun[0], *ended[:-1]], begun, strict=True)]
    closes = [min(a + _MARGIN, (a + b) / 2) for a, b in zip(ended, [*begun[1:], 2 * seconds - ended[-1]], strict=True)]
    return [Segment(round(a, 3), round(b, 3), line) for a, b, line in zip(opens, closes, words, strict=True)]
