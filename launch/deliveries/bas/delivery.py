"""The files of a corpus at any depth, since deliveries differ in their folders."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from deliveries.archives import listing
from w2l_jax.corpora import Skipped
from w2l_jax.errors import UserError


def find(source: Path, endings: Sequence[str]) -> tuple[list[Path], list[Skipped]]:
    """Returns the files under `source` whose names end in one of `endings` (in any case), sorted.

    Hidden ones, such as the `._a.wav` of some archives, and those whose names are not UTF-8 are listed as skipped.
    Raises UserError if `source` is no folder, or if a folder cannot be read.
    """
    if source.is_file():
        raise UserError(f"{source}: not a folder; unpack the delivery and give the folder")
    paths, skipped = [], []
    for folder, names in listing(source):
        for name in names:
            path = folder / name
            if not name.lower().endswith(tuple(endings)):
                continue
            if any("\udc80" <= char <= "\udcff" for char in str(path)):
                message = f"{str(path)!a}: the name is not UTF-8; rename the file or its folder"
                skipped.append(Skipped(source, "name not UTF-8", message, broken=True))
            elif any(part.startswith(".") for part in path.relative_to(source).parts):
                message = f"{path}: its name or that of its folder begins with a full stop"
                skipped.append(Skipped(path, "hidden file", message, path.stem))
            else:
                paths.append(path)
    return sorted(paths), sorted(skipped, key=lambda row: row.message)


def by_id(paths: Iterable[Path], skipped: list[Skipped], ending: str = "") -> dict[str, Path]:
    """Returns id → path; the id is the lower-case name without `ending` (by default its suffix).

    Recordings and annotations often differ in case. Of several files with one id the first is used, the others are
    added to `skipped`.
    """
    ids: dict[str, Path] = {}
    for path in paths:
        name = path.name.lower().removesuffix(ending or path.suffix.lower())
        first = ids.setdefault(name, path)
        if first is not path:
            message = f"{path}: the id {name!r} is already that of {first}; remove or rename one of the two files"
            skipped.append(Skipped(path, "duplicate id", message, name, broken=True))
    return ids


def nothing_to_use(source: Path, expected: str, skipped: Sequence[Skipped]) -> UserError:
    """Returns the error for a corpus without any utterance: what was expected, and what was wrong."""
    if not skipped:
        return UserError(f"{source}: holds no {expected}; check the folder")
    counts = Counter(row.reason for row in skipped)
    reasons = ", ".join(f"{count} × {reason}" for reason, count in counts.most_common())
    return UserError(
        f"{source}: no utterance can be used ({reasons}); expected: {expected}; for example {skipped[0].message}"
    )
