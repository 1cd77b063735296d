"""The corpora by name: which module reads which delivery. Adding one is a module and a line here."""

import dataclasses
import importlib
from pathlib import Path

from w2l_jax.corpora import Reading
from w2l_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A corpus that `prepare.py --corpus=<name>` knows; `reader` is `module:function` under `w2l_jax.corpora`."""

    reader: str
    language: str
    """Of the transcripts; "" where the delivery or the user says it."""
    about: str


CORPORA: dict[str, Corpus] = {}


def read(name: str, source: str | Path, **options) -> Reading:
    """Reads the delivery `source` (a folder, or what the corpus comes as) of the corpus `name`.

    `options` are the reader's own, such as `include_dev` of LibriSpeech. Raises UserError for an unknown name, and
    where `source` is no such delivery, with what was looked for.
    """
    if name not in CORPORA:
        raise UserError(f"unknown corpus {name!r}; known: {', '.join(CORPORA)}")
    module, function = CORPORA[name].reader.split(":")
    return getattr(importlib.import_module(f"w2l_jax.corpora.{module}"), function)(Path(source), **options)
