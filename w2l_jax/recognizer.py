"""A trained network with everything needed to use it, as one value: load, transcribe, logits, decode, save."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import jax
import numpy as np

from w2l_jax import audio, config, features, incoming, inference, losses, model, network_file, streaming
from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding import decoder_config, recordings
from w2l_jax.decoding.decoder_config import DecoderConfig
from w2l_jax.decoding.recordings import Search, Segment, Word
from w2l_jax.errors import UserError
from w2l_jax.features import OUTPUT_SECONDS, FeatureConfig
from w2l_jax.incoming import Block
from w2l_jax.model import ModelConfig, Params
from w2l_jax.reporting import Progress
from w2l_jax.run import Run
from w2l_jax.streaming import Event

_PRETRAINED = Path(__file__).parent / "pretrained"
INCLUDED = {path.stem: path for path in sorted(_PRETRAINED.glob(f"*{network_file.SUFFIX}"))}
"""The included networks, by name."""

Audio = str | Path | np.ndarray | Iterable[np.ndarray]
"""A recording: a file, a mono waveform [N], or an iterator of its blocks [N]; float in −1…1 or int16."""


@dataclasses.dataclass(frozen=True)
class Transcription:
    """The transcript of a recording: segments in order, each of some seconds with at least one word."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """All words, separated by single spaces."""
        return " ".join(segment.text for segment in self.segments)

    @property
    def words(self) -> tuple[Word, ...]:
        """All words with start and end in seconds and, after a beam search, confidences."""
        return tuple(word for segment in self.segments for word in segment.words)


@dataclasses.dataclass(frozen=True)
class Recognizer:
    """Parameters, alphabet, network, features and decoder of a trained network, all plain values."""

    params: Params
    """One entry per layer, `layer_01` to `layer_11`, each with `kernel` [K, C, D] and `bias` [D]."""
    alphabet: Alphabet
    model: ModelConfig
    features: FeatureConfig = FeatureConfig()
    decoder: DecoderConfig = DecoderConfig(beam_width=0)
    """Language model and weights of the beam search; greedy decoding without a `beam_width`."""
    language: str = ""
    step: int = 0
    """The number of training updates."""
    card: str = ""
    """Markdown: training data, quality, licence."""

    def __post_init__(self):
        own = losses.own_parameters(self.alphabet)
        if wrong := model.misfit(self.params, self.model, self.alphabet.size, self.features.mels, own):
            raise UserError(f"params: {wrong} as model, alphabet and features say")

    def transcribe(
        self, recording: Audio, rate: int = audio.SAMPLE_RATE, progress: Progress | None = None
    ) -> Transcription:
        """Recognises a recording of any length, in constant memory.

        `rate` (Hz) is that of a waveform or its blocks; a file has its own. `progress` takes seconds. Raises
        AudioError, a UserError, for a recording that cannot be read; a truncated file is read to its end with an
        AudioWarning.
        """
        return Transcription(tuple(self.segments(recording, rate, progress)))

    def segments(
        self,
        recording: Audio,
        rate: int = audio.SAMPLE_RATE,
        progress: Progress | None = None,
        search: Search | None = None,
        truncated: audio.Truncated = "read",
    ) -> Iterator[Segment]:
        """Yields the segments of `transcribe`, at most 35 s at a time; `search` replaces this recogniser's own search.

        `truncated` decides what to do with a truncated or damaged file.
        """
        pieces = self._pieces(recording, rate, progress, truncated)
        return recordings.transcribe(pieces, self.alphabet, search or self._search)

    def stream(
        self,
        blocks: Iterable[Block],
        rate: int = audio.SAMPLE_RATE,
        hot_words: Mapping[str, float] = MappingProxyType({}),
    ) -> Iterator[Event]:
        """Yields events during speech: provisional words, and final ones at pauses or after 20 s.

        `blocks` are pieces of any length of a mono waveform of `rate` Hz; a `Break` marks lost sound or a new rate.
        Everything is compiled before the first block is requested. Samples that are not finite, clipped or lost give a
        message. `hot_words` are those of `Decoder`. Features are normalised by the past only, unlike `transcribe`'s.
        Raises UserError for blocks of another type or shape.
        """
        return streaming.stream(dataclasses.replace(self, params=self._on_device), blocks, rate, hot_words)

    def logits(self, recording: Audio, rate: int = audio.SAMPLE_RATE, progress: Progress | None = None) -> np.ndarray:
        """Returns the network's outputs [S, V] (float32), one row per 16 ms, the blank first."""
        return np.concatenate(list(self._pieces(recording, rate, progress)))

    def decode(self, logits: np.ndarray | Iterable[np.ndarray]) -> Transcription:
        """Decodes the logits [S, V] of one recording, whole or in pieces."""
        pieces = [logits] if isinstance(logits, np.ndarray) or hasattr(logits, "shape") else logits
        checked = (self._checked(np.asarray(piece_SxV, np.float32)) for piece_SxV in pieces)
        return Transcription(tuple(recordings.transcribe(checked, self.alphabet, self._search)))

    def save(self, path: str | Path, dtype: Literal["bfloat16", "float32"] = "bfloat16") -> None:
        """Writes one `.safetensors` file that `load` reads, whole or not at all.

        The language model is not stored. Raises UserError if `path` exists or does not end in `.safetensors`.
        """
        about = {
            "alphabet": json.loads(self.alphabet.to_json()),
            "model": dataclasses.asdict(self.model),
            "features": dataclasses.asdict(self.features),
            "decoder": dataclasses.asdict(dataclasses.replace(self.decoder, lm="", lm_sha256="")),
            "language": self.language,
            "step": self.step,
        }
        network_file.write(Path(path), self.params, about, self.card, dtype)

    def _pieces(
        self, recording: Audio, rate: int, progress: Progress | None, truncated: audio.Truncated = "read"
    ) -> Iterator[np.ndarray]:
        """Yields the logits [S, V] of a recording, some seconds at a time."""
        total = 0.0
        if not isinstance(rate, int | np.integer) or rate < 1:
            raise UserError(f"rate={rate!r}: give the waveform's samples per second, such as 16000")
        if isinstance(recording, str | Path):
            total = audio.seconds(recording) if progress else 0.0
            blocks = audio.blocks(recording, truncated=truncated)
        else:
            blocks = audio.resampled(_waveform(recording), rate)
        done = 0.0
        for piece_SxV in inference.stream(self._on_device, features.stream(blocks, self.features), self.model):
            yield piece_SxV
            done += len(piece_SxV) * OUTPUT_SECONDS
            if progress:
                progress(done, max(total, done), "seconds")

    def _checked(self, logits_SxV: np.ndarray) -> np.ndarray:
        if logits_SxV.ndim != 2 or logits_SxV.shape[1] != self.alphabet.size:
            raise UserError(f"logits have the shape {list(logits_SxV.shape)}, not [S, {self.alphabet.size}]")
        if np.isnan(logits_SxV).any():
            raise UserError("logits hold NaN")
        return logits_SxV

    @functools.cached_property
    def _on_device(self) -> Params:
        return jax.device_put(self.params)

    @functools.cached_property
    def _search(self) -> Search:
        if not self.decoder.beam_width:
            return functools.partial(recordings.greedy_search, params=self._on_device, alphabet=self.alphabet)
        from w2l_jax.decoding.pool import DecoderPool

        pool = DecoderPool(self.alphabet, self.decoder.lm or None, self.decoder.beam)
        return functools.partial(recordings.beam_search, pool=pool, calibration=self.decoder.calibration)


def _waveform(recording: np.ndarray | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields checked float32 blocks [N] of a waveform or of its blocks."""
    for block in [recording] if hasattr(recording, "shape") else recording:
        block_N = incoming.floats(block, "the waveform")
        if not np.isfinite(block_N).all():
            raise UserError("the waveform holds values that are not finite; the recording is damaged")
        yield block_N


def load(name_or_path: str | Path, checkpoint: str = "best", *, lm: str | Path = "") -> Recognizer:
    """Loads an included network by name (`english`), a run folder, or a `.safetensors` file.

    Parameters are float32 NumPy arrays. `checkpoint` of a run folder is `best`, `last` or a step. `lm` is the folder of
    a language model to use instead of the run's, or `none` for greedy decoding. Raises UserError for an unknown name,
    for damaged, foreign or incomplete files, and for weights that were changed since they were saved.
    """
    path = Path(name_or_path)
    if Run.exists(path):
        return _of_run(Run.open(path), checkpoint, str(lm))
    if path.is_dir():
        raise UserError(f"{path}: no trained network in this folder (a run folder holds run.json and checkpoints)")
    if path.is_file():
        return _of_file(path, str(lm))
    if str(name_or_path) in INCLUDED:
        return _of_file(INCLUDED[str(name_or_path)], str(lm))
    raise UserError(f"{name_or_path}: no such file, run folder or included network; included: {', '.join(INCLUDED)}")


def _of_run(run: Run, checkpoint: str, lm: str) -> Recognizer:
    card = run.folder / "README.md"
    return Recognizer(
        run.restore_params(checkpoint),
        run.alphabet,
        run.model,
        run.features,
        decoder_config.without_building(run, lm),
        run.data["language"],
        run.step_of(checkpoint),
        card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "",
    )


def _of_file(path: Path, lm: str) -> Recognizer:
    params, about, card = network_file.read(path)
    if path in INCLUDED.values():
        card = path.with_suffix(".md").read_text(encoding="utf-8")
    try:
        stored = Recognizer(
            params,
            Alphabet.from_json(json.dumps(about["alphabet"])),
            config.from_table(ModelConfig, about["model"], "model"),
            config.from_table(FeatureConfig, about["features"], "features"),
            config.from_table(DecoderConfig, about["decoder"], "decoder"),
            str(about["language"]),
            int(about["step"]),
            card,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: its metadata are damaged or do not fit ({error}); save it again") from None
    return dataclasses.replace(stored, decoder=decoder_config.of_file(stored.decoder, lm))
