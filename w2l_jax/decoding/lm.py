"""Building a KenLM language model: text → lmplz → a folder that decoding reads.

The folder holds `lm.bin` (KenLM's binary), `unigrams.txt` (its vocabulary, a word a line) and `card.json` (what it was
made of).
"""

import collections
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding import text
from w2l_jax.errors import UserError

_FORMAT = 1
_REPOSITORY = Path(__file__).resolve().parents[2]
_SPECIAL = {"<unk>", "<s>", "</s>"}


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig:
    """Options of a language model; the defaults make what the paper decoded with."""

    order: int = 4
    """Words in the longest n-gram, 2 to 6."""
    vocabulary: int = 0
    """Most frequent words that are kept, the others become <unk> (0: all)."""
    prune: tuple[int, ...] = ()
    """N-grams seen at most so often are left out, for each order from 1, the last number for the rest (`0 0 1`)."""
    structure: str = "probing"
    """KenLM's data structure: `probing` is faster, `trie` smaller."""

    def __post_init__(self):
        if not 2 <= self.order <= 6:
            raise UserError(f"order is {self.order}; KenLM is built for 2 to 6")
        if self.vocabulary < 0 or any(count < 0 for count in self.prune):
            raise UserError(f"vocabulary is {self.vocabulary}, prune {self.prune}; neither may be negative")
        if self.structure not in ("probing", "trie"):
            raise UserError(f"structure is {self.structure!r}; choose probing or trie")


def build(
    texts: Iterable[Path | str],
    out: Path | str,
    alphabet: Alphabet,
    config: LanguageModelConfig = LanguageModelConfig(),
    held_out_ids: Collection[str] = frozenset(),
    memory: str = "1G",
) -> dict[str, Any]:
    """Builds a language model in folder `out` and returns its card; a finished one made of the same things stays.

    Args:
      texts: plain text files (.gz, .xz too), .jsonl manifests, or patterns for them.
      out: the folder; a language model made of other things is replaced.
      alphabet: what the text is normalised into; sentences that it cannot spell are left out and counted.
      config: order, vocabulary, pruning, data structure.
      held_out_ids: utterances of manifests that are left out (development and test sets).
      memory: what lmplz may use, as it spells it (`1G`, `40%`); the rest goes through temporary files beside `out`.

    Raises:
      UserError: unreadable or no text, lmplz not built, `out` holds something else, or what KenLM says went wrong.
    """
    out = Path(out)
    sources = text.find(texts)
    made_from = _made_from(sources, alphabet, config, held_out_ids)
    if card := _finished(out, made_from):
        return card
    if out.exists() and not (out / "card.json").exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} is there and is no language model; choose another folder")
    lmplz, build_binary = _tool("lmplz"), _tool("build_binary")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    # KenLM's programs may leave temporary files behind where they stop half-way, as lmplz does on a small text.
    scratch = partial / "scratch"
    scratch.mkdir(parents=True)
    try:
        counts = _write_text(sources, scratch, alphabet, held_out_ids, config.vocabulary)
        fallback = _estimate(lmplz, scratch, config, memory)
        words = _write_unigrams(scratch / "arpa", partial / "unigrams.txt")
        binary = partial / "lm.bin"
        _run([build_binary, "-T", f"{scratch}/", config.structure, scratch / "arpa", binary])
        shutil.rmtree(scratch)
        card = {"made_from": made_from, **counts, "vocabulary": words, "discount_fallback": fallback}
        card |= {"bytes": binary.stat().st_size, "sha256": _sha256(binary)}
        (partial / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        _replace(out, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def _made_from(
    sources: list[Path], alphabet: Alphabet, config: LanguageModelConfig, held_out_ids: Collection[str]
) -> dict[str, Any]:
    """Returns everything that decides the model's content, as JSON gives it back."""
    ids = json.dumps(sorted(set(held_out_ids)), ensure_ascii=False)
    return {
        "format": _FORMAT,
        "sources": [{"file": path.name, "sha256": _sha256(path)} for path in sources],
        "alphabet": alphabet.characters,
        "held_out_ids": {"count": len(set(held_out_ids)), "sha256": hashlib.sha256(ids.encode()).hexdigest()},
        **dataclasses.asdict(config),
        "prune": list(config.prune),
    }


def _finished(out: Path, made_from: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the card of a complete model in `out` that was made from the same things."""
    try:
        card = json.loads((out / "card.json").read_text(encoding="utf-8"))
        complete = (out / "unigrams.txt").is_file() and (out / "lm.bin").stat().st_size == card["bytes"]
        return card if complete and card["made_from"] == made_from else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_text(
    sources: list[Path], folder: Path, alphabet: Alphabet, held_out_ids: Collection[str], vocabulary: int
) -> dict[str, Any]:
    """Writes `text`, a sentence a line, and for a limited vocabulary `limit`; returns the card's counts."""
    counts = text.Counts()
    frequency: collections.Counter[str] = collections.Counter()
    with open(folder / "text", "w", encoding="utf-8") as file:
        for path in sources:
            for sentence in text.sentences(path, alphabet, held_out_ids, counts):
                file.write(sentence + "\n")
                if vocabulary:
                    frequency.update(sentence.split())
    if not counts.sentences:
        raise UserError(
            f"no sentence to learn from in {', '.join(map(str, sources))}: {counts.held_out} held out, "
            f"{counts.dropped} with characters outside {alphabet.characters!r}"
        )
    if vocabulary:
        kept = sorted(frequency, key=lambda word: (-frequency[word], word))[:vocabulary]
        (folder / "limit").write_text(" ".join(kept), encoding="utf-8")
    dropped = sorted(counts.dropped_characters.items(), key=lambda item: (-item[1], item[0]))
    return {**dataclasses.asdict(counts), "dropped_characters": dict(dropped[:20])}


def _estimate(lmplz: Path, folder: Path, config: LanguageModelConfig, memory: str) -> bool:
    """Writes `arpa` from `text`; returns whether the discounts had to be guessed, as for small texts."""
    command = [lmplz, "--order", config.order, "--memory", memory, "--temp_prefix", f"{folder}/"]
    command += ["--text", folder / "text", "--arpa", folder / "arpa"]
    if config.prune:
        command += ["--prune", *config.prune]
    if config.vocabulary:
        command += ["--limit_vocab_file", folder / "limit"]
    if "--discount_fallback" not in _run(command, may_ask="--discount_fallback"):
        return False
    _run([*command, "--discount_fallback"])
    return True


def _write_unigrams(arpa: Path, out: Path) -> int:
    """Writes the vocabulary of `arpa` to `out`, sorted; returns its size."""
    words = []
    with open(arpa, encoding="utf-8", newline="\n") as file:
        while next(file) != "\\1-grams:\n":
            pass
        while line := next(file).strip("\n"):
            words.append(line.split("\t")[1])
    words = sorted(set(words) - _SPECIAL)
    out.write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    return len(words)


def _tool(name: str) -> Path:
    """Returns one of KenLM's programs: from $W2L_JAX_KENLM_BIN, the repository's tools folder or the PATH."""
    chosen = os.environ.get("W2L_JAX_KENLM_BIN")
    folders = [chosen] if chosen else [str(_REPOSITORY / "tools" / "kenlm" / "bin"), os.environ.get("PATH", os.defpath)]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if not found:
        raise UserError(f"KenLM's {name} is not in {chosen or folders[0]}; run `make lmplz` in {_REPOSITORY}")
    return Path(found)


def _run(command: list[Any], may_ask: str = "") -> str:
    """Runs one of KenLM's programs; when it fails, returns messages that hold `may_ask` and raises UserError else."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True)
    messages = (done.stderr + done.stdout).decode("utf-8", "replace")
    if done.returncode and not (may_ask and may_ask in messages):
        tail = "\n".join(line for line in messages.splitlines()[-12:] if line.strip() and set(line) != {"*"})
        raise UserError(f"{Path(command[0]).name} failed (exit {done.returncode}); its last words:\n{tail}")
    return messages if done.returncode else ""


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
