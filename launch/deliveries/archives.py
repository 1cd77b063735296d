"""The files of a corpus, and folders that are made once."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

from w2l_jax.errors import UserError
from w2l_jax.files import making, one_at_a_time

AUDIO = (
    ".flac", ".wav", ".mp3", ".opus", ".ogg", ".aif", ".aiff", ".au", ".caf", ".nis", ".oga", ".sph", ".w64", ".wave",
    ".3gp", ".aac", ".ac3", ".amr", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp4", ".webm", ".wma",
)  # fmt: skip
"""Suffixes of recordings in folders; a file named directly may have any."""
_PARTIAL = ".partial"

Listing = list[tuple[Path, list[str]]]
"""Folders, each with the names of the files in it."""


def listing(root: Path) -> Listing:
    """Returns `root` and all folders below it, through links too, sorted, with their files.

    Unfinished folders of `make_once` are ignored. Raises UserError if `root` is no folder, or if one below it cannot be
    read.
    """
    if not os.path.isdir(root):
        raise UserError(f"{root}: no such folder; give the one that holds the corpus")
    folders, seen = [], set()
    for name, below, names in os.walk(root, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(name)
        if real in seen:  # a link to a parent folder would loop forever
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(folder for folder in below if not folder.endswith(_PARTIAL))
        folders.append((Path(name), sorted(names)))
    return folders


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None


def recordings(folders: Listing) -> dict[str, list[Path]]:
    """Returns the audio files of a listing by their stems (composed Unicode), the ids; several may share a stem."""
    audio: dict[str, list[Path]] = {}
    for folder, names in folders:
        for name in names:
            stem = without_ending(name)
            if stem != name:
                audio.setdefault(unicodedata.normalize("NFC", stem), []).append(folder / name)
    return audio


def without_ending(name: str) -> str:
    """Returns a file name without its audio suffix; other dots belong to the name."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in AUDIO else name


def make_once(folder: Path, fill: Callable[[Path], None]) -> None:
    """Lets `fill` make `folder` unless it exists: completely or not at all, by one process at a time.

    Raises UserError if it cannot be written, and whatever `fill` raises.
    """
    if folder.is_dir():
        return
    try:
        with one_at_a_time(folder):
            if not folder.is_dir():
                with making(folder) as partial:
                    fill(partial)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror or error}); make room, or choose another place (extract_to)"
        ) from None
