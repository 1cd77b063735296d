import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soxr

from w2l_jax import features
from w2l_jax.errors import UserError
from w2l_jax.training import augment
from w2l_jax.training.augment import changed_frames, spec_augment, speeds
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


def interpolated(values, positions, axis):
    last = values.shape[axis] - 1
    positions = np.clip(positions, 0, last)
    low = np.floor(positions).astype(int)
    weight = np.expand_dims(positions - low, 1 - axis)
    return values.take(low, axis) * (1 - weight) + values.take(np.minimum(low + 1, last), axis) * weight


def mel(hz):
    return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1000) / 1000) * 27 / np.log(6.4))


def played(stored_TxM, factor):
    """Linear interpolation along both axes by its definition, in float64: frames first, then bands."""
    frames, mels = stored_TxM.shape
    band_mel = np.linspace(0, mel(8000.0), mels + 2)[1:-1]
    hz = np.where(band_mel < 15, band_mel * 200 / 3, 1000 * 6.4 ** ((band_mel - 15) / 27))
    bands = mel(hz / factor) * (mels + 1) / mel(8000.0) - 1
    moved = interpolated(stored_TxM.astype(float), np.arange(max(round(frames / factor), 1)) * factor, 0)
    return interpolated(moved, bands, 1)


def change_speed(stored, factors):
    """The utterances `stored` [T, M] at these speeds, as padded batches on the device."""
    frames = np.array(list(map(len, stored)))
    speed = np.array(factors) - 1
    changed = changed_frames(frames, speed)
    batch = np.full((len(stored), max(*frames, *changed) + 3, stored[0].shape[1]), 7, np.float16)
    for row, item in enumerate(stored):
        batch[row, : len(item)] = item  # later values must not be read
    out = jax.jit(augment.change_speed)(batch, frames, changed, speed.astype(np.float32))
    assert out.dtype == np.float16
    assert not any(np.asarray(out)[row, count:].any() for row, count in enumerate(changed))
    return [np.asarray(out)[row, :count] for row, count in enumerate(changed)]


@pytest.mark.parametrize("mels", [16, 128])
def test_speed_is_linear_interpolation(mels):
    """Within one float16 rounding at the size of features, also for the longest recordings and the largest changes."""
    rng = np.random.default_rng(mels)
    lengths, factors = [1, 2, 40, 333, 4375, 4375, 700], [0.9, 1.1, 1.0, 0.93, 0.9, 1.1, 1.49]
    stored = [rng.uniform(-2, 2, (length, mels)).astype(np.float16) for length in lengths]
    for ours, item, factor in zip(change_speed(stored, factors), stored, factors, strict=True):
        expected = played(item, factor)
        assert ours.shape == expected.shape
        np.testing.assert_allclose(ours, expected, atol=2e-3)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_changes_act_like_a_tape(factor):
    """Much closer to features of the resampled audio than the unchanged features are."""
    audio = chirp()
    truth = features.spectrogram(soxr.resample(audio, 16000 * factor, 16000))
    ours = change_speed([features.compute(audio)], [factor])[0].astype(np.float32)
    assert abs(len(ours) - len(truth)) <= 1
    n, low = min(len(ours), len(truth)), slice(4, 100)  # higher bands come from beyond the recorded range
    unchanged = features.spectrogram(audio)[:n, low]
    error = np.square(ours[:n, low] - truth[:n, low]).mean()
    baseline = np.square(unchanged - truth[: len(unchanged), low]).mean()
    assert error < 0.25 * baseline
    assert np.corrcoef(ours[:n, low].ravel(), truth[:n, low].ravel())[0, 1] > 0.9


def test_unchanged_speed_changes_nothing():
    stored = features.compute(chirp(0.3))
    np.testing.assert_array_equal(change_speed([stored], [1.0])[0], stored)


def test_speeds_spread_over_their_range_and_repeat():
    """They are a function of seed and step."""
    options = AugmentOptions(speed=0.1)
    drawn = np.array([speeds(options, 0, step, 20) for step in range(20)])
    assert -0.1 <= drawn.min() < -0.09 and 0.09 < drawn.max() <= 0.1
    assert (speeds(options, 0, 3, 20) == drawn[3]).all() and (speeds(options, 1, 3, 20) != drawn[3]).all()


def test_invalid_speeds():
    with pytest.raises(UserError, match=r"augment\.speed"):
        AugmentOptions(speed=0.7)


def speech(seconds=2.0):
    """Harmonics that come and go by 40 dB, over a little noise."""
    rng, t = np.random.default_rng(1), np.arange(int(16000 * seconds)) / 16000
    voice = sum(np.sin(2 * np.pi * 150 * n * t) / n for n in range(1, 40))
    every = np.arange(0, seconds + 0.1, 0.1)
    loudness = np.interp(t, every, rng.choice([0.001, 0.1], len(every)))
    return (voice * loudness + 1e-4 * rng.standard_normal(len(t))).astype(np.float32)


def power_of(features_TxM):
    return jnp.asarray(10 ** (features_TxM[None].astype(np.float32) * augment.DECIBELS / 10))


def unlikeness(power_1xTxM, truth_TxM, smooth=1):
    """1 minus the correlation with the truth, of means over `smooth` frames each."""
    both = np.log10(power_1xTxM[0]), truth_TxM
    means = [x[: len(x) // smooth * smooth].reshape(-1, smooth, x.shape[1]).mean(axis=1).ravel() for x in both]
    return 1 - np.corrcoef(*means)[0, 1]


@pytest.mark.parametrize(("seconds", "ratio"), [(0.3, 0.0), (0.6, 5.0)])
def test_an_echo_is_that_of_a_room(seconds, ratio):
    """Much closer to features of the audio convolved with decaying noise than the dry features are."""
    audio, t = speech(), np.arange(1, int(seconds * 16000)) / 16000
    tail = np.random.default_rng(0).standard_normal(len(t)) * 10 ** (-3 * t / seconds)
    response = np.concatenate([[1], tail / np.sqrt(np.sum(tail**2)) * 10 ** (-ratio / 20)])
    truth = features.spectrogram(np.convolve(audio, response)[: len(audio)].astype(np.float32))
    dry = power_of(features.spectrogram(audio))
    ours = augment.reverberate(dry, jnp.array([seconds]), jnp.array([ratio]))
    assert unlikeness(ours, truth) < 0.5 * unlikeness(dry, truth)
    # Each band's echo has the requested energy, minus the part after the end.
    pulse = jnp.zeros((1, 500, 3)).at[:, 0].set(2.0)
    echo = augment.reverberate(pulse, jnp.array([seconds]), jnp.array([ratio])) - pulse
    np.testing.assert_allclose(echo.sum(axis=1), 2 * 10 ** (-ratio / 10), rtol=1e-3)
    frames = round(seconds / features.FRAME_SECONDS)
    assert 10 * np.log10(echo[0, 1 + frames, 0] / echo[0, 1, 0]) == pytest.approx(-60, abs=1)


@pytest.mark.parametrize("frames", [1, 31, 32, 33, 500])
def test_an_echo_equals_a_loop_over_frames(frames):
    """To float32's rounding, over the 140 dB that float16 features span, for the smallest and the largest room."""
    rng = np.random.default_rng(frames)
    power = 10 ** rng.uniform(-7, 7, (3, frames, 5))
    seconds, ratio = np.array([0.2, 0.8, 0.01]), np.array([0.0, 15.0, 3.0])
    keep = 10 ** (-6 * features.FRAME_SECONDS / seconds)[:, None]
    level = (1 - keep) / keep * 10 ** (-ratio / 10)[:, None]
    expected, echo = np.zeros_like(power), np.zeros((3, 5))
    for t in range(frames):
        expected[:, t] = power[:, t] + level * echo
        echo = keep * (echo + power[:, t])
    arguments = (jnp.asarray(x, jnp.float32) for x in (power, seconds, ratio))
    np.testing.assert_allclose(augment.reverberate(*arguments), expected, rtol=5e-6)


def test_an_echo_has_no_loop_on_a_gpu():
    traced = jax.jit(augment.reverberate).trace(jnp.zeros((4, 160, 16)), jnp.ones(4), jnp.ones(4))
    lowered = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "dot_general" in lowered and "while" not in lowered


@pytest.mark.parametrize(("tilt", "ratio"), [(0, 20), (1, 20), (2, 20)])
def test_noise_is_that_of_noisy_audio(tilt, ratio):
    audio, rng = speech(), np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.standard_normal(len(audio)))
    added = np.fft.irfft(spectrum * np.maximum(np.fft.rfftfreq(len(audio), 1 / 16000), 50) ** (-tilt / 2), len(audio))
    added *= np.sqrt(np.mean(audio**2) / np.mean(added**2)) * 10 ** (-ratio / 20)
    truth = features.spectrogram((audio + added).astype(np.float32))
    clean = power_of(features.spectrogram(audio))
    count, numbers = jnp.array([clean.shape[1]]), (jnp.array([float(tilt)]), jnp.array([float(ratio)]))
    noisy = clean + augment.noise(jax.random.key(0), clean, count, *numbers)
    # Single frames of two noises differ by chance; their means over 64 ms differ little.
    assert unlikeness(noisy, truth, 8) < 0.4 * unlikeness(clean, truth, 8)


def test_room_simulation_keeps_the_form_of_features():
    rng = np.random.default_rng(0)
    frames = jnp.array([80, 100, 0, 60] * 8)
    valid = np.arange(100) < np.asarray(frames)[:, None]
    x = jnp.asarray((rng.standard_normal((32, 100, 16)) * valid[:, :, None]).astype(np.float16))
    changed = {}
    for name, value in {"room": 0.5, "noise": 0.5, "microphone": 6.0}.items():
        y = np.asarray(augment.simulate_room(jax.random.key(1), x, frames, AugmentOptions(**{name: value})))
        changed[name] = [row for row in range(32) if not np.array_equal(y[row], x[row]) and frames[row]]
        assert np.isfinite(y).all() and not y[~valid].any()
        for row in changed[name]:
            assert y[row][valid[row]].mean() == pytest.approx(0, abs=1e-5)
            assert y[row][valid[row]].std() == pytest.approx(1, abs=1e-4)
    assert len(changed["microphone"]) == 24 and 6 <= len(changed["room"]) <= 18 and 6 <= len(changed["noise"]) <= 18
    # A microphone changes each band by a constant, apart from the common factor of the normalisation.
    y = np.asarray(augment.simulate_room(jax.random.key(1), x, frames, AugmentOptions(microphone=6.0)))[1]
    scale = y.std(axis=0) / np.asarray(x, np.float32)[1].std(axis=0)
    np.testing.assert_allclose(scale, scale[0], rtol=1e-3)
    assert np.ptp(y.mean(axis=0) / scale - np.asarray(x, np.float32)[1].mean(axis=0)) * augment.DECIBELS <= 12.1


def test_padding_does_not_change_a_simulated_room():
    x = np.random.default_rng(0).standard_normal((1, 60, 16)).astype(np.float16)
    options = AugmentOptions(room=1.0, microphone=6.0)
    alone = augment.simulate_room(jax.random.key(0), jnp.asarray(x), jnp.array([60]), options)
    padded = jnp.pad(jnp.asarray(x), ((0, 0), (0, 40), (0, 0)), constant_values=3)
    np.testing.assert_allclose(
        augment.simulate_room(jax.random.key(0), padded, jnp.array([60]), options)[:, :60], alone, atol=1e-5
    )


@pytest.mark.parametrize("wrong", [{"room": 1.5}, {"noise": -0.1}, {"microphone": 99.0}])
def test_invalid_rooms(wrong):
    with pytest.raises(UserError, match=rf"augment\.{next(iter(wrong))}"):
        AugmentOptions(**wrong)
