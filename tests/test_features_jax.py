"""Features in JAX against those of the host, singly and padded together."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.test_features import noise
from w2l_jax import features
from w2l_jax.features import FeatureConfig
from w2l_jax.features_jax import spectrograms

LENGTHS = [0, 1, 127, 128, 129, 5000, 16000]


def padded(waveforms, samples):
    """One batch, with loud garbage beyond each waveform's end."""
    batch = np.random.default_rng(9).uniform(-1, 1, (len(waveforms), samples)).astype(np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return batch, np.array([len(waveform) for waveform in waveforms])


@pytest.mark.parametrize("samples", [16000, 16255])
@pytest.mark.parametrize("config", [FeatureConfig(), FeatureConfig(mels=40, order="db_of_mel")], ids=str)
def test_a_padded_batch_equals_single_recordings_on_the_host(config, samples):
    waveforms = [noise(length, seed) for seed, length in enumerate(LENGTHS)]
    ours_BxTxM, frames_B = spectrograms(*padded(waveforms, samples), config)
    assert ours_BxTxM.shape == (len(LENGTHS), features.frame_count(samples), config.mels)
    assert ours_BxTxM.dtype == jnp.float32
    for ours_TxM, frames, waveform in zip(np.asarray(ours_BxTxM), frames_B, waveforms, strict=True):
        expected_TxM = features.spectrogram(waveform, config)
        assert frames == len(expected_TxM)
        np.testing.assert_allclose(ours_TxM[:frames], expected_TxM, atol=2e-4)
        assert not ours_TxM[frames:].any()


def test_silence_and_constant_features():
    silence = np.zeros((1, 3000), np.float32)
    for config in (FeatureConfig(), FeatureConfig(mels=1)):  # one filter turns silence into a constant
        ours_BxTxM, _ = spectrograms(silence, np.array([3000]), config)
        np.testing.assert_allclose(ours_BxTxM[0], features.spectrogram(silence[0], config), atol=2e-4)


def test_fft_rounding_affects_few_cells():
    """A tone 50 dB above all else: the worst case for float32 that is still a recording."""
    t = np.arange(32000) / 16000
    rest = 1e-3 * np.random.default_rng(0).standard_normal(len(t))
    waveform = (0.3 * np.sin(2 * np.pi * 440 * t) + rest).astype(np.float32)
    ours_BxTxM, _ = spectrograms(waveform[None], np.array([len(t)]))
    apart = np.abs(np.asarray(ours_BxTxM[0]) - features.spectrogram(waveform))
    assert np.mean(apart > 2e-4) < 2e-3 and apart.max() < 5e-3
