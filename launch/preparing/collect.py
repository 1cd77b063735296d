"""Turns corpora, one or several mixed, into training, development and test utterances."""

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from deliveries import catalog
from preparing import splits
from preparing.pieces import split_long
from w2l_jax.corpora import MAX_SKIPPED, SPLITS, Reading, Utterance
from w2l_jax.dataset.extraction import skipped_row
from w2l_jax.dataset.shards import Row, write_lines
from w2l_jax.dataset.store import EXCLUDED, PREPARED
from w2l_jax.errors import UserError
from w2l_jax.languages import language_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusSource:
    """A corpus and the options of its reader; a reader refuses options of other readers."""

    corpus: str = ""
    """Name of the corpus; an error for an unknown one lists all."""
    source: str = ""
    """Its folder or file."""
    include_dev: bool = False
    """Add its development set to the training set, as the paper's authors did (LibriSpeech, tuda)."""
    include_test_other: bool = False
    """LibriSpeech: add test-other to the test set."""
    include_validated: bool = False
    """Common Voice: add validated clips outside the splits to the training set."""
    speaker: str = ""
    """LJSpeech: name of a single reader (default: unknown, so that splits are by recording)."""
    columns: str = ""
    """LJSpeech: the columns, such as id,speaker,text or id,text,- (default: inferred from their content)."""
    root: str = ""
    """Kaldi: folder at which relative paths in wav.scp start (default: the data directory)."""
    extract_to: str = ""
    """LibriSpeech: folder to unpack archives into (default: beside them)."""
    as_split: Annotated[Literal["", "train", "dev", "test"], tyro.conf.arg(name="as")] = ""
    """Assign all of it to this split."""


@dataclasses.dataclass(frozen=True)
class Collection:
    """The utterances by split, and the skipped rows."""

    splits: Mapping[str, Sequence[Utterance]]
    skipped: Sequence[Row] = ()
    """Rows as in excluded.jsonl."""
    notes: Sequence[str] = ()

    @property
    def utterances(self) -> Iterator[Utterance]:
        """All of them."""
        return itertools.chain.from_iterable(self.splits.values())

    @property
    def language(self) -> str:
        """The single language marked in the utterances; raises UserError if it is not unique."""
        languages = {language_name(code) for code in {utterance.language for utterance in self.utterances}}
        if len(languages) != 1 or not all(languages):
            names = ", ".join(languages)
            raise UserError(f"the data do not name a single language ({names}); give language=<name>")
        return languages.pop()


def collect(
    sources: Sequence[CorpusSource],
    *,
    dev_fraction: float = 0.05,
    max_seconds: float | None = None,
    seconds: Callable[[Utterance], float] | None = None,
    allow_speaker_overlap: bool = False,
    max_skipped: float = MAX_SKIPPED,
) -> Collection:
    """Reads the corpora, splits utterances without a split, and mixes them.

    Each corpus is split separately, so that a speaker's split is the same in any mixture; in a mixture, ids and
    speakers begin with the name of their corpus. Recordings over `max_seconds` (None: no limit), measured by `seconds`,
    are cut at pauses if they have word times. Raises UserError as the readers do, and for a speaker in two splits
    unless allowed.
    """
    parts: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    skipped, notes = [], []
    for source in sources:
        reading = _read(source, max_skipped)
        utterances = [u if u.source else dataclasses.replace(u, source=source.corpus) for u in reading.utterances]
        if source.as_split:
            utterances = [dataclasses.replace(utterance, split=source.as_split) for utterance in utterances]
        utterances = splits.assign(utterances, dev_fraction=dev_fraction)
        notes += reading.notes
        if max_seconds and seconds:
            cut = list(split_long(utterances, max_seconds, seconds))
            notes += _cuts(source, utterances, cut, max_seconds)
            utterances = cut
        name = Counter(u.source for u in utterances).most_common(1)[0][0] if utterances else source.corpus
        skipped += [skipped_row(row, name) for row in reading.skipped]
        for utterance in map(_of_mixture, utterances) if len(sources) > 1 else utterances:
            parts[utterance.split].append(utterance)
    overlap = splits.check_speakers(parts, allow_speaker_overlap)
    notes += [f"speakers in both {pair}, as allowed: {', '.join(who)}" for pair, who in overlap.items()]
    return Collection(parts, skipped, notes)


def _read(source: CorpusSource, max_skipped: float) -> Reading:
    named = {field.name: getattr(source, field.name) for field in dataclasses.fields(CorpusSource)}
    options = {name: value for name, value in named.items() if value and name not in ("corpus", "source", "as_split")}
    try:
        return catalog.read(source.corpus, source.source, max_skipped, **options)
    except TypeError as error:
        wrong = [name for name in options if f"unexpected keyword argument '{name}'" in str(error)]
        if not wrong:
            raise
        raise UserError(f"{source.corpus} does not take {wrong[0]}: omit it") from None


def _cuts(
    source: CorpusSource, before: Sequence[Utterance], after: Sequence[Utterance], max_seconds: float
) -> list[str]:
    uncut = {utterance.id for utterance in before}
    pieces = sum(utterance.id not in uncut for utterance in after)
    recordings = len(before) - (len(after) - pieces)
    text = f"{source.corpus}: {recordings:,} recordings over {max_seconds:g} s were cut into {pieces:,} pieces"
    return [text] if recordings else []


def _of_mixture(utterance: Utterance) -> Utterance:
    speaker = utterance.speaker and f"{utterance.source}-{utterance.speaker}"
    return dataclasses.replace(utterance, id=f"{utterance.source}-{utterance.id}", speaker=speaker)


def write_excluded(out: Path, collection: Collection, prepared: Iterable[str]) -> Path:
    """Lists everything that is in none of the `prepared` splits of `out`; returns the file.

    First rows without an utterance, then utterances that preparation skipped, with their split.
    """

    def rows() -> Iterator[Row]:
        yield from collection.skipped
        for split in prepared:
            with (out / split / EXCLUDED).open("rb") as file:
                yield from (json.loads(line) | {"split": split} for line in file)

    write_lines(out / EXCLUDED, rows())
    return out / EXCLUDED


def check_out(out: Path) -> None:
    """Raises UserError if `out`, the parent of a dataset per split, is itself a dataset."""
    if (out / PREPARED).exists():
        raise UserError(f"{out}: is one prepared dataset, not a folder of train, dev and test; choose a new folder")
