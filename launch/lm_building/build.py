"""Building a KenLM language model: text → lmplz → a folder for decoding."""

import dataclasses
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Literal

from lm_building import arpa, kenlm_tools
from lm_building import lm_text as text
from lm_building.counting import Frequencies
from lm_building.kenlm_tools import Resources, StructureConfig
from lm_building.lm_folder import FORMAT, complete, digest, fingerprint, make_once, write_words
from w2l_jax.alphabet import Alphabet
from w2l_jax.errors import UserError
from w2l_jax.reporting import Progress


class NoSentenceError(UserError):
    """The texts hold no usable sentence."""


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig(StructureConfig):
    """Options of a language model; the defaults are the paper's."""

    order: int = 4
    """Words in the longest n-gram, 2 to 6."""
    vocabulary: int = 0
    """Keep this many most frequent words; the others become <unk> (0: all)."""
    prune: tuple[int, ...] = ()
    """Prune n-grams with at most this count, per order from 1; the last number applies to the rest (`0 0 1`)."""
    deduplicate: Literal["text", "all", "none"] = "text"
    """Count repeats once: lines of plain text (`text`), also utterances with the same words (`all`), or `none`."""

    def __post_init__(self):
        super().__post_init__()
        if not 2 <= self.order <= 6:
            raise UserError(f"order is {self.order}; KenLM is built for 2 to 6")
        if self.vocabulary < 0 or any(count < 0 for count in self.prune):
            raise UserError(f"vocabulary is {self.vocabulary}, prune {self.prune}; neither may be negative")
        if len(self.prune) > self.order or list(self.prune) != sorted(self.prune):
            raise UserError(f"prune is {self.prune}; give at most {self.order} numbers, none below the one before it")
        if self.deduplicate not in ("text", "all", "none"):
            raise UserError(f"deduplicate is {self.deduplicate!r}; choose text, all or none")


def build(
    texts: Iterable[Path | str],
    out: Path | str,
    alphabet: Alphabet,
    config: LanguageModelConfig = LanguageModelConfig(),
    held_out_ids: Collection[str] = frozenset(),
    *,
    exclude: Collection[str] = (),
    evaluate: Collection[str] = (),
    language: str = "",
    numbers: bool = False,
    resources: Resources = Resources(),
    progress: Progress = lambda done, total, description: None,
) -> dict[str, Any]:
    """Builds a language model in folder `out` and returns its card; keeps a finished one of the same inputs.

    Memory does not grow with the text, except 8 bytes per line to find repeats; temporary files do.

    Args:
      texts: plain text files (also compressed), .jsonl manifests, prepared folders, or patterns for them.
      out: the folder; a language model of other inputs is replaced.
      alphabet: alphabet of the normalised text; sentences outside it are skipped and counted.
      config: order, vocabulary, pruning, repeats, data structure.
      held_out_ids: utterances of manifests and prepared folders to exclude (development and test sets).
      exclude: texts to exclude from plain text. Utterances are never excluded by text: prompts recur.
      evaluate: texts for the card's perplexity.
      language: name or code of the texts' language.
      numbers: whether to spell them if the alphabet has no digits.
      resources: memory and place for temporary files.
      progress: takes (done, total, description) while text is read.

    Raises:
      UserError: unreadable or no text, lmplz not built, `out` holds something else, or KenLM's own error.
    """
    out, sources = Path(out), text.find(texts)
    numbers = text.spells_numbers(numbers, language, alphabet)
    reader = text.Reader(alphabet, language, numbers, held_out_ids, exclude, config.deduplicate)
    made_from = {
        "format": FORMAT,
        "sources": [fingerprint(path) for path in sources],
        "alphabet": alphabet.characters,
        "numbers": language if numbers else "",
        "held_out_ids": digest(held_out_ids),
        "exclude": digest(exclude),
        "evaluate": digest(evaluate),
        **dataclasses.asdict(config),
        "prune": list(config.prune),
    }

    def fill(partial: Path, scratch: Path) -> dict[str, Any]:
        kenlm_tools.check("lmplz", "build_binary")
        counts = _write_text(reader, sources, scratch, config.vocabulary, progress)
        progress(0, 1, f"lmplz: {config.order}-grams")
        fallback = _estimate(scratch, config, resources)
        words = (word.decode() for word, _ in arpa.unigrams(scratch / "arpa") if word not in arpa.SPECIAL)
        card = {"made_from": made_from, **counts, "vocabulary": write_words(words, partial)}
        card |= {"ngrams": arpa.counts(scratch / "arpa"), "discount_fallback": fallback}
        progress(0, 1, f"build_binary: {config.structure}")
        kenlm_tools.compress(scratch / "arpa", partial / "lm.bin", config, scratch, resources)
        return complete(partial, card, evaluate, alphabet, language, numbers)

    return make_once(out, made_from, resources, fill)


def _write_text(
    reader: text.Reader, sources: list[Path], folder: Path, vocabulary: int, progress: Progress
) -> dict[str, Any]:
    """Writes `text`, one sentence per line, and for a limited vocabulary `limit`; returns the card's counts."""
    counts, each = reader.counts, []
    frequencies = Frequencies(folder) if vocabulary else None
    sizes = [path.stat().st_size for path in sources]
    with open(folder / "text", "w", encoding="utf-8") as file:
        for i, path in enumerate(sources):
            before = counts.sentences, counts.words
            read = sum(sizes[:i])
            for sentence in reader.sentences(path, lambda at, read=read: _tell(progress, read + at, sum(sizes))):
                file.write(sentence + "\n")
                if frequencies:
                    frequencies.add(sentence.split())
            sentences, words = counts.sentences - before[0], counts.words - before[1]
            each.append({"file": path.name, "sentences": sentences, "words": words})
    if not counts.sentences:
        raise NoSentenceError(
            f"no usable sentence in {', '.join(map(str, sources))}: {counts.held_out} held out, "
            f"{counts.dropped} with characters outside {reader.alphabet.characters!r}"
        )
    if frequencies:
        (folder / "limit").write_text(" ".join(frequencies.most_common(vocabulary)), encoding="utf-8")
    dropped = sorted(counts.dropped_characters.items(), key=lambda item: (-item[1], item[0]))
    return {"sources": each, **dataclasses.asdict(counts), "dropped_characters": dict(dropped[:20])}


def _tell(progress: Progress, done: int, total: int) -> None:
    progress(done / 1e6, total / 1e6, "reading text: MB")


def _estimate(folder: Path, config: LanguageModelConfig, resources: Resources) -> bool:
    """Writes `arpa` from `text`; returns whether the discounts were guessed, as for small texts."""
    options: list[Any] = ["--order", config.order]
    if config.prune:
        options += ["--prune", *config.prune]
    if config.vocabulary:
        options += ["--limit_vocab_file", folder / "limit"]
    return kenlm_tools.estimate(folder / "text", folder / "arpa", options, folder, resources)
