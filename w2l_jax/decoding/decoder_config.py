"""A run's `decoder.toml`: its language model and the weights of the search; options override them."""

import dataclasses
from pathlib import Path
from typing import Any

from w2l_jax import config
from w2l_jax.decoding.beam import BeamConfig
from w2l_jax.errors import UserError
from w2l_jax.files import file_digest, text_digest, write_atomically
from w2l_jax.run import Run

FILE = "decoder.toml"
_SEAL = b"# sha256 "


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """How a run is decoded: a language model's folder (empty: none) and the options of the search."""

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
    """The data that the other values were tuned on; empty if not tuned."""

    @property
    def beam(self) -> BeamConfig:
        """The options of the beam search."""
        return BeamConfig(self.beam_width, self.lm_weight, self.word_bonus)

    @property
    def calibration(self) -> tuple[float, float]:
        """The arguments of `confidence.confidences` after the hypotheses."""
        return self.temperature, self.coverage


def load(run: Run, lm: str = "") -> DecoderConfig | None:
    """Reads a run's `decoder.toml`, None if there is none; `lm` replaces its language model.

    Raises UserError if it is damaged, or if its own language model is needed and was changed.
    """
    path = run.folder / FILE
    if not path.is_file():
        return None
    content = path.read_bytes()
    first, _, rest = content.partition(b"\n")
    is_empty = all(line.startswith(b"#") for line in content.split(b"\n") if line.strip())
    if is_empty or (first.startswith(_SEAL) and first != _sealed(rest)):
        raise UserError(f"{path}: was changed; if by you, delete its first line, else the whole file")
    try:
        decoder = config.load(DecoderConfig, path)
    except UserError as error:
        raise UserError(f"damaged: {error}; delete the file to build a language model again") from None
    if lm:
        return with_lm(decoder, Path(lm))
    if decoder.lm:
        model = _folder(run, decoder.lm)
        if not (model / "lm.bin").is_file():
            raise UserError(f"{path}: its language model {model} is gone; name another one, or delete {path}")
        if decoder.lm_sha256 and sha256(model) != decoder.lm_sha256:
            raise UserError(
                f"{path}: its language model {model} was changed since; name it to use it "
                "anyway, tune its weights again, or delete the file"
            )
        decoder = dataclasses.replace(decoder, lm=str(model))
    return decoder


def save(run: Run, decoder: DecoderConfig) -> None:
    """Writes a run's `decoder.toml`; a model inside the run folder is named relative to it."""
    model = Path(decoder.lm)
    if decoder.lm and model.resolve().is_relative_to(run.folder.resolve()):
        decoder = dataclasses.replace(decoder, lm=str(model.resolve().relative_to(run.folder.resolve())))
    elif decoder.lm:
        decoder = dataclasses.replace(decoder, lm=str(model.resolve()))
    if decoder.lm:
        decoder = dataclasses.replace(decoder, lm_sha256=sha256(_folder(run, decoder.lm)))
    content = config.to_toml(decoder).encode()
    write_atomically(run.folder / FILE, _sealed(content) + b"\n" + content)


def _sealed(content: bytes) -> bytes:
    """The first line of the file: a digest of the others."""
    return _SEAL + text_digest(content).encode() + b" (delete this line where you change another)"


def of_file(decoder: DecoderConfig, lm: str) -> DecoderConfig:
    """The options of a network that is a file: greedy unless `lm` names a language model's folder."""
    return greedy_without_lm(decoder if lm in ("", "none") else with_lm(decoder, Path(lm)))


def without_building(run: Run, lm: str) -> DecoderConfig:
    """A run's stored options, with `lm` instead of its language model (`none`: greedy)."""
    if lm == "none" or run.alphabet.repetitions:
        return DecoderConfig(beam_width=0)
    return greedy_without_lm(load(run, lm) or (with_lm(DecoderConfig(), Path(lm)) if lm else DecoderConfig()))


def greedy_without_lm(decoder: DecoderConfig) -> DecoderConfig:
    """Disables the search if there is no language model."""
    return decoder if decoder.lm else dataclasses.replace(decoder, beam_width=0)


def override(decoder: DecoderConfig, given: dict[str, Any]) -> DecoderConfig:
    """Returns the options with the `given` values that are not None, marked as not tuned."""
    changes = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(decoder, **changes, tuned="" if changes else decoder.tuned)


def with_lm(decoder: DecoderConfig, lm: Path) -> DecoderConfig:
    """Returns the options with another language model; values tuned with the old one are discarded.

    Raises UserError if the folder `lm` holds none.
    """
    if not (lm / "lm.bin").is_file():
        raise UserError(f"{lm} is not a language model (lm.bin is missing); build one")
    decoder = dataclasses.replace(decoder, beam_width=decoder.beam_width or DecoderConfig.beam_width)
    if decoder.tuned and not (decoder.lm_sha256 and sha256(lm) == decoder.lm_sha256):
        decoder = DecoderConfig()
    return dataclasses.replace(decoder, lm=str(lm), lm_sha256="")


def _folder(run: Run, lm: str) -> Path:
    return Path(lm) if Path(lm).is_absolute() else run.folder / lm


def sha256(model: Path) -> str:
    """The SHA-256 of the binary in a language model's folder `model`; raises UserError if there is none."""
    if not (model / "lm.bin").is_file():
        raise UserError(f"{model} is not a language model (lm.bin is missing); build one")
    return file_digest(model / "lm.bin")
