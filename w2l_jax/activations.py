"""The frozen layers' output, stored once per utterance, so that training runs only the layers above (§7's idea).

Activations are stored in shards, as features are, in a folder named by a hash of all their inputs (weights, config,
data), so stale entries are never read. Each shard is written whole or not at all; an interrupted fill resumes at the
first missing shard.
"""

import contextlib
import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from w2l_jax import model
from w2l_jax.dataset.batches import Source, prefetch
from w2l_jax.dataset.folder import writing
from w2l_jax.dataset.shards import Record, Result, Shard, plan, write_shards
from w2l_jax.dataset.store import Dataset
from w2l_jax.errors import UserError
from w2l_jax.features import FRAME_SECONDS
from w2l_jax.files import digest, text_digest
from w2l_jax.model import ModelConfig, Params, layer_name
from w2l_jax.reporting import Progress

FORMAT = 1  # increase when the same layers give another output
_SHARD = 256  # utterances, a power of two: 0.8 GB at full width
_REPAIR = "delete the folder and run the same command again, to fill it again"


@dataclasses.dataclass(frozen=True, eq=False)
class FrozenLayers:
    """Layers 1 … `count` of `params`, the precision they are computed in and that in which their output is stored."""

    params: Params
    config: ModelConfig
    count: int
    compute_dtype: Any
    stored_dtype: Any

    @property
    def prefix(self) -> Params:
        """The parameters of the layers only."""
        return {layer_name(number): self.params[layer_name(number)] for number in range(1, self.count + 1)}

    @property
    def record(self) -> Record:
        """What is stored of each utterance: [S, C]."""
        channels = self.params[layer_name(self.count)]["bias"].shape[0]
        return Record(channels, jnp.dtype(self.stored_dtype), model.STRIDE, self.count, _REPAIR)

    @functools.cached_property
    def _digest(self) -> str:
        dtypes = [str(jnp.dtype(dtype)) for dtype in (self.compute_dtype, self.stored_dtype)]
        inputs = [FORMAT, self.count, dataclasses.asdict(self.config), *dtypes]
        return text_digest(json.dumps([*inputs, digest(self.prefix)], sort_keys=True))

    def fingerprint(self, dataset: Dataset) -> str:
        """A key of what determines these layers' output for `dataset`: weights, config, precisions, features."""
        return text_digest(f"{self._digest} {dataset.fingerprint}")


def on_activations(
    sources: Sequence[Source],
    layers: FrozenLayers,
    cache: str | Path,
    rows: int,
    report: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> list[Source]:
    """Returns `sources` whose batches hold the output of `layers`, [B, S, C], computing what is not stored yet.

    The folder is `cache`/activations/<fingerprint>. At most `rows` utterances are computed at once. Processes that fill
    one folder take turns. Raises UserError if the disk lacks room for all of it (before any work) and for an utterance
    whose activations overflow the stored precision.
    """
    places = [Path(cache) / "activations" / layers.fingerprint(source.dataset)[:16] for source in sources]
    plans = [_plan(source.dataset, layers) for source in sources]
    todo = [[s for s in shards if not s.finished(place)] for place, shards in zip(places, plans, strict=True)]
    for source, place, missing in zip(sources, places, todo, strict=True):
        state = "to be computed" if missing else "stored already"
        report(
            f"activations of layer {layers.count} for {len(source.dataset)} utterances: "
            f"{_readable(size(source.dataset, layers))} ({_per_hour(layers)} per hour of speech), {state}: {place}"
        )
    needed = sum(
        size(source.dataset, layers, [index for shard in missing for index in shard.items])
        for source, missing in zip(sources, todo, strict=True)
    )
    _check_room(Path(cache), needed, layers)
    filled = []
    for source, place, shards, missing in zip(sources, places, plans, todo, strict=True):
        if missing:
            _fill(place, source, layers, shards, rows, progress or (lambda *_: None))
        filled.append(dataclasses.replace(source, dataset=_open(place, source.dataset, layers, shards)))
    return filled


def size(dataset: Dataset, layers: FrozenLayers, indices: Sequence[int] | None = None) -> int:
    """Bytes on disk of the activations of `dataset`, or of its utterances `indices`, to within a few bytes each."""
    selected = range(len(dataset)) if indices is None else indices
    return sum(layers.record.bytes(dataset.entries[index].frames) for index in selected)


def compile_filling(layers: FrozenLayers, rows: int, frames: int, mels: int) -> Any:
    """Compiles, without running, the function that computes activations of `rows` utterances padded to `frames` frames.

    Only the shapes of `layers` matter, so `jax.ShapeDtypeStruct`s will do.
    """
    array = jax.ShapeDtypeStruct
    batch = array((rows, frames, mels), jnp.float16), array((rows,), jnp.int32)
    inputs = layers.config, layers.count, layers.compute_dtype, layers.record.dtype
    return _run.lower(layers.prefix, *batch, *inputs).compile()


def rows_at_once(rows: int) -> int:
    """How many utterances to compute together: the largest power of two up to `rows`.

    It divides the shard size, so grouping does not depend on where a fill resumed.
    """
    return min(1 << (max(rows, 1).bit_length() - 1), _SHARD)


def _per_hour(layers: FrozenLayers) -> str:
    return _readable(layers.record.bytes(round(3600 / FRAME_SECONDS)))


def _readable(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e7 else f"{count / 1e6:,.2f} MB"


def free_bytes(cache: Path) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    existing = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def _check_room(cache: Path, needed: int, layers: FrozenLayers) -> None:
    free = free_bytes(cache)
    if needed > free:
        raise UserError(
            f"{cache}: the activations of layer {layers.count} need {_readable(needed)} more "
            f"({_per_hour(layers)} per hour of speech), {_readable(free)} are free: make room (other "
            "folders in its activations/ may be deleted), give data.cache=<folder on another disk>, train on fewer "
            "data.train_hours, or omit freeze.cache_activations"
        )


def _plan(dataset: Dataset, layers: FrozenLayers) -> list[Shard]:
    """The shards of a dataset's activations: their items are indices, shortest utterance first within each."""
    indices: list[int] = []
    for start in range(0, len(dataset), _SHARD):
        part = range(start, min(start + _SHARD, len(dataset)))
        indices += sorted(part, key=lambda index: dataset.entries[index].frames)
    key = layers.fingerprint(dataset)
    return plan(indices, _SHARD, lambda part: text_digest(f"{key} {part}"))


def _open(place: Path, dataset: Dataset, layers: FrozenLayers, shards: Sequence[Shard]) -> Dataset:
    places = {index: (shard.number, i) for shard in shards for i, index in enumerate(shard.items)}
    names = [shard.name for shard in shards]
    return dataset.stored_as(layers.record, place, names, [places[index] for index in range(len(dataset))])


def _fill(
    place: Path, source: Source, layers: FrozenLayers, shards: Sequence[Shard], rows: int, progress: Progress
) -> None:
    work = functools.partial(_outputs, source=source, layers=layers, rows=rows_at_once(rows))
    with writing(place, shards, shards, option="data.cache", size=_per_hour(layers)):
        write_shards(place, shards, work, progress, f"layers 1 to {layers.count}")


def _outputs(indices: Sequence[int], source: Source, layers: FrozenLayers, rows: int) -> Generator[Result, None, None]:
    """Yields the layers' output for each of the utterances `indices`."""
    prefix = jax.device_put(layers.prefix)
    groups = [indices[start : start + rows] for start in range(0, len(indices), rows)]
    placed = prefetch(groups, lambda group: (group, jax.device_put(source.batch(group, rows))))
    with contextlib.closing(placed) as stream:
        for group, batch in stream:
            out_BxSxC, largest_B = jax.device_get(
                _run(prefix, batch.features_BxTxM, batch.frames_B, layers.config, layers.count,
                     layers.compute_dtype, layers.record.dtype)
            )  # fmt: skip
            for row, index in enumerate(group):
                entry = source.dataset.entries[index]
                _check_range(entry.id, float(largest_B[row]), layers)
                yield out_BxSxC[row, : layers.record.rows(entry.frames)], {"id": entry.id}


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _run(prefix: Params, features_BxTxM, frames_B, config: ModelConfig, last: int, dtype: Any, stored: Any):
    """The output of layer `last` in the stored precision, and the largest magnitude in each row before rounding.

    The magnitude is NaN if any value is not finite.
    """
    out_BxSxC = model.apply(prefix, features_BxTxM, frames_B, config, last=last, dtype=dtype)
    largest_B = jnp.abs(out_BxSxC).max(axis=(1, 2)).astype(jnp.float32)
    # Tested separately: on CPUs, jax 0.10's maximum ignores NaN.
    return out_BxSxC.astype(stored), jnp.where(jnp.isfinite(out_BxSxC).all(axis=(1, 2)), largest_B, jnp.nan)


def _check_range(utterance: str, largest: float, layers: FrozenLayers) -> None:
    limit = float(jnp.finfo(layers.stored_dtype).max)
    if largest <= limit:
        return
    what = f"utterance {utterance}: the frozen layers give {largest:.3g}"
    if not np.isfinite(largest):
        raise UserError(f"{what}, which is not finite: remove this recording from the data")
    raise UserError(
        f"{what}, {jnp.dtype(layers.stored_dtype).name} overflows at {limit:,.0f}: use "
        "freeze.activation_dtype=bfloat16 (same size, fewer digits) or float32 (twice the size)"
    )
