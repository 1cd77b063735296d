"""A language model's folder: made whole or not at all, and reused for the same inputs.

It holds `lm.bin` (KenLM's binary), `unigrams.txt` (its vocabulary, one word per line) and `card.json` (its inputs and
properties).
"""

import errno
import json
import tempfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from lm_building.card import measure
from lm_building.kenlm_tools import Resources
from w2l_jax.alphabet import Alphabet
from w2l_jax.dataset.store import read_meta
from w2l_jax.errors import UserError
from w2l_jax.files import file_digest, making, one_at_a_time, text_digest
from w2l_jax.lm import DIGESTS
from w2l_jax.text import clean

FORMAT = 2


def fingerprint(source: Path) -> dict[str, str]:
    """Returns the identity of a source: its name and the hash of its content."""
    if source.is_dir():
        return {"file": source.name, "sha256": str(read_meta(source)["fingerprint"])}
    return {"file": source.name, "sha256": file_digest(source)}


def digest(texts: Collection[str]) -> dict[str, Any]:
    """Returns number and hash of texts in any order."""
    content = json.dumps(sorted(texts), ensure_ascii=False)
    return {"count": len(texts), "sha256": text_digest(content)}


def finished(out: Path, made_from: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the card of a complete model in `out` from the same inputs; raises UserError if `out` is not a model."""
    try:
        card = json.loads((out / "card.json").read_text(encoding="utf-8"))
        complete = (out / "unigrams.txt").is_file() and (out / "lm.bin").stat().st_size == card["bytes"]
        return card if complete and card["made_from"] == made_from else None
    except (OSError, ValueError, KeyError, TypeError):
        if out.exists() and not (out / "card.json").exists() and not (out.is_dir() and not any(out.iterdir())):
            raise UserError(f"{out} exists and is not a language model; choose another folder") from None
        return None


def make_once(
    out: Path, made_from: dict[str, Any], resources: Resources, fill: Callable[[Path, Path], dict[str, Any]]
) -> dict[str, Any]:
    """Returns the card of the finished model in `out`, or of the one that `fill(folder, scratch)` makes.

    One process makes it while others wait. Raises UserError if it cannot be written or the disk is full.
    """
    if card := finished(out, made_from):
        return card
    scratch = str(out)
    try:
        with one_at_a_time(out):
            if card := finished(out, made_from):
                return card
            with making(out) as folder:
                # KenLM's programs may leave files behind when they fail, as lmplz does on a small text.
                place = resources.temp_dir or folder
                with tempfile.TemporaryDirectory(prefix="w2l_jax_lm_", dir=place) as scratch:
                    return fill(folder, Path(scratch))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"no space left in {scratch} or {out}; free some, or give another temp_dir") from None
        where = error.filename or out
        raise UserError(f"{where}: cannot be written ({error.strerror}); choose another folder") from None


def write_words(words: Iterable[str], folder: Path) -> int:
    """Writes `unigrams.txt`; returns the number of words."""
    count = 0
    with (folder / "unigrams.txt").open("w", encoding="utf-8") as file:
        for word in words:
            file.write(word + "\n")
            count += 1
    return count


def complete(
    folder: Path, card: dict[str, Any], evaluate: Collection[str], alphabet: Alphabet, language: str, numbers: bool
) -> dict[str, Any]:
    """Writes `card.json` of the model in `folder`, with its perplexity on `evaluate`; returns the whole card."""
    model = folder / "lm.bin"
    if evaluate:
        sentences = (clean(sentence, alphabet, language, numbers=numbers) for sentence in evaluate)
        card |= {"evaluation": measure(model, (s for s in sentences if s and not alphabet.unknown(s)))}
    digests = zip(DIGESTS, map(file_digest, (model, folder / "unigrams.txt")), strict=True)
    card |= {"bytes": model.stat().st_size, **dict(digests)}
    (folder / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return card
