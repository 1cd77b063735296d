"""The files of a delivery, wherever in it they lie: how deep the folders go differs from one to the next."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from w2l_jax.corpora import Skipped
from w2l_jax.corpora.archives import listing
from w2l_jax.errors import UserError


def find(source: Path, endings: Sequence[str]) -> tuple[list[Path], list[Skipped]]:
    """Returns the files under `source` whose names end in one of `endings` (in small or capital letters), sorted.

    Hidden ones, such as the `._a.wav` that some archives bring along, are listed as skipped. Raises UserError if
    `source` is no folder, if a folder cannot be read, and for a name that is not UTF-8.
    """
    if source.is_file():
        raise UserError(f"{source}: not a folder; unpack the delivery and give the folder")
    found, hidden = [], []
    for folder, names in listing(source):
        for name in names:
            if name.lower().endswith(tuple(endings)):
                path = _printable(folder / name)
                is_hidden = any(part.startswith(".") for part in path.relative_to(source).parts)
                (hidden if is_hidden else found).append(path)
    message = "its name or that of its folder begins with a full stop"
    return sorted(found), [Skipped(path, "hidden file", f"{path}: {message}", path.stem) for path in sorted(hidden)]


def by_id(paths: Iterable[Path], ending: str = "") -> dict[str, Path]:
    """Returns id → path; the id is the name in small letters without `ending` (by default its suffix).

    Recordings and their annotations often differ in capitals. Raises UserError naming both files of one id.
    """
    ids: dict[str, Path] = {}
    for path in paths:
        name = path.name.lower().removesuffix(ending or path.suffix.lower())
        first = ids.setdefault(name, path)
        if first is not path:
            raise UserError(
                f"{path}: the id {name!r} is already that of {first}; remove or rename one of the two files "
                "(an id is a file's name without its ending, whether in capitals or not)"
            )
    return ids


def nothing_to_use(source: Path, wanted: str, skipped: Sequence[Skipped]) -> UserError:
    """Returns the error for a delivery without a single utterance: what was looked for, and what was in the way."""
    if not skipped:
        return UserError(f"{source}: holds no {wanted}; check the folder")
    counts = Counter(row.reason for row in skipped)
    reasons = ", ".join(f"{count} × {reason}" for reason, count in counts.most_common())
    return UserError(
        f"{source}: no utterance can be used ({reasons}); wanted: {wanted}; for example {skipped[0].message}"
    )


def _printable(path: Path) -> Path:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{str(path)!a}: the name is not UTF-8; rename the file or its folder") from None
    return path
