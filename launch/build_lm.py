"""Build a language model for decoding, or adopt an existing one."""

import dataclasses
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import cli
from lm_building import card
from lm_building import lm_text as text
from lm_building.adopt import adopt
from lm_building.build import LanguageModelConfig, build
from lm_building.kenlm_tools import Resources, StructureConfig
from terminal import terminal
from w2l_jax import alphabet
from w2l_jax.dataset.store import open_dataset
from w2l_jax.errors import UserError
from w2l_jax.languages import language_name

DESCRIPTION = """Build a language model for decoding, or adopt an existing one.

  python launch/build_lm.py --text='wiki.xz,europarl.txt,*.jsonl' --order=4 --out=lm/german --language=de
  python launch/build_lm.py --text=data/german/train,wiki.zst --held_out=data/german/test --vocabulary=200000
      --prune 0 0 1 --out=lm/german                                      in the alphabet of the last trained run
  python launch/build_lm.py --arpa=4-gram.arpa.gz --language=en --out=lm/librispeech

Memory does not grow with the text, except 8 bytes per line; --memory limits KenLM's programs. The model's card is
printed and stored in card.json; a finished model of the same inputs is kept.
"""
_FOR_TEXT = ("text", "order", "vocabulary", "prune", "deduplicate", "exclude_matching")

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(LanguageModelConfig, Resources):
    text: str = ""
    """Text files (plain, .gz, .bz2, .xz, .zst), .jsonl manifests, prepared folders or patterns, separated by commas."""
    arpa: Path | None = None
    """An existing language model, instead of --text: an ARPA file (packed too) or KenLM's binary."""
    unigrams: Path | None = None
    """The words of a binary built without them (build_binary -v), one per line."""
    out: Path
    """Folder to write, e.g. lm/german."""
    language: str = ""
    """Language whose alphabet the text is brought into, e.g. de."""
    run: Path | None = None
    """Run folder to take alphabet and language from instead (default: the last trained run)."""
    spell_numbers: bool = True
    """Write numbers as words of the language (needs num2words); otherwise sentences with digits are skipped."""
    held_out: str = ""
    """Manifests or prepared folders for testing: their utterances are excluded by id and give the perplexity."""
    exclude_matching: str = ""
    """Manifests or prepared folders whose exact texts are excluded from text files, but not from transcripts."""


def main() -> None:
    options = cli.parse(Options, description=DESCRIPTION)
    check(options, set(cli.given(sys.argv[1:])))
    letters, language = spelling(options)
    held_out = list(transcripts(options.held_out))
    common = {
        "evaluate": [sentence for _, sentence in held_out],
        "language": language,
        "numbers": options.spell_numbers,
        "resources": part(options, Resources),
    }
    with terminal() as screen:
        common["progress"] = screen.bar
        if options.arpa:
            structure = part(options, StructureConfig)
            built = adopt(options.arpa, options.out, letters, structure, options.unigrams, **common)
        else:
            exclude = [sentence for _, sentence in transcripts(options.exclude_matching)]
            config, ids = part(options, LanguageModelConfig), {name for name, _ in held_out}
            built = build(listed(options.text), options.out, letters, config, ids, exclude=exclude, **common)
    print(f"{options.out}\n{card.summary(built)}")


def check(options: Options, specified: set[str]) -> None:
    if bool(options.text) == bool(options.arpa):
        raise UserError("give either --text, to build a language model, or --arpa, to adopt an existing one")
    contradicting = [f"--{name}" for name in _FOR_TEXT if name in specified and options.arpa]
    if contradicting:
        raise UserError(f"--arpa adopts a language model unchanged: omit {', '.join(contradicting)}")
    if options.unigrams and not options.arpa:
        raise UserError("--unigrams lists the words of a binary: give that with --arpa")


def spelling(options: Options) -> tuple[alphabet.Alphabet, str]:
    """The alphabet and the language of --language or of a run."""
    if options.language and options.run:
        raise UserError("give either --language (e.g. de) or --run (whose network will use the language model)")
    if options.language:
        name = language_name(options.language)
        return alphabet.preset(name) if name in alphabet.PRESETS else prepared_alphabet(options, name), name
    import latest  # which imports JAX
    import w2l_jax

    if not options.run and latest.choose(latest.LATEST) != latest.LATEST:
        raise UserError("give either --language (e.g. de) or --run (whose network will use the language model)")
    recognizer = w2l_jax.load(options.run or latest.LATEST, lm="none")
    return recognizer.alphabet, recognizer.language


def prepared_alphabet(options: Options, language: str) -> alphabet.Alphabet:
    """The alphabet of a language without a preset: that of prepared data among --text."""
    for path in filter(text.is_prepared, map(Path, listed(options.text) if options.text else ())):
        if (dataset := open_dataset(path)).language == language:
            return dataset.alphabet
    raise UserError(
        f"--language={options.language}: {language} has no preset alphabet; give --run=<run>, a run "
        "trained on it, or name a prepared folder of it (prepare.py --alphabet_from_data) in --text"
    )


def part(options: Options, cls: type[T]) -> T:
    return cls(**{field.name: getattr(options, field.name) for field in dataclasses.fields(cls)})


def transcripts(names: str) -> Iterator[tuple[str, str]]:
    return itertools.chain.from_iterable(text.transcripts(Path(name)) for name in listed(names))


def listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


if __name__ == "__main__":
    cli.run(main)
