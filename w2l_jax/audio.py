"""Any audio file to 16 kHz mono float32.

Host side only. soundfile and soxr are imported where they are used: training on prepared data needs neither.
"""

import math
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from w2l_jax.errors import UserError

SAMPLE_RATE = 16_000
_UNKNOWN = 2**60  # libsndfile's length of a stream without one is larger
_SEEKABLE = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")  # FLAC's subtypes are PCM too
_BLOCK = 2**20


class AudioError(UserError):
    """A recording that cannot be used; `reason` is the short name under which it is counted."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


def load(path: str | Path, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """Reads a recording as mono float32 [N] at 16 kHz, in −1…1 for integer formats.

    Channels are averaged, other rates resampled (soxr, high quality). A rate below 16 kHz works, with a warning:
    the bands above half of it stay empty. `start` and `end` (exclusive; None: the file's) are seconds, rounded to
    the file's samples: exactly these are read. Raises AudioError for a missing, unreadable, truncated or empty file,
    for a piece that is not in it, and for samples that are not finite.
    """
    return np.concatenate(list(blocks(path, start, end)))


def blocks(path: str | Path, start: float = 0.0, end: float | None = None) -> Iterator[np.ndarray]:
    """Yields what `load` returns in blocks of about a million samples of the file, so that hours need no more memory.

    Raises AudioError as `load` does; damage deep in a file shows when its block is reached.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such audio file", "missing audio")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)", "empty audio")
    with _open(path) as file:
        rate = file.samplerate
        if file.frames > _UNKNOWN:
            raise AudioError(f"{path}: does not say how long it is; convert it to a new file", "unreadable audio")
        first, stop = _span(path, start, end, file.frames, rate)
        if rate < SAMPLE_RATE:
            warnings.warn(f"{path}: recorded at {rate} Hz, so nothing above {rate // 2} Hz can be heard", stacklevel=3)
        yield from resampled(_mono(path, file, first, stop), rate)


def _open(path: Path) -> Any:
    """A soundfile.SoundFile of what libsndfile reads, or else what the operating system decodes."""
    import soundfile

    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        if decoded := _decoded(path):
            return decoded
        reason = str(error).removeprefix(f"Error opening {str(path)!r}: ")
        raise AudioError(f"{path}: not readable as audio ({reason}){_nist_advice(path)}", "unreadable audio") from None


def _decoded(path: Path) -> Any:
    """The same of a temporary file, written by a decoder that audioread finds (Core Audio, GStreamer, MAD), or None."""
    import audioread
    import soundfile

    # The first reads less than libsndfile. ffmpeg hides damage, and would make a dataset depend on the machine.
    others = ("RawAudioFile", "FFmpegAudioFile")
    backends = [backend for backend in audioread.available_backends() if backend.__name__ not in others]
    try:
        with audioread.audio_open(str(path), backends) as source:
            file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the SoundFile that is returned)
            shape = {"samplerate": source.samplerate, "channels": source.channels, "subtype": "PCM_16"}
            with soundfile.SoundFile(file, "w", format="W64", **shape) as copy:
                for samples in source:
                    copy.buffer_write(samples, dtype="int16")
    except (audioread.DecodeError, OSError):
        return None
    file.seek(0)
    return soundfile.SoundFile(file)


def _span(path: Path, start: float, end: float | None, frames: int, rate: int) -> tuple[int, int]:
    """The samples of a piece; an end up to 0.1 s behind the file's is the file's, as lists of segments round."""
    if start == 0.0 and end is None:
        return 0, frames
    first, stop = round(start * rate), frames if end is None else round(end * rate)
    if not 0 <= first < stop <= frames + rate // 10 or first >= frames:
        raise AudioError(
            f"{path}: has no piece from {start:g} s to {'its end' if end is None else f'{end:g} s'}, it lasts "
            f"{frames / rate:.3f} s",
            "outside the recording",
        )
    return first, min(stop, frames)


def _go_to(file: Any, first: int) -> None:
    """Moves to sample `first`; what lossy codecs decode depends on what went before, so they are read up to it."""
    if file.subtype.startswith(_SEEKABLE):
        file.seek(first)
        return
    while first > 0:
        first -= len(file.read(min(first, _BLOCK), dtype="float32", always_2d=True)) or first


def _mono(path: Path, file: Any, first: int, stop: int) -> Iterator[np.ndarray]:
    """Yields samples `first` to `stop` of an open file, its channels averaged."""
    cut = AudioError(f"{path}: truncated, its header promises more audio than it holds", "truncated audio")
    if _wav_is_cut(path) or _nist_is_cut(path):
        raise cut
    if first == stop:
        raise AudioError(f"{path}: holds no samples", "empty audio")
    _read(path, _go_to, file, first)
    while first < stop:
        samples_NxC = _read(path, file.read, min(_BLOCK, stop - first), dtype="float32", always_2d=True)
        if not len(samples_NxC):
            raise cut
        first += len(samples_NxC)
        waveform_N = samples_NxC.mean(axis=1, dtype=np.float32)
        if not np.isfinite(waveform_N).all():
            raise AudioError(f"{path}: holds samples that are NaN or infinite", "non-finite audio")
        yield waveform_N


def _read(path: Path, how: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    import soundfile

    try:
        return how(*arguments, **options)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{path}: truncated or damaged ({error})", "truncated audio") from None


def _wav_is_cut(path: Path) -> bool:
    """libsndfile quietly shortens a WAV whose data chunk is cut off; its header still tells."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
            return False
        size = path.stat().st_size
        while len(chunk := file.read(8)) == 8:
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                # 0xFFFFFFFF and 0 are what streaming writers leave when they cannot seek back.
                return length not in (0, 0xFFFFFFFF, 0x7FFFFFFF) and file.tell() + length > size
            file.seek(length + length % 2, 1)
    return False


def _nist_is_cut(path: Path) -> bool:
    """libsndfile takes the length of a NIST sphere file from its size; only the header tells how long it was."""
    header = _nist_header(path)
    try:
        size, *factors = (int(header[name]) for name in ("size", "sample_count", "channel_count", "sample_n_bytes"))
    except (KeyError, ValueError):
        return False
    return size + math.prod(factors) > path.stat().st_size


def _nist_advice(path: Path) -> str:
    header = _nist_header(path)
    if not header:
        return ""
    what = "it is compressed with shorten" if "shorten" in header.get("sample_coding", "") else "its header is wrong"
    return f"; a NIST sphere file, and {what}: convert it, e.g. `sph2pipe -f wav in.nis out.wav`, or fetch it again"


def _nist_header(path: Path) -> dict[str, str]:
    """The fields of a NIST sphere file's header, and its `size` in bytes; {} for any other file."""
    with path.open("rb") as file:
        head = file.read(4096).partition(b"end_head")[0].decode("latin-1").splitlines()
    if not head or head[0] != "NIST_1A":
        return {}
    fields = [line.split(None, 2) for line in head[2:]]  # name, type, value
    return {"size": "".join(head[1:2]).strip(), **{field[0]: field[2].strip() for field in fields if len(field) == 3}}


def resampled(waveform: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Yields a waveform of `rate` Hz at 16 kHz: to the bit what soxr gives for all of it, as long as librosa has it."""
    if rate == SAMPLE_RATE:
        yield from waveform
        return
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, num_channels=1, dtype="float32", quality="HQ")
    taken = given = 0
    for block_N in waveform:
        yield (resampled_N := stream.resample_chunk(block_N))
        taken += len(block_N)
        given += len(resampled_N)
    rest_N = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    wanted = math.ceil(taken * (SAMPLE_RATE / rate)) - given
    yield np.pad(rest_N, (0, max(0, wanted - len(rest_N))))[:wanted]
