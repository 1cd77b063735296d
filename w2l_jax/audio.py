"""Any audio file to 16 kHz mono float32.

Host side only. soundfile and librosa are imported where they are used: training on prepared data needs neither.
"""

import warnings
from pathlib import Path

import numpy as np

from w2l_jax.errors import UserError

SAMPLE_RATE = 16_000
_UNKNOWN = 2**60  # libsndfile's length of a stream without one is larger


class AudioError(UserError):
    """A recording that cannot be used; `reason` is the short name under which it is counted."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


def load(path: str | Path) -> np.ndarray:
    """Reads a recording as mono float32 [N] at 16 kHz, in −1…1 for integer formats.

    Channels are averaged, other rates resampled (soxr, high quality). A rate below 16 kHz works, with a warning:
    the bands above half of it stay empty. Raises AudioError for a missing, unreadable, truncated or empty file and
    for samples that are not finite.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such audio file", "missing audio")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)", "empty audio")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = str(error).removeprefix(f"Error opening {str(path)!r}: ")
        raise AudioError(f"{path}: not readable as audio ({reason})", "unreadable audio") from None
    with file:
        expected, rate = file.frames, file.samplerate
        if expected > _UNKNOWN:
            raise AudioError(f"{path}: does not say how long it is; convert it to a new file", "unreadable audio")
        try:
            samples_NxC = file.read(dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise AudioError(f"{path}: truncated or damaged ({error})", "truncated audio") from None
    return _checked(path, samples_NxC, rate, expected)


def _checked(path: Path, samples_NxC: np.ndarray, rate: int, expected: int) -> np.ndarray:
    if samples_NxC.shape[0] < expected or _wav_is_cut(path):
        raise AudioError(f"{path}: truncated, its header promises more audio than it holds", "truncated audio")
    if samples_NxC.shape[0] == 0:
        raise AudioError(f"{path}: holds no samples", "empty audio")
    waveform_N = samples_NxC.mean(axis=1, dtype=np.float32)
    if not np.isfinite(waveform_N).all():
        raise AudioError(f"{path}: holds samples that are NaN or infinite", "non-finite audio")
    if rate < SAMPLE_RATE:
        warnings.warn(f"{path}: recorded at {rate} Hz, so nothing above {rate // 2} Hz can be heard", stacklevel=3)
    return resample(waveform_N, rate)


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


def resample(waveform_N: np.ndarray, rate: int) -> np.ndarray:
    """Returns `waveform_N` (at `rate` Hz) at 16 kHz, float32."""
    if rate == SAMPLE_RATE:
        return np.ascontiguousarray(waveform_N, np.float32)
    import librosa

    return librosa.resample(waveform_N, orig_sr=rate, target_sr=SAMPLE_RATE, res_type="soxr_hq").astype(np.float32)
