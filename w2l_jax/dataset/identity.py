"""Keys of a prepared dataset's inputs: the same input opens or resumes a folder, other input is refused.

Options added since the first folders were written enter a key only if used, so that those folders stay valid.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any, Literal

from w2l_jax.alphabet import PRESETS, Alphabet, preset
from w2l_jax.corpora import Utterance
from w2l_jax.dataset import filters
from w2l_jax.dataset.store import FORMAT
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.languages import checked_name
from w2l_jax.text import Tags, alphabet_from_data, spoken

_CLEANING = 2  # of `text.clean`: increase it when transcripts change, so that caches are rebuilt


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """The options that, with the utterances, determine the content of a prepared dataset."""

    language: str = "english"
    """Language of the transcripts (english, german, … or en, de, …): alphabet and normalisation."""
    max_seconds: float = 35.0
    """Longer recordings are skipped."""
    unknown_characters: filters.OnUnknown = "error"
    """Texts with characters outside the alphabet: skip up to 5 % (more is an error), or any number.
    """
    features: FeatureConfig = FeatureConfig()
    alphabet: str = ""
    """Characters of the alphabet in order (default: the preset of the language; one without a preset needs this)."""
    spell_numbers: bool = False
    """Write numbers as words of the language (needs num2words); skip utterances where that fails.
    """
    tags: Tags = "drop"
    """`[noise]`, `(laughs)`, `<unk>` and the like: remove them, keep their words, or skip the utterance.
    """

    truncated: Literal["skip", "read"] = "skip"
    """Truncated or damaged recordings: skip them, or read them to their end."""

    def __post_init__(self):
        object.__setattr__(self, "language", checked_name(self.language))
        if not self.max_seconds > 0:
            raise UserError(f"max_seconds must be positive, not {self.max_seconds}")

    @property
    def labels(self) -> Alphabet:
        """The alphabet; raises UserError for a language without a preset, unless the characters are given."""
        return Alphabet(self.alphabet) if self.alphabet else preset(self.language)

    @property
    def cleaning(self) -> dict[str, Any]:
        """The options of `text.clean`."""
        return {"language": self.language, "numbers": self.spell_numbers, "tags": self.tags}

    def with_alphabet_of(self, texts: Iterable[str]) -> "PrepareConfig":
        """Returns this configuration with the alphabet of the language and of the `texts`."""
        letters = alphabet_from_data((spoken(text, **self.cleaning) for text in texts), self.language)
        return dataclasses.replace(self, alphabet=custom_characters(letters, self.language))

    @property
    def as_dict(self) -> dict[str, Any]:
        """The options as nested dictionaries, as they are stored and hashed."""
        values = dataclasses.asdict(self)
        unused = {"alphabet": "", "spell_numbers": False, "tags": "drop", "truncated": "skip"}
        return {name: value for name, value in values.items() if name not in unused or value != unused[name]}


def custom_characters(alphabet: Alphabet, language: str) -> str:
    """Returns what `PrepareConfig.alphabet` is for data in `alphabet`: its characters, "" for the language's preset."""
    return "" if PRESETS.get(language) == alphabet.characters else alphabet.characters


def stamp(utterance: Utterance) -> list[Any]:
    """Everything that determines an utterance's row and can be known without reading its audio."""
    try:
        stat = utterance.audio.stat()
        size, changed = stat.st_size, stat.st_mtime_ns
    except (OSError, ValueError):
        size, changed = -1, -1
    fields = (utterance.id, utterance.text, utterance.speaker, utterance.source, utterance.language, utterance.split)
    return [*fields, size, changed, *piece(utterance)]


def piece(utterance: Utterance) -> list[float | None]:
    """Start and end of an utterance that is a piece of a recording; empty for a whole one."""
    return [] if utterance.start == 0.0 and utterance.end is None else [utterance.start, utterance.end]


def digest(config: PrepareConfig, content: Iterable[Any]) -> str:
    """A key of the options and of the items of `content` (stamps, names), hashed one at a time."""
    out = hashlib.sha256(f"[{FORMAT}.{_CLEANING}, {json.dumps(config.as_dict, sort_keys=True)}, [".encode())
    for number, item in enumerate(content):
        out.update(((", " if number else "") + json.dumps(item)).encode())
    out.update(b"]]")
    return out.hexdigest()


class Fingerprint:
    """A hash of a dataset's options and rows, independent of its shards; add rows in the order of their ids."""

    def __init__(self, config: PrepareConfig):
        self._digest = hashlib.sha256(json.dumps([FORMAT, config.as_dict], sort_keys=True).encode())

    def add(self, row: dict[str, Any]) -> None:
        """Adds the row of a stored utterance."""
        content = [row[name] for name in ("id", "sha256", "text", "transcript", "speaker")]
        content += [row[name] for name in ("start", "end") if name in row]
        self._digest.update(json.dumps(content).encode() + b"\n")

    def value(self) -> str:
        """Returns the fingerprint of the rows so far."""
        return self._digest.hexdigest()
