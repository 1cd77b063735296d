"""Build a language model for decoding from text files and the transcripts of manifests."""

import dataclasses
import json
from pathlib import Path

from w2l_jax import alphabet, config
from w2l_jax.corpora import manifest
from w2l_jax.decoding import lm
from w2l_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(lm.LanguageModelConfig):
    text: str
    """Text files (plain, .gz, .xz), .jsonl manifests or patterns for them, separated by commas."""
    out: Path
    """Folder to write, e.g. lm/german; one made of the same things stays as it is."""
    language: str = ""
    """Language whose alphabet the text is brought into, e.g. de."""
    run: Path | None = None
    """Run folder whose alphabet the text is brought into, instead of --language."""
    held_out: str = ""
    """Manifests whose utterances are left out, by id, separated by commas: development and test sets."""
    memory: str = "1G"
    """Memory for lmplz, as 1G or 40%."""


def main() -> None:
    options = config.parse(Options, description=__doc__)
    settings = {field.name: getattr(options, field.name) for field in dataclasses.fields(lm.LanguageModelConfig)}
    held_out = {utterance.id for path in _listed(options.held_out) for utterance in manifest.read(path)}
    card = lm.build(
        _listed(options.text),
        options.out,
        _alphabet(options),
        lm.LanguageModelConfig(**settings),
        held_out_ids=held_out,
        memory=options.memory,
    )
    print(json.dumps(card, indent=1, ensure_ascii=False))
    print(f"{options.out}: {card['words']:,} words, {card['vocabulary']:,} different, order {options.order}")


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _alphabet(options: Options) -> alphabet.Alphabet:
    if bool(options.language) == bool(options.run):
        raise UserError("give either --language (e.g. de) or --run (whose network will use the language model)")
    if options.language:
        return alphabet.preset(options.language)
    path = options.run / "alphabet.json"
    if not path.is_file():
        raise UserError(f"{options.run} is no run folder: it has no alphabet.json")
    return alphabet.Alphabet.from_json(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    config.run(main)
