"""Prepare a JSON-lines manifest: check and filter it, compute the features, write shards and an index."""

import dataclasses
import json
import time
import warnings
from collections import Counter
from pathlib import Path

import rich.console
import rich.progress

from w2l_jax import config
from w2l_jax.corpora import manifest
from w2l_jax.dataset import filters, store
from w2l_jax.dataset.prepare import PrepareConfig, prepare


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(PrepareConfig):
    manifest: Path
    """JSON lines: audio_filepath (relative to the manifest), text, optional id, speaker, lang, split, source."""
    out: Path
    """Folder to write; an interrupted one goes on, a finished one of the same input stays."""
    workers: int = 0
    """Processes (0: one a core)."""
    summary: int = 3
    """How many of the utterances left out to show for each reason."""


def main() -> None:
    options = config.parse(Options, description=__doc__)
    settings = PrepareConfig(**{f.name: getattr(options, f.name) for f in dataclasses.fields(PrepareConfig)})
    utterances = manifest.read(options.manifest)
    counts = []
    start = time.perf_counter()
    with bar() as shown, warnings.catch_warnings(record=True) as caught:
        task = shown.add_task("texts", total=len(utterances))

        def progress(done: int, total: int, description: str) -> None:
            counts.append(done)
            shown.update(task, completed=done, total=total, description=description)

        dataset = prepare(utterances, options.out, settings, workers=options.workers, progress=progress)
    seconds = time.perf_counter() - start
    for warning in caught:
        print(f"warning: {warning.message}")
    report(dataset, options.summary)
    if counts:
        audio = 3600 * dataset.hours * (counts[-1] - counts[0]) / counts[-1]
        print(f"took {seconds:.1f} s, {audio / seconds:,.0f} × real time" + (" (resumed)" if counts[0] else ""))
    else:
        print("it was there already, made of the same input")


def bar() -> rich.progress.Progress:
    columns = (rich.progress.MofNCompleteColumn(), rich.progress.TimeRemainingColumn())
    console = rich.console.Console(stderr=True)
    columns = (*rich.progress.Progress.get_default_columns()[:2], *columns)
    return rich.progress.Progress(*columns, console=console, disable=not console.is_terminal)


def report(dataset: store.Dataset, examples: int) -> None:
    print(f"prepared {dataset.folder} ({dataset.language})")
    print(f"kept {len(dataset):,} utterances, {dataset.hours:.2f} h, speakers known: {len(dataset.speakers):,}")
    if dataset.excluded:
        listed = dataset.folder / store.EXCLUDED
        print(f"left out {sum(dataset.excluded.values()):,}, listed in {listed}:\n{filters.table(dataset.excluded)}")
        shown = Counter()
        for row in map(json.loads, listed.read_bytes().splitlines()):
            shown[row["reason"]] += 1
            if shown[row["reason"]] <= examples:
                print(f"    {row['id']}: {row['reason']}: {row['message']}")
    else:
        print("left out none")
    print(f"fingerprint {dataset.fingerprint}")


if __name__ == "__main__":
    config.run(main)
