"""The files beside the shards of a prepared dataset: the index, the list of skipped utterances, `prepared.json`."""

import dataclasses
import heapq
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from w2l_jax.alphabet import BLANK
from w2l_jax.corpora import MAX_SKIPPED, too_many
from w2l_jax.dataset import filters
from w2l_jax.dataset.folder import INPUTS
from w2l_jax.dataset.identity import Fingerprint, PrepareConfig
from w2l_jax.dataset.shards import Row, Shard, write_lines
from w2l_jax.dataset.store import EXCLUDED, FORMAT, INDEX, PREPARED
from w2l_jax.errors import UserError
from w2l_jax.files import file_digest, sealed, write_atomically


@dataclasses.dataclass
class _Totals:
    fingerprint: Fingerprint
    utterances: int = 0
    seconds: float = 0.0
    low: int = 0
    cut: int = 0
    excluded: Counter[str] = dataclasses.field(default_factory=Counter)


def finish(
    out: Path,
    shards: Sequence[Shard],
    excluded: Sequence[Row],
    config: PrepareConfig,
    inputs: str,
    max_skipped: float = MAX_SKIPPED,
    source: str = "",
) -> None:
    """Completes `out` after all `shards`; rows are processed one at a time, `prepared.json` is written last.

    `excluded` are the rows, by id, of utterances excluded before any shard; `inputs` is the key of all input, `source`
    where it was read from. Warns if some recordings are below 16 kHz or cut. Raises UserError if nothing is left, or if
    more recordings than the share `max_skipped` are unusable; finished shards stay.
    """
    totals = _Totals(Fingerprint(config))
    write_lines(out / EXCLUDED, _excluded(out, shards, excluded, totals))
    write_lines(out / INDEX, _kept(out, shards, totals))
    if not totals.utterances:
        for path in [out / INDEX, *out.glob("shard-*")]:
            path.unlink()
        with (out / EXCLUDED).open("rb") as file:
            raise nothing_left(totals.excluded, json.loads(file.readline()), f"; {out / EXCLUDED} lists them")
    unusable = sum(n for reason, n in totals.excluded.items() if reason.endswith((" audio", "the recording")))
    total = totals.utterances + unusable
    if too_many(unusable, total, max_skipped):
        raise UserError(
            f"{unusable:,} of {total:,} recordings cannot be used, and at most {max_skipped:.0%} may be skipped "
            f"(max_skipped); {out / EXCLUDED} lists them:\n{filters.table(totals.excluded)}"
        )
    meta = {
        "format": FORMAT,
        "fingerprint": totals.fingerprint.value(),
        "source": source,
        "config": config.as_dict,
        "alphabet": {"blank": BLANK, "characters": config.labels.characters},
        "utterances": totals.utterances,
        "hours": totals.seconds / 3600,
        "excluded": totals.excluded,
        "below_16_khz": totals.low,
        "cut": totals.cut,
        "index_sha256": file_digest(out / INDEX),
        "shards": [{"file": shard.name, "bytes": (out / shard.name).stat().st_size} for shard in shards],
    }
    write_atomically(out / INPUTS, inputs)
    write_atomically(out / PREPARED, sealed(meta))
    for path in out.glob("shard-*.jsonl"):
        path.unlink()
    if totals.cut:
        warnings.warn(
            f"{out}: {totals.cut:,} of {totals.utterances:,} recordings are truncated or damaged, read to their "
            "end; their texts may be longer than the speech",
            stacklevel=3,
        )
    if totals.low:
        warnings.warn(
            f"{out}: {totals.low:,} of {totals.utterances:,} recordings are sampled below 16 kHz, so the upper bands "
            "of their features are empty; beware of mixing them with others",
            stacklevel=3,
        )


def _excluded(out: Path, shards: Sequence[Shard], excluded: Sequence[Row], totals: _Totals) -> Iterator[Row]:
    # Shards are in the order of ids, as `excluded` is.
    rejected = (row for shard in shards for row in shard.rows(out) if "reason" in row)
    for row in heapq.merge(excluded, rejected, key=lambda row: row["id"]):
        totals.excluded[row["reason"]] += 1
        yield row


def _kept(out: Path, shards: Sequence[Shard], totals: _Totals) -> Iterator[Row]:
    for shard in shards:
        for position, row in enumerate(row for row in shard.rows(out) if "reason" not in row):
            totals.low += row.pop("low_rate")
            totals.cut += row.pop("cut", False)
            totals.utterances += 1
            totals.seconds += row["duration"]
            totals.fingerprint.add(row)
            yield row | {"shard": shard.number, "position": position}


def nothing_left(counts: Counter[str], first: Row, where: str = "") -> UserError:
    """The error of a preparation that excludes every utterance; `first` is the row of one."""
    return UserError(
        f"nothing is left to prepare, all {counts.total()} utterances were excluded:\n{filters.table(counts)}\n"
        f"the first: {first['id']}: {first['message']}{where}"
    )
