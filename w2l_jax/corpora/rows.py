"""The lines of a text file with their places, and the error of a broken one."""

import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from w2l_jax.errors import UserError


class Place(NamedTuple):
    """A line of a file; as text `file:line`."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class BrokenRowError(UserError):
    """A row that cannot be used; `reason` is the short name it is counted under."""

    def __init__(self, message: str, reason: str = "malformed row", id: str = ""):
        super().__init__(message)
        self.reason, self.id = reason, id


def lines(
    path: Path, kind: str, broken: Callable[[Place, BrokenRowError], None] | None = None
) -> Iterator[tuple[Place, str]]:
    """Yields the lines of a UTF-8 file that are not blank, without line ends; `kind` describes the file in messages.

    Only a line feed ends a line, optionally after a carriage return; a byte order mark is dropped. Raises UserError for
    a missing or unreadable file, and for a line that is not UTF-8 unless `broken` takes it.
    """
    try:
        with path.open("rb") as file:
            for number, content in enumerate(file, start=1):
                try:
                    line = decoded(content, Place(path, number)).removesuffix("\n").removesuffix("\r")
                except BrokenRowError as error:
                    if broken is None:
                        raise
                    broken(Place(path, number), error)
                    continue
                if line.strip():
                    yield Place(path, number), line
    except FileNotFoundError:
        raise UserError(f"{path}: no such {kind}; check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it should be a {kind}") from None


def decoded(content: bytes, place: Place) -> str:
    """Returns a line of UTF-8 as text; raises BrokenRowError, naming its place, if it is not UTF-8."""
    try:
        return content.decode("utf-8-sig" if place.line == 1 else "utf-8")
    except UnicodeDecodeError:
        other = "utf-16" if b"\0" in content else "latin1"
        raise BrokenRowError(f"{place}: not UTF-8; convert it, e.g. `iconv -f {other} -t utf-8`", "not UTF-8") from None


def on_disk(path: Path) -> Path | None:
    """Returns the file at `path`, or at its composed or decomposed (macOS) form; None if there is none."""
    forms = (str(path), *(unicodedata.normalize(form, str(path)) for form in ("NFC", "NFD")))
    # The bytes of names are UTF-8, even if the locale is not.
    names = (name for form in forms for name in (form, os.fsdecode(form.encode("utf-8", "surrogateescape"))))
    return next((Path(name) for name in names if os.path.isfile(name)), None)
