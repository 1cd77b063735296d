"""Any audio file to 16 kHz mono float32.

Host side only. Readers and soxr are imported on use: training on prepared data needs neither.
"""

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from w2l_jax import audio_headers, audio_readers
from w2l_jax.audio_headers import Link
from w2l_jax.audio_readers import Pyav, Reader
from w2l_jax.errors import UserError

SAMPLE_RATE = 16_000
_RATES = range(1000, 2**20)
_BLOCK = 2**20
_OPPOSITE = 1e-3  # of the louder channel's power in the mean: 30 dB
_ROUNDING = 0.1  # seconds by which a piece may exceed its file, since segment lists are rounded
_CUT = "truncated: its header declares more audio than it holds"

Truncated = Literal["error", "read"]
"""What to do with a truncated or damaged file: raise AudioError, or read what is intact with an AudioWarning."""


class AudioError(UserError):
    """A recording that cannot be used; `reason` is the short name it is counted under."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


class AudioWarning(UserWarning):
    """A problem with a recording that is used all the same."""


def load(path: str | Path, start: float = 0.0, end: float | None = None, truncated: Truncated = "error") -> np.ndarray:
    """Reads a recording as mono float32 [N] at 16 kHz, in −1…1 for integer formats.

    Channels are averaged, other rates resampled (soxr, high quality). A rate below 16 kHz works, with a warning: the
    bands above half of it stay empty. `start` and `end` (exclusive; None: the file's) are seconds, rounded to samples:
    exactly these are read, without decoding from the beginning. Raises AudioError for a missing, unreadable, empty or
    (unless `truncated` is `read`) truncated file, for a piece outside it, and for samples that are not finite.
    """
    return np.concatenate(list(blocks(path, start, end, truncated)))


def blocks(
    path: str | Path, start: float = 0.0, end: float | None = None, truncated: Truncated = "error"
) -> Iterator[np.ndarray]:
    """Yields the waveform of `load` in blocks of about a million samples, so memory does not grow with length.

    Raises AudioError as `load` does; damage deep in a file is reported when its block is reached.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such audio file", "missing audio")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)", "empty audio")
    links = audio_headers.links(path)
    if len(links) == 1:
        yield from _link(path, links[0], start, end, truncated)
        return
    begin = 0.0
    overlaps = False
    for link in links:
        length = math.inf if start == 0.0 and end is None else _seconds(path, link)
        if start < begin + length and (end is None or begin < end):
            overlaps = True
            inner_end = None if end is None or end >= begin + length else end - begin
            yield from _link(path, link, max(0.0, start - begin), inner_end, truncated)
        begin += length
    if not overlaps or (end is not None and end > begin + _ROUNDING):
        raise _no_piece(path, start, end, begin)


def seconds(path: str | Path) -> float:
    """The length of a recording by its header; 0 if unknown or unreadable."""
    try:
        lengths = [_seconds(Path(path), link) for link in audio_headers.links(Path(path))]
    except (AudioError, OSError, ValueError):  # ValueError: a name with a NUL
        return 0.0  # `load` says what is wrong with it
    return sum(lengths) if all(lengths) else 0.0


def _seconds(path: Path, link: Link) -> float:
    with contextlib.closing(_open(path, link)) as reader:
        return (reader.frames or 0) / reader.rate


def _open(path: Path, link: Link) -> Reader:
    try:
        reader = audio_readers.open_link(path, link)
        if reader.rate not in _RATES:  # a second at 1 Hz would grow sixteen-thousandfold
            reader.close()
            raise RuntimeError(f"its header says {reader.rate} Hz")
        return reader
    except RuntimeError as error:
        message = f"{path}: not readable as audio ({error}){audio_headers.nist_advice(path)}"
        raise AudioError(message, "unreadable audio") from None


def _link(path: Path, link: Link, start: float, end: float | None, truncated: Truncated) -> Iterator[np.ndarray]:
    """Yields the blocks of one of the links of a file."""
    with contextlib.closing(_open(path, link)) as reader:
        first, stop = _span(path, reader, start, end)
        if reader.rate < SAMPLE_RATE:
            _warn(f"{path}: recorded at {reader.rate} Hz, so it has nothing above {reader.rate // 2} Hz")
        samples = _samples(path, link, reader, first, stop, truncated)
        yield from resampled(_mono(path, samples), reader.rate)


def _span(path: Path, reader: Reader, start: float, end: float | None) -> tuple[int, int | None]:
    """The samples of a piece (None: to the end); an end up to 0.1 s beyond the file is cut off."""
    rate, frames = reader.rate, reader.frames
    if start == 0.0 and end is None:
        return 0, None if reader.slack else frames
    first, stop = round(start * rate), None if end is None else round(end * rate)
    held = math.inf if frames is None else frames + reader.slack
    if not 0 <= first < held or (stop is not None and not first < stop <= held + _ROUNDING * rate):
        raise _no_piece(path, start, end, (frames or 0) / rate)
    if reader.slack:
        return first, stop
    return first, frames if stop is None else min(stop, frames)


def _no_piece(path: Path, start: float, end: float | None, length: float) -> AudioError:
    stop = "its end" if end is None else f"{end:g} s"
    return AudioError(
        f"{path}: has no piece from {start:g} s to {stop}" + (f", it lasts {length:.3f} s" if length else ""),
        "outside the recording",
    )


def _mono(path: Path, samples: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields blocks [N, C] mixed to one channel."""
    told = False
    for samples_NxC in samples:
        waveform_N, is_opposite = _mixed(samples_NxC)
        if not np.isfinite(waveform_N).all():
            raise AudioError(f"{path}: holds samples that are NaN or infinite", "non-finite audio")
        if is_opposite and not told:
            _warn(f"{path}: its channels cancel each other (opposite phase); only the louder one is used")
            told = True
        yield waveform_N


def _mixed(samples_NxC: np.ndarray) -> tuple[np.ndarray, bool]:
    """The mean of the channels; or, with True, the louder one if the mean is 30 dB below it.

    Not their difference: one channel has its recorded level, however many there are. Among channels within 3 dB the
    first is taken, so that all blocks make the same choice.
    """
    waveform_N = samples_NxC.mean(axis=1, dtype=np.float32)
    if samples_NxC.shape[1] > 1:
        power_C = np.square(samples_NxC).mean(axis=0, dtype=np.float64)
        if np.square(waveform_N).mean(dtype=np.float64) < _OPPOSITE * power_C.max():
            return samples_NxC[:, np.argmax(power_C >= power_C.max() / 2)], True
    return waveform_N, False


def _samples(
    path: Path, link: Link, reader: Reader, first: int, stop: int | None, truncated: Truncated
) -> Iterator[np.ndarray]:
    """Yields samples `first` to `stop` (None: to the end) of an open link as [N, C]."""
    position, damage = first, _CUT if audio_headers.is_cut(path, link) else ""
    if not damage or truncated == "read":
        try:
            for samples_NxC in _between(reader, first, stop):
                position += len(samples_NxC)
                yield samples_NxC
        except RuntimeError as error:
            damage = f"truncated or damaged ({error})"
        missing = (stop or reader.frames or 0) - position
        if missing > reader.slack + (stop is not None and reader.slack and _ROUNDING * reader.rate):
            if reader.frames is None:
                raise _no_piece(path, first / reader.rate, stop and stop / reader.rate, position / reader.rate)
            damage = damage or _CUT
    if damage and truncated == "error":
        raise AudioError(f"{path}: {damage}", "truncated audio")
    if damage:
        with contextlib.suppress(RuntimeError), contextlib.closing(Pyav(path, link, lenient=True)) as other:
            for samples_NxC in _between(other, position, stop):  # ffmpeg decodes the intact parts around the damage
                position += len(samples_NxC)
                yield samples_NxC
        _warn(f"{path}: {damage}; read up to {position / reader.rate:.1f} s")
    if position == first:
        if first:
            raise _no_piece(path, first / reader.rate, stop and stop / reader.rate, position / reader.rate)
        raise AudioError(f"{path}: " + (damage or "holds no samples"), "truncated audio" if damage else "empty audio")


def _between(reader: Reader, first: int, stop: int | None) -> Iterator[np.ndarray]:
    reader.seek(first)
    while len(samples_NxC := reader.read(_BLOCK if stop is None else min(_BLOCK, stop - first))):
        first += len(samples_NxC)
        yield samples_NxC


def _warn(message: str) -> None:
    warnings.warn(message, AudioWarning, stacklevel=2)


def resampled(waveform: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Resamples a waveform from `rate` Hz to 16 kHz: bit-identical to soxr on the whole, with librosa's length."""
    if rate == SAMPLE_RATE:
        yield from waveform
        return
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, num_channels=1, dtype="float32", quality="HQ")
    taken = produced = 0
    for block_N in waveform:
        yield (resampled_N := stream.resample_chunk(block_N))
        taken += len(block_N)
        produced += len(resampled_N)
    rest_N = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    missing = math.ceil(taken * (SAMPLE_RATE / rate)) - produced
    yield np.pad(rest_N, (0, max(0, missing - len(rest_N))))[:missing]
