"""The data of a training job: sources of batches in one alphabet, and the order of training."""

import dataclasses
import functools
import itertools
from fractions import Fraction
from pathlib import Path

from w2l_jax.alphabet import PRESETS, REPETITIONS, Alphabet
from w2l_jax.corpora import manifest, weighted_sources
from w2l_jax.dataset.batches import Source
from w2l_jax.dataset.order import MixedOrder, Order
from w2l_jax.dataset.prepare import (
    PrepareConfig,
    custom_characters,
    open_or_prepare,
    repeated,
)
from w2l_jax.dataset.store import Dataset, check_speakers, open_dataset
from w2l_jax.errors import UserError
from w2l_jax.languages import checked_name, language_name
from w2l_jax.reporting import Progress, Report
from w2l_jax.training.old_language import representable
from w2l_jax.training.options import DataOptions, TrainOptions


@dataclasses.dataclass(frozen=True)
class Data:
    """The data of a job. `train` holds the old language's utterances after the new language's.

    `fingerprints` of all data, by option; `overlap`: speakers in both training and dev data.
    """

    alphabet: Alphabet
    train: Source
    dev: Source | None
    old_dev: Source | None
    order: Order | MixedOrder
    fingerprints: dict[str, str]
    overlap: tuple[str, ...]


def open_data(options: TrainOptions, report: Report, progress: Progress | None) -> Data:
    """Opens all data and prepares manifests; raises UserError if they do not fit together."""
    olds = (options.data.old_train, options.data.old_dev)
    for path in filter(None, (options.data.dev, *olds)):
        if not Path(path).exists():
            raise UserError(f"{path}: no such manifest or prepared folder")
    train_data, alphabet = _open_train(options, report, progress)
    if options.data.train_hours:
        train_data = train_data.subset(options.data.train_hours, options.seed)
    dev_data = _open(options.data.dev, "dev", options, report, progress, alphabet) if options.data.dev else None
    old_data, old_dev_data = (
        _open_old(path, split, options, report, progress, alphabet) if path else None
        for path, split in zip(olds, ("train", "dev"), strict=True)
    )
    overlap = ()
    for ours, theirs in ((train_data, dev_data), (old_data, old_dev_data)):
        if ours and theirs:
            overlap += check_speakers(ours, theirs, options.data.allow_speaker_overlap)
    if dev_data and not (train_data.speakers and dev_data.speakers):
        report("note: without speakers in the data, training and dev data may share some, which lowers error rates")
    if overlap:
        report(f"note: speakers in both training and dev data, as allowed: {', '.join(overlap)}")
    alphabet = dataclasses.replace(alphabet, repetitions=REPETITIONS if options.loss == "asg" else 0)
    rows, speed = options.batch_size, options.augment.speed
    all_data = train_data.followed_by(old_data) if old_data else train_data
    train = Source.create(all_data, alphabet, options.data.buckets, rows, speed)
    dev, old_dev = (
        Source.create(data, alphabet, options.data.buckets, rows) if data else None for data in (dev_data, old_dev_data)
    )

    order = _order(train_data, options)
    if old_data:
        order = MixedOrder(order, _order(old_data, options), Fraction(str(options.data.old_share)))
    used = {"train": train_data, "dev": dev_data, "old_train": old_data, "old_dev": old_dev_data}
    if dev_data and dev_data.fingerprint == train_data.fingerprint:
        report("note: the dev data are the training data, so the error rates will look too good")
    fingerprints = {name: dataset.fingerprint if dataset else "" for name, dataset in used.items()}
    return Data(alphabet, train, dev, old_dev, order, fingerprints, overlap)


def language_of(data: DataOptions) -> str:
    """The language of the training data: a preset's name, or that of a prepared folder, which may have none."""
    if data.language:
        return checked_name(data.language)
    languages: set[str] = set()
    for path, _ in weighted_sources(data.train):
        prepared = Path(path).is_dir()
        languages |= {open_dataset(path).language} if prepared else {u.language for u in manifest.read(path)}
    names = {language_name(language) for language in languages}
    if len(names) != 1 or not all(names):
        says = ", ".join(f"some rows are {name}" if name else "some rows have no `lang`" for name in sorted(names))
        raise UserError(f"{data.train}: {says}; say which language to train, such as data.language=de")
    return names.pop()


def _open_train(options: TrainOptions, report: Report, progress: Progress | None) -> tuple[Dataset, Alphabet]:
    """The training data, all sources as one, and their alphabet."""
    sources = weighted_sources(options.data.train)
    texts = [path for path, _ in sources if not Path(path).is_dir()]
    alphabet = None
    if options.data.language not in PRESETS and texts:
        config = PrepareConfig(language=options.data.language)
        read = itertools.chain.from_iterable(map(manifest.read, texts))
        alphabet = config.with_alphabet_of(utterance.text for utterance in read).labels
    parts = [_open(path, "train", options, report, progress, alphabet) for path, _ in sources]
    alphabet = functools.reduce(Alphabet.extend, [part.alphabet for part in parts])
    weighted = [repeated(part, weight, options.seed) for part, (_, weight) in zip(parts, sources, strict=True)]
    return functools.reduce(Dataset.followed_by, weighted), alphabet


def _open(
    path: str,
    split: str,
    options: TrainOptions,
    report: Report,
    progress: Progress | None,
    alphabet: Alphabet | None = None,
) -> Dataset:
    config = PrepareConfig(
        language=options.data.language,
        max_seconds=options.data.max_seconds,
        unknown_characters=options.data.unknown_characters,
        features=options.features,
        alphabet=custom_characters(alphabet, options.data.language) if alphabet else "",
    )
    workers = options.data.workers or None
    return open_or_prepare(
        Path(path), Path(options.data.cache), config, split, workers=workers, progress=progress, report=report
    )


def _open_old(
    path: str, split: str, options: TrainOptions, report: Report, progress: Progress | None, alphabet: Alphabet
) -> Dataset:
    """Data of another language, as far as the training data's `alphabet` can represent them."""
    data = dataclasses.replace(options.data, language=language_of(DataOptions(train=path)))
    dataset = _open(path, split, dataclasses.replace(options, data=data), report, progress, alphabet)
    return representable(dataset, alphabet, options.data.unknown_characters == "drop_utterance", report)


def _order(dataset: Dataset, options: TrainOptions) -> Order:
    lengths = tuple(entry.frames for entry in dataset.entries)
    return Order(lengths, options.batch_size, options.seed, options.data.sorted_first_epoch)
