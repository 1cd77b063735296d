"""Adopts an existing language model: an ARPA file or KenLM's binary → a folder for decoding."""

import dataclasses
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from lm_building import arpa, kenlm_tools
from lm_building import lm_text as text
from lm_building.kenlm_tools import Resources, StructureConfig
from lm_building.lm_folder import FORMAT, complete, digest, fingerprint, make_once, write_words
from w2l_jax.alphabet import Alphabet
from w2l_jax.errors import UserError
from w2l_jax.reporting import Progress


def adopt(
    model: Path | str,
    out: Path | str,
    alphabet: Alphabet,
    config: StructureConfig = StructureConfig(),
    unigrams: Path | None = None,
    *,
    evaluate: Collection[str] = (),
    language: str = "",
    numbers: bool = False,
    resources: Resources = Resources(),
    progress: Progress = lambda done, total, description: None,
) -> dict[str, Any]:
    """Makes a language model's folder `out` from an existing model, and returns its card; keeps a finished one.

    The words of an ARPA file are renamed into the alphabet (`arpa.names`) and keep their probabilities. KenLM's binary
    is copied unchanged, with the words that the alphabet spells as its vocabulary.

    Args:
      model: ARPA file (packed too) or KenLM's binary.
      unigrams: list of a binary's words, one per line, if it was built without (build_binary -v).
      out, alphabet, config, evaluate, language, numbers, resources, progress: as for `build`.

    Raises:
      UserError: a missing, damaged or truncated model, or one that shares no word with the alphabet; `out` holds
      something else; a binary with a `config` of another structure; or KenLM's own error.
    """
    model, out = Path(model), Path(out)
    if not model.is_file():
        raise UserError(f"{model}: no such language model; give an ARPA file or KenLM's binary")
    binary = arpa.is_binary(model)
    if binary and config != StructureConfig():
        raise UserError(f"{model} is KenLM's binary, whose structure is fixed; give its ARPA file to choose one")
    if unigrams and not binary:
        raise UserError(f"{model} is an ARPA file, which holds its words: omit the list {unigrams}")
    numbers = text.spells_numbers(numbers, language, alphabet)
    made_from = {
        "format": FORMAT,
        "model": fingerprint(model),
        "unigrams": fingerprint(unigrams) if unigrams else None,
        "alphabet": alphabet.characters,
        "numbers": language if numbers else "",
        "evaluate": digest(evaluate),
        **dataclasses.asdict(config),
    }

    def fill(partial: Path, scratch: Path) -> dict[str, Any]:
        kenlm_tools.check(*([] if binary else ["build_binary"]))
        if binary:
            card = _binary(model, partial, alphabet, unigrams)
        else:
            card = _arpa(model, scratch / "arpa", partial, alphabet, progress)
        if not card["vocabulary"]:
            what = "; a binary cannot be renamed: give the ARPA file it was built from" if binary else ""
            raise UserError(f"no word of {model} can be spelled with {alphabet.characters!r}{what}")
        if not binary:
            progress(0, 1, f"build_binary: {config.structure}")
            kenlm_tools.compress(scratch / "arpa", partial / "lm.bin", config, scratch, resources)
        return complete(partial, {"made_from": made_from, **card}, evaluate, alphabet, language, numbers)

    return make_once(out, made_from, resources, fill)


def _arpa(model: Path, out: Path, folder: Path, alphabet: Alphabet, progress: Progress) -> dict[str, Any]:
    """Writes the ARPA file with its words renamed, and their list; returns the card's entries about them."""
    names = arpa.names(arpa.unigrams(model), alphabet)
    size = model.stat().st_size / 1e6
    ngrams = arpa.rewrite(model, out, names.new, lambda at: progress(at / 1e6, size, "renaming words: MB"))
    return {
        "order": len(ngrams),
        "ngrams": ngrams,
        "vocabulary": write_words(names.vocabulary, folder),
        "renamed": len(names.new) - len(names.lost),
        "unspellable": names.unspellable,
        "lost": len(names.lost),
        "lost_words": names.lost[:8],
    }


def _binary(model: Path, folder: Path, alphabet: Alphabet, listed: Path | None) -> dict[str, Any]:
    """Copies KenLM's binary and lists its words; returns the card's entries about them."""
    import kenlm

    try:
        loaded = kenlm.Model(str(model))
    except (OSError, RuntimeError) as error:
        raise UserError(f"{model}: KenLM cannot read it ({error}); is the file complete?") from None
    content = listed.read_bytes().split() if listed else arpa.words_of_binary(model)
    words = {word.decode("utf-8", "replace") for word in content} - {word.decode() for word in arpa.SPECIAL}
    spelled = sorted(word for word in words if not alphabet.unknown(word))
    known = [word for word in spelled if word in loaded]
    if not listed and (not words or known != spelled):
        raise UserError(
            f"{model} was built without its words (build_binary -v): list them, one per line, in a file (unigrams), "
            "or give the ARPA file"
        )
    shutil.copyfile(model, folder / "lm.bin")
    return {
        "order": loaded.order,
        "vocabulary": write_words(known, folder),
        "unspellable": len(words) - len(spelled),
        "missing": len(spelled) - len(known),
    }
