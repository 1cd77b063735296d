"""Prepare a JSON-lines manifest: check and filter it, compute the features, write shards and an index."""

import dataclasses
import json
import time
import warnings
from pathlib import Path

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
    workers: int | None = None
    """Processes; default: one a core."""
    summary: int = 3
    """How many of the utterances left out to show for each reason."""


def main() -> None:
    options = config.parse(Options, description=__doc__)
    settings = PrepareConfig(**{f.name: getattr(options, f.name) for f in dataclasses.fields(PrepareConfig)})
    utterances = manifest.read(options.manifest)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught, progress_bar() as progress:
        warnings.simplefilter("default")
        dataset = prepare(utterances, options.out, settings, workers=options.workers, progress=progress)
    seconds = time.perf_counter() - start
    for warning in caught:
        print(f"warning: {warning.message}")
    report(dataset, options.summary)
    if progress.computed:
        hours = dataset.hours * progress.computed / progress.total
        print(f"{seconds:.1f} s, {hours * 3600 / seconds:,.0f} × real time")
    else:
        print("everything was there already")
    print(f"prepared: {options.out}")


def report(dataset: store.Dataset, examples: int) -> None:
    left_out = sum(dataset.excluded.values())
    speakers = f"{len(dataset.speakers):,} known speakers" if dataset.speakers else "speakers unknown"
    print(f"kept {len(dataset):,} utterances, {dataset.hours:.2f} h, {speakers}, {dataset.language}")
    print(f"left out {left_out:,}" + (f", listed in {dataset.folder / store.EXCLUDED}:" if left_out else ""))
    if left_out:
        print(filters.table(dataset.excluded))
    shown = dict.fromkeys(dataset.excluded, 0)
    for line in (dataset.folder / store.EXCLUDED).read_text("utf-8").split("\n")[:-1]:
        row = json.loads(line)
        shown[row["reason"]] += 1
        if shown[row["reason"]] <= examples:
            print(f"    {row['id']}: {row['reason']}: {row['message']}")
    print(f"fingerprint {dataset.fingerprint}")


class progress_bar:  # noqa: N801 - used like a function
    """A bar on the terminal, callable as (done, total, description); remembers how many it saw computed."""


if __name__ == "__main__":
    config.run(main)
