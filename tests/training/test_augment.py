import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soxr

from w2l_jax import features
from w2l_jax.errors import UserError
from w2l_jax.training.augment import change_speed, spec_augment, speed_factor
from w2l_jax.training.options import AugmentOptions


def test_spec_augment_masks_bands_within_their_limits():
    options = AugmentOptions(frequency_masks=1, frequency_width=8, time_masks=1, time_width=20)
    frames = jnp.array([100, 40])
    masked = jax.jit(lambda seed: spec_augment(jax.random.key(seed), jnp.ones((2, 100, 32)), frames, options))
    seen_mels, seen_frames = set(), set()
    for seed in range(60):
        out = np.asarray(masked(seed))
        for row, length in enumerate([100, 40]):
            masked_mels = np.flatnonzero((out[row] == 0).all(axis=0))
            masked_frames = np.flatnonzero((out[row] == 0).all(axis=1))
            assert len(masked_mels) <= 8 and len(masked_frames) <= min(20, length // 5)
            assert (np.diff(masked_mels) == 1).all() and (np.diff(masked_frames) == 1).all()
            assert not len(masked_frames) or masked_frames.max() < length
            seen_mels.update(masked_mels.tolist())
            seen_frames.update(masked_frames.tolist())
    assert len(seen_mels) == 32 and len(seen_frames) > 80


def test_off_by_default():
    x = jnp.arange(24.0).reshape(1, 6, 4)
    np.testing.assert_array_equal(spec_augment(jax.random.key(0), x, jnp.array([6]), AugmentOptions()), x)


def chirp(seconds=2.0):
    t = np.arange(int(16000 * seconds)) / 16000
    sweep = 0.3 * np.sin(2 * np.pi * (300 * t + 400 * t**2)) * (1 + 0.8 * np.sin(2 * np.pi * 3 * t))
    return (sweep + 0.003 * np.random.default_rng(0).standard_normal(len(t))).astype(np.float32)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_is_that_of_a_tape(factor):
    """Compared with resampling the audio itself: much closer to it than the unchanged features are."""
    audio = chirp()
    truth = features.spectrogram(soxr.resample(audio, 16000 * factor, 16000))
    ours = change_speed(features.compute(audio), factor).astype(np.float32)
    assert abs(len(ours) - len(truth)) <= 1 and ours.dtype == np.float32
    n, low = min(len(ours), len(truth)), slice(4, 100)  # above, a band comes from beyond what was recorded
    unchanged = features.spectrogram(audio)[:n, low]
    error = np.square(ours[:n, low] - truth[:n, low]).mean()
    baseline = np.square(unchanged - truth[: len(unchanged), low]).mean()
    assert error < 0.25 * baseline
    assert np.corrcoef(ours[:n, low].ravel(), truth[:n, low].ravel())[0, 1] > 0.9


def test_unchanged_speed_changes_nothing():
    stored = features.compute(chirp(0.3))
    np.testing.assert_array_equal(change_speed(stored, 1.0), stored)


def test_speed_factors_spread_over_their_range_and_repeat():
    options = AugmentOptions(speed=0.1)
    factors = [speed_factor(options, 0, step, index) for step in range(20) for index in range(20)]
    assert 0.9 <= min(factors) < 0.91 and 1.09 < max(factors) <= 1.1
    assert factors[7] == speed_factor(options, 0, 0, 7)


def test_speed_that_makes_no_sense():
    with pytest.raises(UserError, match=r"augment\.speed"):
        AugmentOptions(speed=0.7)
