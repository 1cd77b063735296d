"""What the readers of corpora share: lines with their places, the files of a delivery, and the joining of the two."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from w2l_jax.corpora import Reading, Skipped, Utterance
from w2l_jax.errors import UserError

AUDIO = (".flac", ".wav", ".mp3", ".opus", ".ogg")
SPLITS = ("train", "dev", "test")
_PARTIAL = ".partial"

Listing = list[tuple[Path, list[str]]]
"""Folders, each with the names of the files in it."""


class Place(NamedTuple):
    """A line of a file; as text `file:line`, the way messages name it."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def lines(path: Path, kind: str) -> Iterator[tuple[Place, str]]:
    """Yields the lines of a UTF-8 file that are not blank, without their ends; `kind` says what the file should be.

    Only a line feed ends a line, perhaps after a carriage return; a byte order mark is dropped. Raises UserError for
    a file that is missing or cannot be read, and at the first line that is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            for number, content in enumerate(file, start=1):
                line = decoded(content, Place(path, number)).removesuffix("\n").removesuffix("\r")
                if line.strip():
                    yield Place(path, number), line
    except FileNotFoundError:
        raise UserError(f"{path}: no such {kind}; check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it should be a {kind}") from None


def decoded(content: bytes, place: Place) -> str:
    """Returns a line of UTF-8 as text; raises UserError, naming its place, where it is not UTF-8."""
    try:
        return content.decode("utf-8-sig" if place.line == 1 else "utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{place}: not UTF-8; convert it, e.g. `iconv -f latin1 -t utf-8`") from None


def listing(root: Path) -> Listing:
    """Returns `root` and every folder below it, however deep and through links, sorted, with their files.

    What `make_once` has not finished is left alone. Raises UserError if `root` is no folder, or if one below it
    cannot be read.
    """
    if not os.path.isdir(root):
        raise UserError(f"{root}: no such folder; give the one that holds the corpus")
    found, seen = [], set()
    for name, below, names in os.walk(root, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(name)
        if real in seen:  # a link to a folder above it would lead round for ever
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(folder for folder in below if not folder.endswith(_PARTIAL))
        found.append((Path(name), sorted(names)))
    return found


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None


def recordings(found: Listing) -> dict[str, Path]:
    """Returns the audio files of a listing by their stems, the ids; raises UserError where two have the same."""
    audio: dict[str, Path] = {}
    for folder, names in found:
        for name in names:
            stem = without_ending(name)
            if stem != name and audio.setdefault(stem, folder / name) != folder / name:
                raise UserError(f"{audio[stem]} and {folder / name}: two recordings of {stem!r}; remove or rename one")
    return audio


def without_ending(name: str) -> str:
    """Returns a file name without the ending of an audio format; other dots belong to the name."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in AUDIO else name


def make_once(folder: Path, fill: Callable[[Path], None]) -> None:
    """Lets `fill` make `folder` unless it is there: whole or not at all, by one process at a time.

    Raises UserError if it cannot be written, and whatever `fill` raises.
    """
    partial = folder.with_name(folder.name + _PARTIAL)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.is_dir():
                return
            try:
                shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
                partial.mkdir()
                fill(partial)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); make room, or choose another place (extract_to)"
        ) from None


class Collector:
    """Joins transcripts with recordings into a reading in which every one of either is used or listed.

    `audio` holds the recordings by the names that transcripts call them, `common` what all utterances have in common.
    """

    def __init__(self, root: Path, audio: Mapping[str, Path], **common: Any):
        self._root, self._audio, self._common = root, audio, common
        self._unused = dict(audio)
        self._places: dict[str, Place] = {}
        self._utterances: list[Utterance] = []
        self._skipped: list[Skipped] = []

    def add(self, place: Place, id: str, text: str, recording: str | None = None, **fields: Any) -> None:
        """Adds the utterance that `place` describes, said in `recording` (by default the one called `id`).

        It is listed as skipped if there is no such recording. Raises UserError for an id that is there already.
        """
        name = id if recording is None else recording
        audio = self._take(place, id, name)
        if audio is None or not os.path.isfile(audio):
            message = f"{place}: there is no recording {name!r}" + (f" ({audio})" if audio else "")
            self._skipped.append(Skipped(place.path, "missing audio", message, id))
        else:
            self._utterances.append(Utterance(id=id, audio=audio, text=text, **{**self._common, **fields}))

    def leave_out(self, place: Place, id: str, reason: str, message: str, recording: str | None = None) -> None:
        """Lists what `place` describes as skipped; raises UserError for an id that is there already."""
        audio = self._take(place, id, id if recording is None else recording)
        self._skipped.append(Skipped(audio or place.path, reason, f"{place}: {message}", id))

    def _take(self, place: Place, id: str, recording: str) -> Path | None:
        first = self._places.setdefault(id, place)
        if first is not place:
            raise UserError(f"{place}: the id {id!r} is already that of {first}; remove or rename one of the two")
        self._unused.pop(recording, None)
        return self._audio.get(recording)

    def reading(
        self, skipped: Iterable[Skipped] = (), notes: Iterable[str] = (), unused: str = "no transcript"
    ) -> Reading:
        """Returns the reading; recordings that nothing spoke of are listed under the reason `unused`.

        Raises UserError if there is no utterance at all.
        """
        self._skipped += skipped
        for name, path in self._unused.items():
            message = f"{path}: {unused}, so nothing says what is spoken in it"
            self._skipped.append(Skipped(path, unused, message, name))
        if not self._utterances:
            why = f"; {len(self._skipped)} left out, such as {self._skipped[0].message}" if self._skipped else ""
            raise UserError(f"{self._root}: there is no utterance that could be used{why}")
        return Reading(tuple(self._utterances), tuple(self._skipped), tuple(notes))
