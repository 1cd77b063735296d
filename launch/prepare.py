"""Prepare speech for training and evaluation: check and filter it, compute the features, write shards and an index."""

import dataclasses
import itertools
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cli
from deliveries import catalog
from preparing import pieces, preview, summary
from preparing.collect import Collection, CorpusSource, check_out, collect, write_excluded
from terminal import terminal
from w2l_jax.corpora import MAX_SKIPPED, SPLITS, Utterance
from w2l_jax.dataset import store
from w2l_jax.dataset.extraction import skipped_row
from w2l_jax.dataset.prepare import PrepareConfig, prepare_part
from w2l_jax.dataset.shards import Row
from w2l_jax.errors import UserError
from w2l_jax.text import tags_in

DESCRIPTION = """Prepare speech for training and evaluation: check and filter it, compute features, write shards.

  python launch/prepare.py --manifest=de.jsonl --out=data/de --language=de           one dataset of a manifest
  python launch/prepare.py --corpus=alc --source=<folder> --out=data/alc             data/alc/train, dev and test
  python launch/prepare.py --config=configs/prepare_german.toml --source=<folder> --out=…   the corpora of a list, mixed
  python launch/prepare.py --manifest=de.jsonl --language=de --preview               texts and transcripts side by side

An interrupted preparation resumes; a finished one of the same input is kept, one of an edited manifest replaced.
The corpora: {}.
""".format(", ".join(catalog.CORPORA))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(PrepareConfig, CorpusSource):
    manifest: Path | None = None
    """JSON lines or a table: audio_filepath (relative to it), text, optional id, speaker, offset and duration, …"""
    config: str = ""
    """TOML file with options and a list of corpora (configs/prepare_german.toml) with folders in --source."""
    corpora: tuple[CorpusSource, ...] = ()
    """Corpora to mix; a list of tables in the TOML file."""
    out: Path | None = None
    """Folder to write."""
    strict: bool = False
    """Stop at the first broken row, text or recording."""
    max_skipped: float = MAX_SKIPPED
    """Largest share of broken rows, texts or recordings; they are listed and skipped."""
    preview: int = 0
    """Show this many texts of each source with their transcripts (default: 20), and what would be skipped."""
    language: str = ""
    """Language of the transcripts (default: the data's; english for a manifest without `lang`)."""
    alphabet_from_data: bool = False
    """Add the characters of the data to the preset alphabet of the language, or make one from them."""
    splits: str = "train,dev,test"
    """Splits of a corpus to prepare."""
    dev_fraction: float = 0.05
    """Share of the non-test speakers to put into dev, if the corpus has no splits."""
    allow_speaker_overlap: bool = False
    """Accept speakers in two splits."""
    split_long: bool = False
    """Cut recordings over --max_seconds at pauses instead of skipping them, if they have word times."""
    workers: int = 0
    """Processes (0: one per core)."""
    shard: str = ""
    """i/n: write only part i (from 0) of n, on n machines with a shared folder; the last one completes it."""
    dry_run: bool = False
    """Read and summarise annotations only; write nothing."""
    summary: bool = False
    """Print the paper's Table 1 for these data, and the frequency of each label."""
    summary_out: Path | None = None
    """Write the summary to <name>.csv, <name>_labels.csv and <name>.md."""
    examples: int = 3
    """Skipped utterances to show per reason."""

    @property
    def limit(self) -> float:
        return 0.0 if self.strict else self.max_skipped


def main() -> None:
    argv = ["--preview=20" if argument == "--preview" else argument for argument in sys.argv[1:]]
    options = cli.parse(Options, argv, description=DESCRIPTION)
    part, selected = part_of(options.shard), selected_splits(options)
    if options.out is None and not (options.dry_run or options.preview):
        raise UserError("give --out, the folder to write (or --dry_run or --preview)")
    collection = read(options, selected_corpora(options))
    for note in collection.notes:
        print(f"note: {cli.as_options(note)}")
    config = configured(options, collection)
    held = [found for utterance in collection.utterances if (found := tags_in(utterance.text))]
    if held and options.tags == "drop":
        frequent = Counter(itertools.chain.from_iterable(held)).most_common(5)
        shown = ", ".join(f"{tag} ({n:,})" for tag, n in frequent)
        print(f"note: {len(held):,} texts hold unspoken marks, which are dropped (--tags): {shown}")
    if options.preview:
        preview.show(collection, config, options.preview)
        return
    splits = {split: part for split, part in collection.splits.items() if part and split in selected}
    if not splits:
        raise UserError(f"there are no utterances for --splits={options.splits}")
    if options.dry_run:
        show(summary.of_texts(splits, config, collection.skipped), options)
        return
    rows = collection.skipped if options.manifest else ()
    datasets = {
        split: write(items, options.out / split, config, part, options, rows) for split, items in splits.items()
    }
    if not all(datasets.values()):
        print(f"part {options.shard} is written; the command that finishes last writes the index")
        return
    if options.manifest is None:
        listed = write_excluded(options.out, collection, datasets)
        what = " rows and files that gave no utterance"
        summary.report_skipped(what, collection.skipped, listed, options.examples)
    if options.summary or options.summary_out:
        show(summary.of_datasets(datasets, () if options.manifest else collection.skipped), options)


def selected_corpora(options: Options) -> list[CorpusSource]:
    """The corpus of --corpus, or those of the TOML file, in --source."""
    if options.corpus or not options.corpora:
        return [CorpusSource(**{f.name: getattr(options, f.name) for f in dataclasses.fields(CorpusSource)})]
    return [dataclasses.replace(corpus, source=str(Path(options.source, corpus.source))) for corpus in options.corpora]


def selected_splits(options: Options) -> list[str]:
    selected = [name.strip() for name in options.splits.split(",")] if options.manifest is None else [""]
    if not set(selected) <= {"", *SPLITS}:
        raise UserError(f"--splits={options.splits}: give some of {','.join(SPLITS)}")
    return selected


def part_of(shard: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", shard or "0/1")
    if not match or int(match[1]) >= int(match[2]):
        raise UserError(f"--shard={shard}: give i/n, the parts of n = 4 are 0/4, 1/4, 2/4 and 3/4")
    return int(match[1]), int(match[2])


def read(options: Options, corpora: list[CorpusSource]) -> Collection:
    if options.manifest is not None:
        return of_manifest(options)
    if not all(c.corpus and c.source for c in corpora) or not corpora:
        raise UserError(
            "nothing to prepare: give --manifest=<file>, --corpus=<name> --source=<folder>, or a --config with a list "
            f"corpora; the corpora are {', '.join(catalog.CORPORA)}"
        )
    if options.out is not None:
        check_out(options.out)
    return collect(
        corpora,
        dev_fraction=options.dev_fraction,
        max_seconds=options.max_seconds if options.split_long else None,
        seconds=pieces.annotated_seconds if options.dry_run else pieces.recorded_seconds,
        allow_speaker_overlap=options.allow_speaker_overlap,
        max_skipped=options.limit,
    )


def of_manifest(options: Options) -> Collection:
    """A manifest as one dataset; its rows keep their splits."""
    reading = catalog.read("manifest", options.manifest, options.limit)
    utterances = reading.utterances
    if options.as_split:
        utterances = [dataclasses.replace(utterance, split=options.as_split) for utterance in utterances]
    marked = Counter(utterance.split for utterance in utterances if utterance.split)
    notes = (
        [
            f"{', '.join(f'{n:,} rows are marked {s}' for s, n in marked.items())}: training and testing take only "
            "their own (--corpus=manifest writes one dataset per split)"
        ]
        if len(marked) > 1
        else []
    )
    rows = [skipped_row(row, options.manifest.stem) for row in reading.skipped]
    return Collection({"": utterances}, rows, notes)


def configured(options: Options, collection: Collection) -> PrepareConfig:
    config = {field.name: getattr(options, field.name) for field in dataclasses.fields(PrepareConfig)}
    unmarked = options.manifest is not None and not any(u.language for u in collection.utterances)
    if unmarked and not options.language:
        print("note: the rows have no `lang`, so they are prepared as English; --language=de makes them German")
    config["language"] = options.language or ("english" if unmarked else collection.language)
    if not options.alphabet_from_data:
        return PrepareConfig(**config)
    found = PrepareConfig(**config).with_alphabet_of(utterance.text for utterance in collection.utterances)
    print(f"alphabet: {found.labels.characters!r}")
    return found


def write(
    utterances: Sequence[Utterance],
    folder: Path,
    config: PrepareConfig,
    part: tuple[int, int],
    options: Options,
    skipped: Sequence[Row],
) -> store.Dataset | None:
    counts, existed = [], (folder / store.PREPARED).exists()
    start = time.perf_counter()
    with terminal() as screen, warnings.catch_warnings(record=True) as caught:

        def progress(done: float, total: float, description: str) -> None:
            counts.append(done)
            screen.bar(done, total, description)

        dataset = prepare_part(
            utterances,
            folder,
            config,
            part,
            workers=options.workers,
            progress=progress,
            skipped=skipped,
            max_skipped=options.limit,
            source=str(options.manifest.resolve()) if options.manifest else "",
        )
    seconds = time.perf_counter() - start
    for warning in caught:
        print(f"warning: {warning.message}")
    if dataset is None:
        return None
    if existed and counts:
        print(f"{options.manifest} has changed since {folder} was prepared, so it is prepared again")
    summary.report(dataset, options.examples)
    if counts and part == (0, 1):
        audio = 3600 * dataset.hours * (counts[-1] - counts[0]) / max(counts[-1], 1)
        print(f"took {seconds:.1f} s, {audio / seconds:,.0f} × real time" + (" (resumed)" if counts[0] else ""))
    elif not counts:
        print("already prepared from the same input")
    return dataset


def show(summaries: summary.Summary, options: Options) -> None:
    print(summary.as_text(summary.corpora_table(summaries)))
    print(f"\n{summary.as_text(summary.labels_table(summaries))}")
    if options.summary_out:
        print(f"written: {', '.join(map(str, summary.write(summaries, options.summary_out)))}")


if __name__ == "__main__":
    cli.run(main)
