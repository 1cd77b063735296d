"""A run's `decoder.toml`: its language model and the weights of the search; options override them."""

import dataclasses
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from w2l_jax.alphabet import Alphabet
from w2l_jax.config import to_toml
from w2l_jax.corpora import weighted_sources
from w2l_jax.decoding.beam import BeamConfig, check_searchable
from w2l_jax.errors import UserError
from w2l_jax.files import file_digest, one_at_a_time, write_atomically
from w2l_jax.run import Run
from w2l_jax.text import normalize

FILE = "decoder.toml"


@dataclasses.dataclass(frozen=True)
class DecoderSettings:
    """What decodes a run: a language model's folder (empty: none) and the search's options."""

    lm: str = ""
    lm_sha256: str = ""
    beam_width: int = BeamConfig.beam_width
    """Hypotheses kept; 0: no search, greedy only."""
    lm_weight: float = BeamConfig.lm_weight
    word_bonus: float = BeamConfig.word_bonus
    temperature: float = 1.0
    """Of the words' confidences (`confidence`)."""
    coverage: float = 1.0
    """Of the words' confidences."""
    tuned: str = ""
    """What the other values were tuned on; empty: nothing."""

    @property
    def beam(self) -> BeamConfig:
        """The options of the beam search."""
        return BeamConfig(self.beam_width, self.lm_weight, self.word_bonus)

    @property
    def calibration(self) -> tuple[float, float]:
        """What `confidence.confidences` takes beside the hypotheses."""
        return self.temperature, self.coverage


def load(run: Run, lm: str = "") -> DecoderSettings | None:
    """Reads a run's `decoder.toml`, None if there is none yet; `lm` is taken in place of its language model.

    Raises UserError if it is damaged, or if its own language model is to be used and is not what it was.
    """
    path = run.folder / FILE
    if not path.is_file():
        return None
    try:
        settings = DecoderSettings(**tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise UserError(f"{path}: damaged: {error}; delete it to build a language model again") from None
    if lm:
        return with_lm(settings, Path(lm))
    if settings.lm:
        model = _folder(run, settings.lm)
        if not (model / "lm.bin").is_file():
            raise UserError(f"{path}: its language model {model} is gone; name another one, or delete {path}")
        if settings.lm_sha256 and sha256(model) != settings.lm_sha256:
            raise UserError(
                f"{path}: its language model {model} is not the one it was written for; name it to use it all "
                "the same, tune its weights again, or delete the file"
            )
        settings = dataclasses.replace(settings, lm=str(model))
    return settings


def save(run: Run, settings: DecoderSettings) -> None:
    """Writes a run's `decoder.toml`; a model inside the run folder is named relative to it."""
    model = Path(settings.lm)
    if settings.lm and model.resolve().is_relative_to(run.folder.resolve()):
        settings = dataclasses.replace(settings, lm=str(model.resolve().relative_to(run.folder.resolve())))
    elif settings.lm:
        settings = dataclasses.replace(settings, lm=str(model.resolve()))
    if settings.lm:
        settings = dataclasses.replace(settings, lm_sha256=sha256(_folder(run, settings.lm)))
    write_atomically(run.folder / FILE, to_toml(settings))


def resolve(
    run: Run,
    lm: str,
    given: dict[str, Any],
    held_out_ids: Collection[str],
    report: Callable[[str], None] = print,
    text: str = "",
) -> DecoderSettings:
    """The settings that decode `run` now: `given` options over `decoder.toml` over the paper's defaults.

    `lm` names a language model's folder, `none` or, empty, the run's own; where that is missing, it is built without
    `held_out_ids` from the run's training transcripts (or from `text`, files separated by commas), if these leave a
    sentence, as they do not where the training data themselves are decoded. Without a language
    model there is a search only if `given` has a `beam_width`; weights tuned with another one are not used. A network
    of ASG is decoded greedily; to ask for a search is an error (UserError).
    """
    if run.alphabet.repetitions:
        if lm not in ("", "none") or given.get("beam_width"):
            check_searchable(run.alphabet)
        return DecoderSettings(beam_width=0)
    settings = load(run, lm) if lm != "none" else DecoderSettings()
    if settings is None:
        with one_at_a_time(run.folder / FILE):  # of two that decode a run at first, one builds and both use it
            settings = load(run, lm) or DecoderSettings(lm=lm or _build(run, text, held_out_ids, report))
            if settings.lm:
                save(run, settings)
    return override(_greedy_without_lm(settings), given)


def of_file(settings: DecoderSettings, lm: str) -> DecoderSettings:
    """The settings of a network that is a file: greedy, unless `lm` names a language model's folder."""
    return _greedy_without_lm(settings if lm in ("", "none") else with_lm(settings, Path(lm)))


def without_building(run: Run, lm: str) -> DecoderSettings:
    """The settings of a run as they are, with `lm` in place of its language model (`none`: greedy)."""
    if lm == "none" or run.alphabet.repetitions:
        return DecoderSettings(beam_width=0)
    return _greedy_without_lm(load(run, lm) or (with_lm(DecoderSettings(), Path(lm)) if lm else DecoderSettings()))


def _greedy_without_lm(settings: DecoderSettings) -> DecoderSettings:
    return settings if settings.lm else dataclasses.replace(settings, beam_width=0)


def override(settings: DecoderSettings, given: dict[str, Any]) -> DecoderSettings:
    """Returns the settings with the `given` values that are not None, which were not tuned."""
    changes = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(settings, **changes, tuned="" if changes else settings.tuned)


def with_lm(settings: DecoderSettings, lm: Path) -> DecoderSettings:
    """Returns the settings with another language model: what was tuned with the old one says nothing about it."""
    settings = dataclasses.replace(settings, beam_width=settings.beam_width or DecoderSettings.beam_width)
    if settings.tuned and not (settings.lm_sha256 and (lm / "lm.bin").is_file() and sha256(lm) == settings.lm_sha256):
        settings = DecoderSettings()
    return dataclasses.replace(settings, lm=str(lm), lm_sha256="")


def hot_words(text: str, alphabet: Alphabet) -> dict[str, float]:
    """Reads hot words and their boosts, such as `kunze=6,ulm=4`; raises UserError for anything else."""
    found = {}
    for pair in filter(None, text.split(",")):
        word, _, boost = pair.rpartition("=")
        word = normalize(word, alphabet)
        try:
            found[word] = float(boost)
        except ValueError:
            word = ""
        if not word:
            raise UserError(f"hot words are written word=boost,word=boost, not {pair!r}; a boost of 5 is strong")
    return found


def _build(run: Run, text: str, held_out_ids: Collection[str], report: Callable[[str], None]) -> str:
    from w2l_jax.lm.build import LanguageModelConfig, NoSentenceError, build

    data = run.config()["data"]
    sources = [path for path, _ in weighted_sources(text or data["train"])]
    report(f"{run.folder} has no language model yet: building one from {', '.join(sources)}")
    options = (run.folder / "lm", run.alphabet, LanguageModelConfig(), held_out_ids)
    try:
        card = build(sources, *options, language=data["language"])
    except NoSentenceError as error:
        report(f"{error}; decoding greedily, as with lm=none")
        return ""
    held_out = f", {card['held_out']} utterances held out" if card["held_out"] else ""
    report(f"language model: {card['sentences']:,} sentences, {card['vocabulary']:,} different words{held_out}")
    return str(run.folder / "lm")


def _folder(run: Run, lm: str) -> Path:
    return Path(lm) if Path(lm).is_absolute() else run.folder / lm


def sha256(model: Path) -> str:
    """Of a language model's binary; `model` is its folder. Raises UserError where there is none."""
    if not (model / "lm.bin").is_file():
        raise UserError(f"{model} is no language model: lm.bin missing; build one")
    return file_digest(model / "lm.bin")
