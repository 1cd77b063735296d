"""Mozilla Common Voice, any language and release: `clips/` beside `train.tsv`, `dev.tsv`, `test.tsv`, `validated.tsv`.

The tables have a header line and are not quoted: a quotation mark is just part of a sentence.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deliveries.archives import Listing, listing, recordings, without_ending
from deliveries.collector import Collector
from w2l_jax.corpora import SPLITS, Reading
from w2l_jax.corpora.rows import BrokenRowError, Place
from w2l_jax.errors import UserError

_COLUMNS = ("client_id", "path", "sentence")
_VALIDATED = "validated.tsv"


def read(source: Path, include_validated: bool = False) -> Reading:
    """Reads one language, whose folder may be at any depth; a client is a speaker, the locale the language.

    The splits are Common Voice's. `validated.tsv` holds further clips: with `include_validated` they join training
    unless their speaker is in dev or test. Without official splits it leaves the split open. Clips in none of the
    tables read (rejected, or not yet validated) are skipped. Raises UserError for a table without a header, and if none
    or several languages are found.
    """
    folders = listing(Path(source))
    home, tables = _tables(Path(source), folders)
    clips = recordings([(folder, names) for folder, names in folders if folder == home / "clips"])
    collector = Collector(Path(source), clips, source="Common Voice")
    official, held_out = set(), set()
    for split in SPLITS:
        for place, row in _rows(collector, home / f"{split}.tsv") if f"{split}.tsv" in tables else ():
            official.add(row["id"])
            if split != "train":
                held_out.add(row["client_id"])
            with collector.row(place):
                collector.add(place, split=split, **_fields(row))
    for place, row in _rows(collector, home / _VALIDATED) if _VALIDATED in tables else ():
        if row["id"] in official:
            continue
        with collector.row(place):
            if not official:
                collector.add(place, **_fields(row))
            elif not include_validated:
                message = "in no split; include_validated adds it to training"
                collector.skip(place, row["id"], "in no split", message)
            elif row["client_id"] in held_out:
                collector.skip(place, row["id"], "speaker held out", "in no split, by a speaker of dev or test")
            else:
                collector.add(place, split="train", **_fields(row))
    return collector.reading(unused="in no table")


def _tables(source: Path, folders: Listing) -> tuple[Path, set[str]]:
    """Returns the folder of the language and the names of the tables in it."""
    expected = {f"{split}.tsv" for split in SPLITS} | {_VALIDATED}
    homes = [(folder, expected & set(names)) for folder, names in folders if expected & set(names)]
    if not homes:
        raise UserError(
            f"{source}: holds none of {', '.join(sorted(expected))}; give the folder of one language as unpacked, "
            "with clips/ and these tables"
        )
    if len(homes) > 1:
        choices = ", ".join(str(folder) for folder, _ in homes)
        raise UserError(f"{source}: holds several languages or releases; give one of {choices}")
    return homes[0]


def _rows(collector: Collector, path: Path) -> Iterator[tuple[Place, dict[str, str]]]:
    """Yields the rows of a table by column, and the clip's id as `id`."""
    columns: list[str] = []
    for place, line in collector.lines(path, "table of Common Voice"):
        fields = line.split("\t")
        if not columns:
            columns = fields
            missing = [name for name in _COLUMNS if name not in columns]
            if missing:
                raise UserError(f"{place}: the header names no column {missing[0]!r}; take the table as delivered")
            continue
        with collector.row(place):
            if len(fields) != len(columns):
                raise BrokenRowError(
                    f"{place}: {len(fields)} fields instead of the header's {len(columns)}; correct or delete it"
                )
            row = dict(zip(columns, fields, strict=True))
            if not row["path"] or "/" in row["path"]:
                raise BrokenRowError(f"{place}: the path {row['path']!r} is not the name of a file in clips/")
            yield place, {**row, "id": without_ending(row["path"])}


def _fields(row: dict[str, str]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "text": row["sentence"],
        "speaker": row["client_id"],
        "language": row.get("locale", ""),
    }
