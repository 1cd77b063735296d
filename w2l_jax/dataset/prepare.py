"""Turns utterances into a prepared dataset: checked texts, features in shards, an index, a list of skipped utterances.

Shards are written one by one, each whole or not at all, so preparation resumes at the first missing one. `store`
describes and reads the folder.
"""

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from w2l_jax.corpora import MAX_SKIPPED, Utterance, manifest, too_many
from w2l_jax.dataset import filters
from w2l_jax.dataset.extraction import excluded_row, extract_features, skipped_row
from w2l_jax.dataset.folder import clear_away, is_from, is_of, other_input, writing
from w2l_jax.dataset.identity import PrepareConfig, custom_characters, digest, stamp
from w2l_jax.dataset.index import finish, nothing_left
from w2l_jax.dataset.shards import Row, plan, write_shards
from w2l_jax.dataset.store import EXCLUDED, PREPARED, Dataset, open_dataset
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.files import file_digest, read
from w2l_jax.languages import language_name
from w2l_jax.reporting import Progress

__all__ = ["PrepareConfig", "custom_characters", "open_or_prepare", "prepare", "prepare_cached", "prepare_part"]


def prepare(
    utterances: Iterable[Utterance],
    out: str | Path,
    config: PrepareConfig = PrepareConfig(),
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    shard_size: int = 512,
    replace: bool = False,
    skipped: Sequence[Row] = (),
    max_skipped: float = MAX_SKIPPED,
) -> Dataset:
    """Writes a prepared dataset of `utterances` into the folder `out` and opens it.

    A finished folder of the same input is opened, an interrupted one resumed; one of other input is an error unless
    `replace` is set. Neither the order and paths of the utterances nor `workers` (processes; 0 or None: one per core)
    change the content. `skipped` are rows without an utterance, to be listed too. Warns once about recordings below 16
    kHz. Raises UserError for duplicate ids, a full disk, and if more than the share `max_skipped` of the texts or
    recordings, or all of them, cannot be used.
    """
    dataset = prepare_part(
        utterances,
        out,
        config,
        workers=workers,
        progress=progress,
        shard_size=shard_size,
        replace=replace,
        skipped=skipped,
        max_skipped=max_skipped,
    )
    assert dataset is not None  # a single part finishes the folder
    return dataset


def prepare_part(
    utterances: Iterable[Utterance],
    out: str | Path,
    config: PrepareConfig = PrepareConfig(),
    part: tuple[int, int] = (0, 1),
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    shard_size: int = 512,
    replace: bool = False,
    skipped: Sequence[Row] = (),
    max_skipped: float = MAX_SKIPPED,
    source: str = "",
) -> Dataset | None:
    """As `prepare`, but for `part` (i, n) writes only every n-th shard from the i-th (i from 0).

    All parts take the same utterances and folder, at the same time or not, on any machines. The one that finishes last
    writes the index and returns the dataset; the others return None. A folder prepared with the same `config` from the
    same `source`, such as a manifest edited since, is replaced.
    """
    out, given = Path(out), sorted(utterances, key=lambda utterance: utterance.id)
    _check_ids(given)
    stamps = {utterance.id: stamp(utterance) for utterance in given}
    inputs = digest(config, stamps.values())
    if is_of(out, inputs):
        return open_dataset(out)
    if (out / PREPARED).exists() and not replace:
        replace = bool(source) and is_from(out, source, config)
        if not replace:
            raise other_input(out)
    filters.check_languages(given, config.language)
    transcripts, exclusions = filters.check_texts(
        given, config.labels, config.unknown_characters, max_skipped=max_skipped, **config.cleaning
    )
    missing = [utterance for utterance in given if stamps[utterance.id][6] < 0]
    if too_many(len(missing), len(given), max_skipped):
        raise UserError(
            f"{len(missing):,} of {len(given):,} recordings are missing, and at most {max_skipped:.0%} may be skipped "
            f"(max_skipped); the first: {missing[0].id}: {missing[0].audio}"
        )
    excluded = [excluded_row(utterance, exclusions[utterance.id]) for utterance in given if utterance.id in exclusions]
    excluded = sorted([*excluded, *skipped], key=lambda row: row["id"])
    if not transcripts:
        raise nothing_left(Counter(row["reason"] for row in excluded), excluded[0])
    items = [(u, transcripts[u.id]) for u in given if u.id in transcripts]
    shards = plan(items, shard_size, lambda part: digest(config, (stamps[u.id] for u, _ in part)))
    mine = shards[part[0] :: part[1]]
    work = functools.partial(extract_features, config=config, workers=workers)

    with writing(out, shards, mine):
        if not is_of(out, inputs):  # another process may have written it while this one waited
            clear_away(out, shards, mine, replace)
            write_shards(out, mine, work, progress or (lambda *_: None))
            if mine == shards:
                finish(out, shards, excluded, config, inputs, max_skipped, source)
    if mine != shards:
        # In this order: shards stop being marked as finished only once the folder is complete.
        if not all(shard.finished(out) for shard in shards) and not is_of(out, inputs):
            return None
        with writing(out, shards, shards):
            if not is_of(out, inputs):
                finish(out, shards, excluded, config, inputs, max_skipped, source)
    return open_dataset(out)


def prepare_cached(
    path: str | Path,
    cache: str | Path,
    config: PrepareConfig = PrepareConfig(),
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Prepares a manifest into a folder of `cache` named by a hash of its content, path and options.

    A complete folder is opened as it is unless an audio file's size or modification time changed; else it is prepared
    again. Raises UserError as `manifest.read` and `prepare` do.
    """
    path = Path(path)
    reading = manifest.reading(path).check(path)
    content = file_digest(path)
    name = f"{path.stem}-{digest(config, [content, str(path.resolve())])[:10]}"
    return prepare(
        reading.utterances,
        Path(cache) / name,
        config,
        workers=workers,
        progress=progress,
        replace=True,
        skipped=[skipped_row(row, path.stem) for row in reading.skipped],
    )


def open_or_prepare(
    path: str | Path,
    cache: str | Path,
    config: PrepareConfig = PrepareConfig(),
    split: str = "",
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """Opens a prepared folder, or a manifest (JSON lines, CSV, TSV) with `prepare_cached`.

    Of data marked with splits only those for `split` are taken (`of_split`), which `report` tells, with what was
    skipped. Raises UserError for anything else, and for a folder whose language or features differ from `config`'s.
    """
    path = Path(path)
    if path.is_file() and path.suffix in manifest.ENDINGS:
        dataset = prepare_cached(path, cache, config, workers=workers, progress=progress)
        if dataset.excluded:
            skipped, listed = sum(dataset.excluded.values()), dataset.folder / EXCLUDED
            reasons = ", ".join(f"{reason}: {n:,}" for reason, n in dataset.excluded.items())
            first = read(listed, lambda text: json.loads(text.partition("\n")[0])["message"])
            report(f"{path}: skipped {skipped:,} of {skipped + len(dataset):,} utterances ({reasons})")
            report(f"  the first: {first}; all: {listed}")
    else:
        dataset = _open_folder(path, config)
    selected, note = of_split(dataset, split)
    if note:
        report(f"{path}: {note}")
    return selected


def repeated(dataset: Dataset, weight: float, seed: int = 0) -> Dataset:
    """Repeats `dataset` so that each epoch has it `weight` times; a fraction gives a random subset of its hours."""
    if weight == 1:
        return dataset
    copies, rest = int(weight), weight - int(weight)
    parts = [dataset] * copies + ([dataset.subset(rest * dataset.hours, seed)] if rest else [])
    return functools.reduce(Dataset.followed_by, parts)


def of_split(dataset: Dataset, split: str) -> tuple[Dataset, str]:
    """Returns the part for `split`, and a note on the rest ("" if nothing is marked otherwise).

    For training it is the utterances marked `train` or not at all. For dev and test it is those marked so, else those
    not marked `train`, else all. "" takes all. Raises UserError if there is nothing to train on.
    """
    marked = Counter(entry.split for entry in dataset.entries)
    if split == "train":
        accepted = {"train", ""} & set(marked)
    else:
        accepted = {split} & set(marked) or set(marked) - {"train"} or set(marked)
    others = ", ".join(
        f"{n:,} of {len(dataset):,} are marked {name}" for name, n in marked.items() if name not in accepted
    )
    if not split or not others:
        return dataset, ""
    if not accepted:
        raise UserError(f"{dataset.folder}: {others}, so nothing is left for training; prepare it as train (as_split)")
    selected = dataset.select(i for i, entry in enumerate(dataset.entries) if entry.split in accepted)
    return selected, f"{others}, so they are not taken as {split} data"


def _open_folder(path: Path, config: PrepareConfig) -> Dataset:
    if not path.is_dir():
        what = "no such file or folder" if not path.exists() else "neither a manifest nor a prepared folder"
        raise UserError(f"{path}: {what}; give manifests ({', '.join(manifest.ENDINGS)}) or prepared folders")
    dataset = open_dataset(path)
    pairs = [("language", language_name(dataset.language), config.language)]
    for field in dataclasses.fields(FeatureConfig):
        pairs.append((f"features.{field.name}", *(getattr(c.features, field.name) for c in (dataset, config))))
    for name, stored, required in pairs:
        if stored != required:
            raise UserError(
                f"{path}: prepared with {name}={stored}, but {required} is needed here; "
                f"prepare it again with {name}={required}, or change {name} here"
            )
    return dataset


def _check_ids(utterances: Sequence[Utterance]) -> None:
    if not utterances:
        raise UserError("there are no utterances to prepare")
    for first, second in zip(utterances, utterances[1:], strict=False):
        if first.id == second.id:
            raise UserError(
                f"two utterances have the id {first.id!r}: {first.audio} and {second.audio}; rename one, since "
                "results are reported by id"
            )
