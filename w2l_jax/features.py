"""Waveform to the paper's features: the power-level spectrum, mel-scaled, normalised per utterance (§4.1).

Host side only, NumPy in and out; librosa does the signal processing and is imported where it is used.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from w2l_jax import pauses
from w2l_jax.audio import SAMPLE_RATE
from w2l_jax.errors import UserError

HOP = 128
WINDOW = 512
FRAME_SECONDS = HOP / SAMPLE_RATE
STRIDE = 2  # of the network's first layer
OUTPUT_SECONDS = STRIDE * FRAME_SECONDS
FLOOR_DB = -150.0
_SLAB = 2**13  # frames that are computed together


@dataclasses.dataclass(frozen=True)
class FeatureConfig:
    """Defines one feature frame; stored with every prepared dataset and every run."""

    mels: int = 128
    """Mel filters (the paper's 128: with 257, 25 of them are empty)."""
    order: str = "mel_of_db"
    """`mel_of_db` filters the decibel values as the paper's program did; `db_of_mel` is the usual convention."""

    def __post_init__(self):
        if self.order not in ("mel_of_db", "db_of_mel"):
            raise UserError(f"features.order is mel_of_db or db_of_mel, not {self.order!r}")
        if not 1 <= self.mels <= 257:
            raise UserError(f"features.mels must be between 1 and 257, not {self.mels}")


def frame_count(samples: int) -> int:
    """The number of feature frames of a recording of `samples` samples at 16 kHz."""
    return 1 + samples // HOP


def output_frames(frames: Any) -> Any:
    """The network's output frames S for T feature frames (an int or an array): one each 16 ms."""
    return (frames + STRIDE - 1) // STRIDE


@functools.lru_cache(maxsize=4)
def filters_MxF(mels: int) -> np.ndarray:
    """Slaney's mel filters over the 257 bins of the power spectrum, float32."""
    import librosa

    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=mels).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _sparse_filters(mels: int) -> Any:
    """The same as a sparse matrix: its products are summed in a fixed order, for any number of BLAS threads."""
    from scipy.sparse import csr_matrix

    return csr_matrix(filters_MxF(mels))


def spectrogram(waveform_N: np.ndarray, config: FeatureConfig = FeatureConfig()) -> np.ndarray:
    """Returns normalised features [T, M] in float32, T = 1 + N // 128, one frame each 8 ms.

    32 ms Hann windows, centred; power in dB with a floor of −150 dB; Slaney mel filters; mean 0 and standard deviation
    1 over the whole utterance. Digital silence gives a fixed, finite pattern, since the filters' sums differ slightly;
    for the same reason loudness shifts `mel_of_db` features a little.
    """
    return normalized(np.concatenate(list(levels([np.asarray(waveform_N, np.float32)], config))))


def levels(
    waveform: Iterable[np.ndarray], config: FeatureConfig = FeatureConfig(), slab: int = _SLAB
) -> Iterator[np.ndarray]:
    """Yields the features [T, M] of a waveform before they are normalised, `slab` frames (65 s) at a time.

    The waveform comes in blocks [N] of any length.
    """
    beyond_N = np.zeros(WINDOW // 2, np.float32)
    rest_N = beyond_N
    for block_N in itertools.chain(waveform, [beyond_N]):
        rest_N = np.concatenate([rest_N, block_N])
        while len(rest_N) >= (slab - 1) * HOP + WINDOW:
            yield _levels(rest_N[: (slab - 1) * HOP + WINDOW], config)
            rest_N = rest_N[slab * HOP :]
    if len(rest_N) >= WINDOW:
        yield _levels(rest_N, config)


def stream(waveform: Iterable[np.ndarray], config: FeatureConfig = FeatureConfig()) -> Iterator[np.ndarray]:
    """Yields the features of a waveform that comes in blocks [N], in constant memory.

    A waveform of more than 35 s is normalised in windows of 17 to 35 s, the length of training utterances, cut at quiet
    places. Blocks may have any length.
    """
    longest = frame_count(round(pauses.LONGEST_SECONDS * SAMPLE_RATE))
    for window_TxM in pauses.cut(levels(waveform, config), longest, _loudness, width=41):
        yield normalized(window_TxM).astype(np.float16)


def _loudness(levels_TxM: np.ndarray) -> np.ndarray:
    return levels_TxM.mean(axis=1)


def _levels(padded_N: np.ndarray, config: FeatureConfig) -> np.ndarray:
    import librosa

    with np.errstate(divide="ignore"):
        stft_FxT = librosa.stft(padded_N, n_fft=WINDOW, hop_length=HOP, center=False)
        power_FxT = np.square(stft_FxT.real) + np.square(stft_FxT.imag)
        if config.order == "mel_of_db":
            levels_MxT = _sparse_filters(config.mels) @ _decibel(power_FxT)
        else:
            levels_MxT = _decibel(_sparse_filters(config.mels) @ power_FxT)
    return np.ascontiguousarray(levels_MxT.T)


def compute(waveform_N: np.ndarray, config: FeatureConfig = FeatureConfig()) -> np.ndarray:
    """Returns `spectrogram` rounded to float16, the one precision in which features are stored and used."""
    return spectrogram(waveform_N, config).astype(np.float16)


def _decibel(power: np.ndarray) -> np.ndarray:
    return np.maximum(10.0 * np.log10(power), np.float32(FLOOR_DB))


def normalized(features_TxM: np.ndarray) -> np.ndarray:
    """Returns features with mean 0 and standard deviation 1 over all of them; zeros if they are nearly constant."""
    mean = features_TxM.mean(dtype=np.float64)
    deviation = features_TxM.std(dtype=np.float64)
    if deviation < 1e-6 * max(1.0, abs(mean)):
        return np.zeros_like(features_TxM)
    return ((features_TxM - mean) / deviation).astype(np.float32)
