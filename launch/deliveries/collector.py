"""Joins the rows of a corpus with its recordings; lists and skips broken ones."""

import contextlib
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from w2l_jax.corpora import Reading, Skipped, Utterance
from w2l_jax.corpora.rows import BrokenRowError, Place, lines, on_disk
from w2l_jax.errors import UserError


class Collector:
    """Joins transcripts and recordings into a reading in which each of either is used or listed.

    `audio` maps the transcripts' names (composed Unicode) to recordings, `common` holds fields of all utterances.
    """

    def __init__(self, root: Path, audio: Mapping[str, Sequence[Path]], **common: Any):
        self._root, self._audio, self._common = root, audio, common
        self._used: set[Path] = set()
        self._places: dict[str, Place] = {}
        self._utterances: list[Utterance] = []
        self._skipped: list[Skipped] = []

    @property
    def utterances(self) -> Sequence[Utterance]:
        """The utterances added so far."""
        return self._utterances

    def lines(self, path: Path, kind: str) -> Iterator[tuple[Place, str]]:
        """Yields the lines of a file as the function `lines`; those that are not UTF-8 are listed as broken."""
        return lines(path, kind, self._break)

    @contextlib.contextmanager
    def row(self, place: Place) -> Iterator[None]:
        """Lists the row at `place` as broken if a BrokenRowError is raised within."""
        try:
            yield
        except BrokenRowError as error:
            self._break(place, error)

    def add(self, place: Place, id: str, text: str, recording: str | None = None, **fields: Any) -> None:
        """Adds the utterance at `place`, of `recording` (default: the one named `id`).

        Raises BrokenRowError if there is no such recording, or if another row has the id.
        """
        audio = self._take(place, id, id if recording is None else recording)
        self._utterances.append(Utterance(id=id, audio=audio, text=text, **{**self._common, **fields}))

    def skip(self, place: Place, id: str, reason: str, message: str, recording: str | None = None) -> None:
        """Lists the row at `place` as deliberately skipped; raises BrokenRowError if another row has the id."""
        audio = place.path
        with contextlib.suppress(_MissingError):
            audio = self._take(place, id, id if recording is None else recording)
        self._skipped.append(Skipped(audio, reason, f"{place}: {message}", id))

    def _break(self, place: Place, error: BrokenRowError) -> None:
        self._skipped.append(Skipped(place.path, error.reason, str(error), error.id, broken=True))

    def _take(self, place: Place, id: str, recording: str) -> Path:
        """Returns a recording's file; of several the one nearest to the transcript."""
        first = self._places.setdefault(id, place)
        if first is not place:
            message = f"{place}: the id {id!r} is already that of {first}; remove or rename one of the two"
            raise BrokenRowError(message, "duplicate id", id)
        candidates = self._audio.get(unicodedata.normalize("NFC", recording), ())
        near = candidates if len(candidates) < 2 else _nearest(candidates, place.path.parent)
        self._used.update(near)
        if len(near) > 1:
            message = f"{place}: {near[0]} and {near[1]} are both recordings of {recording!r}; remove or rename one"
            raise BrokenRowError(message, "ambiguous recording", id)
        audio = on_disk(near[0]) if near else None
        if audio is None:
            named = f" ({near[0]})" if near else ""
            raise _MissingError(f"{place}: there is no recording {recording!r}{named}", "missing audio", id)
        return audio

    def reading(
        self, skipped: Iterable[Skipped] = (), notes: Iterable[str] = (), unused: str = "no transcript"
    ) -> Reading:
        """Returns the reading; recordings without a row are listed under the reason `unused`.

        Raises UserError if there is no utterance at all.
        """
        self._skipped += skipped
        for name, paths in self._audio.items():
            for path in paths:
                if path not in self._used:
                    message = f"{path}: {unused}, so it has no transcript"
                    self._skipped.append(Skipped(path, unused, message, name))
        if not self._utterances:
            why = f"; {len(self._skipped)} skipped, such as {self._skipped[0].message}" if self._skipped else ""
            raise UserError(f"{self._root}: no utterance can be used{why}")
        return Reading(tuple(self._utterances), tuple(self._skipped), tuple(notes))


class _MissingError(BrokenRowError):
    """There is no recording of a row."""


def _nearest(paths: Sequence[Path], folder: Path) -> list[Path]:
    paths_from = [Path(os.path.relpath(path.parent, folder)).parts for path in paths]
    steps = [(parts.count(os.pardir), len(parts)) for parts in paths_from]
    return [path for path, count in zip(paths, steps, strict=True) if count == min(steps)]
