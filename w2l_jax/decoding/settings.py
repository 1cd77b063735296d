"""A run's `decoder.toml`: its language model and the weights of the search; options override them."""

import dataclasses
from pathlib import Path
from typing import Any

from w2l_jax import config
from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding.beam import BeamConfig
from w2l_jax.errors import UserError
from w2l_jax.files import file_digest, text_digest, write_atomically
from w2l_jax.run import Run
from w2l_jax.text import normalize

FILE = "decoder.toml"
_SEAL = b"# sha256 "


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
    content = path.read_bytes()
    first, _, rest = content.partition(b"\n")
    is_empty = all(line.startswith(b"#") for line in content.split(b"\n") if line.strip())
    if is_empty or (first.startswith(_SEAL) and first != _sealed(rest)):
        raise UserError(f"{path}: is not what was written; if you changed it, delete its first line, else all of it")
    try:
        settings = config.load(DecoderSettings, path)
    except UserError as error:
        raise UserError(f"damaged: {error}; delete the file to build a language model again") from None
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
    content = config.to_toml(settings).encode()
    write_atomically(run.folder / FILE, _sealed(content) + b"\n" + content)


def _sealed(content: bytes) -> bytes:
    """The first line of the file, by which a change of the others shows."""
    return _SEAL + text_digest(content).encode() + b" (delete this line where you change another)"


def of_file(settings: DecoderSettings, lm: str) -> DecoderSettings:
    """The settings of a network that is a file: greedy, unless `lm` names a language model's folder."""
    return greedy_without_lm(settings if lm in ("", "none") else with_lm(settings, Path(lm)))


def without_building(run: Run, lm: str) -> DecoderSettings:
    """The settings of a run as they are, with `lm` in place of its language model (`none`: greedy)."""
    if lm == "none" or run.alphabet.repetitions:
        return DecoderSettings(beam_width=0)
    return greedy_without_lm(load(run, lm) or (with_lm(DecoderSettings(), Path(lm)) if lm else DecoderSettings()))


def greedy_without_lm(settings: DecoderSettings) -> DecoderSettings:
    """Without a language model there is no search."""
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


def _folder(run: Run, lm: str) -> Path:
    return Path(lm) if Path(lm).is_absolute() else run.folder / lm


def sha256(model: Path) -> str:
    """Of a language model's binary; `model` is its folder. Raises UserError where there is none."""
    if not (model / "lm.bin").is_file():
        raise UserError(f"{model} is no language model: lm.bin missing; build one")
    return file_digest(model / "lm.bin")
