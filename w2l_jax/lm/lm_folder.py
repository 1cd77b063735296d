"""A language model's folder: made whole or not at all, and found again when it is made of the same things.

It holds `lm.bin` (KenLM's binary), `unigrams.txt` (its vocabulary, a word a line) and `card.json` (what it was made of,
and what is known of it).
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from w2l_jax.alphabet import Alphabet
from w2l_jax.dataset.store import read_meta
from w2l_jax.errors import UserError
from w2l_jax.lm.card import measure
from w2l_jax.lm.kenlm_tools import Resources
from w2l_jax.text import clean

FORMAT = 2


def fingerprint(source: Path) -> dict[str, str]:
    """Returns what tells a source from others: its name, and the hash of its content."""
    if source.is_dir():
        return {"file": source.name, "sha256": str(read_meta(source)["fingerprint"])}
    return {"file": source.name, "sha256": _sha256(source)}


def digest(texts: Collection[str]) -> dict[str, Any]:
    """Returns number and hash of texts, whatever their order."""
    content = json.dumps(sorted(texts), ensure_ascii=False)
    return {"count": len(texts), "sha256": hashlib.sha256(content.encode()).hexdigest()}


def finished(out: Path, made_from: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the card of a complete model in `out` made of the same things; raises UserError if `out` is no model."""
    try:
        card = json.loads((out / "card.json").read_text(encoding="utf-8"))
        complete = (out / "unigrams.txt").is_file() and (out / "lm.bin").stat().st_size == card["bytes"]
        return card if complete and card["made_from"] == made_from else None
    except (OSError, ValueError, KeyError, TypeError):
        if out.exists() and not (out / "card.json").exists() and not (out.is_dir() and not any(out.iterdir())):
            raise UserError(f"{out} is there and is no language model; choose another folder") from None
        return None


@contextlib.contextmanager
def making(out: Path, resources: Resources) -> Iterator[tuple[Path, Path]]:
    """Yields a folder to fill, which then takes the place of `out`, and one for temporary files.

    Raises UserError where they cannot be written, or are full.
    """
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        # KenLM's programs may leave temporary files behind where they stop half-way, as lmplz does on a small text.
        scratch = Path(tempfile.mkdtemp(prefix="w2l_jax_lm_", dir=resources.temp_dir or partial))
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        yield partial, scratch
        shutil.rmtree(scratch)
        _replace(out, partial)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"no space left in {scratch} or {partial}; free some, or give another temp_dir") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)


def write_words(words: Iterable[str], folder: Path) -> int:
    """Writes `unigrams.txt`; returns how many words it holds."""
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
    card |= {"bytes": model.stat().st_size, "sha256": _sha256(model)}
    (folder / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return card


def _replace(out: Path, partial: Path) -> None:
    """Puts the finished folder in place; whoever reads `out` meanwhile finds the old one, none, or the new one."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(partial, out)
    shutil.rmtree(old, ignore_errors=True)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
