"""Reading a prepared dataset: ArrayRecord shards of float16 features beside a JSON-lines index.

The folder's layout (written by `prepare`):

    prepared.json                      format, options, alphabet, shards, counts, fingerprint; last, so its presence
                                       means that everything else exists
    index.jsonl                        one line per utterance: `Entry`, sha256 of its audio, shard and position
    excluded.jsonl                     id, audio, reason, message of what was skipped
    shard-00000-of-00007.array_record  one record per utterance: float16 [T, M]

Needs NumPy and array_record only, so that a training machine needs no audio libraries.
"""

import collections
import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from w2l_jax.alphabet import Alphabet
from w2l_jax.dataset.shards import AGAIN, Record, ShardReader
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.files import file_digest, read, text_digest, unsealed

FORMAT = 1
PREPARED, INDEX, EXCLUDED = "prepared.json", "index.jsonl", "excluded.jsonl"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One utterance of a prepared dataset."""

    id: str
    transcript: str
    """The normalised text, all of it in the dataset's alphabet."""
    text: str
    speaker: str
    source: str
    language: str
    split: str
    frames: int
    """T, the number of feature frames."""
    duration: float
    """Seconds of audio."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A prepared dataset, or a selection of one, in a fixed order (by id)."""

    folder: Path
    entries: tuple[Entry, ...]
    alphabet: Alphabet
    features: FeatureConfig
    language: str
    fingerprint: str
    """A hash of everything that determines the content; a selection has its own."""
    excluded: dict[str, int]
    """Reason → number of utterances skipped in preparation."""
    _places: tuple[tuple[int, int], ...] = dataclasses.field(repr=False)
    _shards: ShardReader = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def hours(self) -> float:
        """Hours of audio."""
        return sum(entry.duration for entry in self.entries) / 3600

    @property
    def speakers(self) -> frozenset[str]:
        """The known speakers."""
        return frozenset(entry.speaker for entry in self.entries if entry.speaker)

    @property
    def record(self) -> Record:
        """The stored array of each utterance."""
        return self._shards.record

    def features_of(self, indices: Iterable[int]) -> list[np.ndarray]:
        """Returns the stored arrays of `indices` (features: float16 [T, M] each), read-only, in that order.

        Raises UserError naming the file of a damaged shard. Thread-safe.
        """
        indices = [int(index) for index in indices]
        by_shard = collections.defaultdict(list)
        for slot, index in enumerate(indices):
            by_shard[self._places[index][0]].append(slot)
        out: list[Any] = [None] * len(indices)
        for shard, slots in by_shard.items():
            positions = [self._places[indices[slot]][1] for slot in slots]
            frames = [self.entries[indices[slot]].frames for slot in slots]
            for slot, features_TxM in zip(slots, self._shards.read(shard, positions, frames), strict=True):
                out[slot] = features_TxM
        return out

    def select(self, indices: Iterable[int]) -> "Dataset":
        """Returns the dataset of these `indices`, in their order; it shares the files."""
        indices = [int(index) for index in indices]
        if indices == list(range(len(self))):
            return self
        names = "".join(json.dumps(self.entries[index].id) for index in indices)
        return dataclasses.replace(
            self,
            entries=tuple(self.entries[index] for index in indices),
            fingerprint=text_digest(self.fingerprint + names),
            _places=tuple(self._places[index] for index in indices),
        )

    def stored_as(
        self, record: Record, folder: Path, names: Sequence[str], places: Sequence[tuple[int, int]]
    ) -> "Dataset":
        """Returns the same utterances with other arrays, at `places` (shard, position) of the shards `names`."""
        return dataclasses.replace(
            self, folder=folder, _places=tuple(places), _shards=ShardReader(folder, names, record)
        )

    def followed_by(self, other: "Dataset") -> "Dataset":
        """Returns both as one dataset, the utterances of `other` (with the same features) last; it shares the files."""
        offset = len(self._shards)
        return dataclasses.replace(
            self,
            entries=self.entries + other.entries,
            fingerprint=text_digest(json.dumps([self.fingerprint, other.fingerprint])),
            _places=self._places + tuple((shard + offset, position) for shard, position in other._places),
            _shards=self._shards.followed_by(other._shards),
        )

    def subset(self, hours: float, seed: int = 0) -> "Dataset":
        """Returns a random selection of at most `hours` (at least one utterance), in the dataset's order.

        Utterances are ranked by a hash of (seed, id), so that 20 h are a subset of 100 h with the same seed, and
        additions to the corpus displace few. Raises UserError unless `hours` is positive.
        """
        if not hours > 0:
            raise UserError(f"a subset needs a positive number of hours, not {hours}")
        ranked = sorted(range(len(self)), key=lambda i: text_digest(f"{seed}:{self.entries[i].id}"))
        seconds = np.cumsum([self.entries[i].duration for i in ranked])
        count = max(1, int(np.searchsorted(seconds, hours * 3600 + 1e-6, side="right")))
        return self.select(sorted(ranked[:count]))


def open_dataset(folder: str | Path) -> Dataset:
    """Opens a prepared dataset; raises UserError naming the file that is missing, damaged or of another format."""
    folder = Path(folder)
    meta = read_meta(folder)
    shards = _required(meta, "shards", list, folder)
    try:
        features, language = FeatureConfig(**meta["config"]["features"]), meta["config"]["language"]
        alphabet, fingerprint = Alphabet(meta["alphabet"]["characters"]), str(meta["fingerprint"])
        sizes = {shard["file"]: shard["bytes"] for shard in shards}
        excluded = dict(meta["excluded"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / PREPARED}: damaged ({error} is missing or wrong); {AGAIN}") from None
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: this shard is missing; {AGAIN}")
        if path.stat().st_size != size:
            raise UserError(f"{path}: has {path.stat().st_size} bytes, not the {size} written; {AGAIN}")
    entries, places = _read_index(folder / INDEX, meta)
    reader = ShardReader(folder, tuple(sizes), Record(features.mels))
    return Dataset(folder, entries, alphabet, features, language, fingerprint, excluded, places, reader)


def read_meta(folder: Path) -> dict[str, Any]:
    """Returns the content of `prepared.json`; raises UserError if it is missing, damaged or of another format."""
    path = folder / PREPARED
    if not folder.is_dir():
        raise UserError(f"{folder}: no such prepared dataset")
    if not path.exists() and any(folder.glob("shard-*")):
        advice = "prepare it again with the same options: it resumes where it stopped"
        raise UserError(f"{folder}: its preparation was interrupted; {advice}")
    if not path.exists():
        raise UserError(f"{folder}: not a prepared dataset (it has no {PREPARED}); for recordings, give a manifest")
    meta = read(path, unsealed, AGAIN)
    version = _required(meta, "format", int, folder)
    if version != FORMAT:
        raise UserError(f"{path}: written in format {version}, but this version reads {FORMAT}; {AGAIN}")
    return meta


def _required(meta: Any, name: str, kind: type, folder: Path) -> Any:
    if not isinstance(meta, dict) or not isinstance(meta.get(name), kind):
        raise UserError(f"{folder / PREPARED}: damaged ({name!r} is missing or wrong); {AGAIN}")
    return meta[name]


def _read_index(path: Path, meta: dict[str, Any]) -> tuple[tuple[Entry, ...], tuple[tuple[int, int], ...]]:
    names = [field.name for field in dataclasses.fields(Entry)]
    entries, places = [], []
    try:
        if file_digest(path) != meta.get("index_sha256"):
            raise UserError(f"{path}: was changed or truncated after it was written; {AGAIN}")
        with path.open("rb") as file:
            for line in file:  # line by line: it has 100 MB for LibriSpeech
                row = json.loads(line)
                entries.append(Entry(**{name: row[name] for name in names}))
                places.append((row["shard"], row["position"]))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {AGAIN}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); {AGAIN}") from None
    return tuple(entries), tuple(places)


def check_speakers(train: Dataset, dev: Dataset, allow_overlap: bool) -> tuple[str, ...]:
    """Returns the speakers in both datasets, sorted; unknown speakers ("") never count.

    Raises UserError if there are any and `allow_overlap` is false.
    """
    both = tuple(sorted(train.speakers & dev.speakers))
    if both and not allow_overlap:
        raise overlap_error(both, "both training and dev data")
    return both


def overlap_error(speakers: Sequence[str], where: str) -> UserError:
    """The error of speakers in both training and test data; `where` names the sides."""
    named = ", ".join(speakers[:5]) + (f" and {len(speakers) - 5} more" if len(speakers) > 5 else "")
    return UserError(
        f"{len(speakers)} speaker(s) in {where}: {named}; error rates on training speakers are too low. "
        "Remove them from one side, or set allow_speaker_overlap"
    )
