"""Features against a librosa computation written out step by step."""

import warnings

import librosa
import numpy as np
import pytest
import soundfile

from w2l_jax import audio, features
from w2l_jax.features import FeatureConfig


def written_out(waveform_N, order="mel_of_db"):
    stft = librosa.stft(waveform_N.astype(np.float64), n_fft=512, hop_length=128, window="hann", center=True)
    power = np.abs(stft) ** 2
    mel = librosa.filters.mel(
        sr=16000, n_fft=512, n_mels=128, fmin=0, fmax=8000, htk=False, norm="slaney", dtype=np.float64
    )
    if order == "mel_of_db":
        values = mel @ np.maximum(10 * np.log10(np.maximum(power, 1e-300)), -150)
    else:
        values = np.maximum(10 * np.log10(np.maximum(mel @ power, 1e-300)), -150)
    return ((values - values.mean()) / values.std()).T


def noise(samples, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / 16000
    return (0.3 * np.sin(2 * np.pi * 440 * t) + 0.05 * rng.standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("order", ["mel_of_db", "db_of_mel"])
@pytest.mark.parametrize("samples", [1, 127, 128, 5000, 48000])
def test_equals_librosa(samples, order):
    waveform = noise(samples)
    ours = features.spectrogram(waveform, FeatureConfig(order=order))
    assert ours.shape == (features.frame_count(samples), 128)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa warns about a signal shorter than its window
        np.testing.assert_allclose(ours, written_out(waveform, order), atol=1e-4)


@pytest.mark.parametrize(("rate", "name"), [(44100, "a.wav"), (48000, "a.flac"), (16000, "a.flac")])
def test_stereo_at_other_rates_equals_librosa(tmp_path, rate, name):
    rng = np.random.default_rng(1)
    stereo = 0.1 * rng.standard_normal((rate, 2)).astype(np.float32)
    soundfile.write(tmp_path / name, stereo, rate, subtype="PCM_16")
    reference, _ = librosa.load(tmp_path / name, sr=16000, mono=True)
    np.testing.assert_allclose(features.spectrogram(audio.load(tmp_path / name)), written_out(reference), atol=1e-4)


def test_silence_and_one_sample_are_finite():
    for waveform in (np.zeros(1, np.float32), np.zeros(16000, np.float32), np.ones(1, np.float32)):
        stored = features.compute(waveform)
        assert stored.dtype == np.float16 and np.isfinite(stored).all()
    assert not features.compute(np.zeros(9, np.float32), FeatureConfig(mels=1)).any()


def test_normalised_per_utterance():
    values = features.spectrogram(noise(40000))
    assert abs(values.mean()) < 1e-5 and abs(values.std() - 1) < 1e-5


def test_257_filters_leave_25_empty():
    # The paper's reason for 128 filters (§4.1).
    assert (features.filters_MxF(257).sum(axis=1) == 0).sum() == 25
    assert (features.filters_MxF(128).sum(axis=1) == 0).sum() == 0


def test_a_waveform_in_blocks_gives_the_features_of_the_whole():
    """Also if frames are computed in several slabs that end anywhere in a block."""
    waveform = noise(20000)
    expected = features.spectrogram(waveform)
    for slab in (1, 7, 157, 2**13):
        for cuts in ([], [1, 300, 301, 9999], range(128, 20000, 128)):
            pieces = list(features.levels(np.split(waveform, cuts), slab=slab))
            assert all(1 <= len(piece_TxM) <= slab for piece_TxM in pieces)
            found = features.normalized(np.concatenate(pieces))
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("order", ["mel_of_db", "db_of_mel"])
def test_a_stream_of_up_to_35_seconds_equals_stored_features(order):
    """To the bit; longer streams are normalised in windows of 17 to 35 s, cut at quiet places."""
    config = FeatureConfig(order=order)
    short = noise(35 * 16000)
    (found,) = features.stream(np.array_split(short, 9), config)
    np.testing.assert_array_equal(found, features.compute(short, config))
    loud = np.concatenate([noise(20 * 16000), 1e-4 * noise(16000, 1), 0.1 * noise(30 * 16000, 2)])
    windows = list(features.stream(np.array_split(loud, 9), config))
    assert [len(window_TxM) for window_TxM in windows] == [
        pytest.approx(20.5 * 125, abs=63),
        pytest.approx(3812, abs=63),
    ]
    assert sum(map(len, windows)) == features.frame_count(len(loud))
    for window_TxM in windows:
        values = window_TxM.astype(np.float64)
        assert window_TxM.dtype == np.float16 and abs(values.mean()) < 1e-3 and abs(values.std() - 1) < 1e-3
