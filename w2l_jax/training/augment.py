"""Random changes of training features, on the device: speed, rooms, noise, microphones and masks."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from w2l_jax.dataset.batches import Batch
from w2l_jax.features import FRAME_SECONDS
from w2l_jax.training.options import AugmentOptions

DECIBELS = 18.0
"""Approximate dB per unit of normalised features: levels of recorded speech vary by 14 to 24 dB (one σ)."""
_KNOTS = 6  # of a microphone's curve


def in_step(rng: jax.Array, batch: Batch, options: AugmentOptions) -> jax.Array:
    """The features [B, T, M] of a batch, augmented: speeds, then rooms, noise and microphones, then masks."""
    features_BxTxM, frames_B = batch.features_BxTxM, batch.frames_B
    if batch.speed_B is not None:
        features_BxTxM = change_speed(features_BxTxM, batch.recorded_B, frames_B, batch.speed_B)
    features_BxTxM = simulate_room(jax.random.fold_in(rng, 2000), features_BxTxM, frames_B, options)
    return spec_augment(rng, features_BxTxM, frames_B, options)


def simulate_room(rng: jax.Array, features_BxTxM: jax.Array, frames_B: jax.Array, options: AugmentOptions) -> jax.Array:
    """The features [B, T, M] as if recorded in another room, in noise, and by another microphone, normalised again.

    Computed on power, at `DECIBELS` per unit of the features; float32, and 0 beyond `frames_B`. Utterances that draw no
    change stay bit-identical.
    """
    if not (options.room or options.noise or options.microphone):
        return features_BxTxM
    rows, frames, mels = features_BxTxM.shape
    rngs = iter(jax.random.split(rng, 8))

    def uniform(low: float, high: float) -> jax.Array:
        return jax.random.uniform(next(rngs), (rows,), jnp.float32, low, high)

    valid_BxTx1 = (jnp.arange(frames) < frames_B[:, None])[:, :, None]
    power_BxTxM = _power_of_ten(features_BxTxM.astype(jnp.float32) * (DECIBELS / 10)) * valid_BxTx1
    changed_B = jnp.full(rows, options.microphone > 0)
    if options.room:
        roomy_B = uniform(0, 1) < options.room
        echoing_BxTxM = reverberate(power_BxTxM, seconds_B=uniform(0.2, 0.8), ratio_B=uniform(0, 15))
        power_BxTxM = jnp.where(_rows(roomy_B), echoing_BxTxM, power_BxTxM)
        changed_B |= roomy_B
    if options.noise:
        noisy_B = uniform(0, 1) < options.noise
        noise_BxTxM = noise(next(rngs), power_BxTxM, frames_B, tilt_B=uniform(0, 2), ratio_B=uniform(5, 35))
        power_BxTxM += _rows(noisy_B) * noise_BxTxM
        changed_B |= noisy_B
    levels_BxTxM = jnp.log10(jnp.maximum(power_BxTxM, 1e-30)) * (10 / DECIBELS)
    if options.microphone:
        levels_BxTxM += _curves(next(rngs), rows, mels)[:, None] * (options.microphone / DECIBELS)
    return jnp.where(_rows(changed_B), _normalized(levels_BxTxM, valid_BxTx1), features_BxTxM)


_BLOCK = 32


def reverberate(power_BxTxM: jax.Array, seconds_B: jax.Array, ratio_B: jax.Array) -> jax.Array:
    """Power [B, T, M] plus its echo, which decays by 60 dB in `seconds_B` and has an energy `ratio_B` dB lower.

    Every frame keeps the same share of the echo before it. Computed in K blocks of N frames as matrix products of these
    shares, within blocks and from the ends of blocks to later ones, since a loop over frames is slow on a GPU.
    """
    rows, frames, mels = power_BxTxM.shape
    product = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    keep_B = 10 ** (-6 * FRAME_SECONDS / seconds_B)
    blocks = -(-frames // _BLOCK)
    padded_BxTxM = jnp.pad(power_BxTxM, ((0, 0), (0, blocks * _BLOCK - frames), (0, 0)))
    power_BxKxNxM = padded_BxTxM.reshape(rows, blocks, _BLOCK, mels)
    kept_BxN = keep_B[:, None] ** jnp.arange(_BLOCK)
    ends_BxKxM = product("bn,bknm->bkm", kept_BxN[:, ::-1], power_BxKxNxM)
    begins_BxKxM = product("bkj,bjm->bkm", _decay(keep_B**_BLOCK, blocks), ends_BxKxM)
    within_BxKxNxM = product("bnj,bkjm->bknm", _decay(keep_B, _BLOCK), power_BxKxNxM)
    echo_BxKxNxM = within_BxKxNxM + kept_BxN[:, None, :, None] * begins_BxKxM[:, :, None]
    level_B = (1 - keep_B) * 10 ** (-ratio_B / 10)
    return power_BxTxM + _rows(level_B) * echo_BxKxNxM.reshape(rows, -1, mels)[:, :frames]


def _decay(keep_B: jax.Array, size: int) -> jax.Array:
    """The share of each frame kept in later ones [B, size, size]: 1 in the next, then decaying; 0 in earlier ones."""
    steps = jnp.arange(size)[:, None] - jnp.arange(size) - 1
    return jnp.where(steps >= 0, _rows(keep_B) ** jnp.maximum(steps, 0), 0)


def noise(
    rng: jax.Array, power_BxTxM: jax.Array, frames_B: jax.Array, tilt_B: jax.Array, ratio_B: jax.Array
) -> jax.Array:
    """The power [B, T, M] of steady noise, `ratio_B` dB below that of the speech.

    It falls with frequency to the power of `tilt_B`: 0 is white and 2 brown. Levels vary by 3 dB (σ), as noise does in
    filters this narrow.
    """
    mels = power_BxTxM.shape[2]
    spectrum_BxM = jnp.asarray(_centres(mels) / 1000, jnp.float32) ** -tilt_B[:, None]
    spectrum_BxM /= spectrum_BxM.mean(axis=1, keepdims=True)
    speech_B = power_BxTxM.sum((1, 2)) / jnp.maximum(frames_B * mels, 1)
    # One random byte per level: random numbers are the largest cost here on a CPU.
    words_BxTxW = jax.random.bits(rng, (*power_BxTxM.shape[:2], -(-mels // 4)))
    bytes_BxTxM = lax.bitcast_convert_type(words_BxTxW, jnp.uint8).reshape(*words_BxTxW.shape[:2], -1)[:, :, :mels]
    ripple_BxTxM = _power_of_ten((bytes_BxTxM - 127.5) * (0.3 * math.sqrt(12) / 256))
    return _rows(speech_B * 10 ** (-ratio_B / 10)) * spectrum_BxM[:, None] * ripple_BxTxM


def _power_of_ten(x: jax.Array) -> jax.Array:
    """10^x; a power takes five times as long on a CPU."""
    return jnp.exp(math.log(10) * x)


def _curves(rng: jax.Array, rows: int, mels: int) -> jax.Array:
    """Random piecewise linear functions [rows, M] over the bands, within ±1."""
    knots_BxK = jax.random.uniform(rng, (rows, _KNOTS), jnp.float32, -1)
    at_M = jnp.linspace(0, _KNOTS - 1, mels, dtype=jnp.float32)
    return jax.vmap(lambda knots_K: jnp.interp(at_M, jnp.arange(_KNOTS), knots_K))(knots_BxK)


def _normalized(features_BxTxM: jax.Array, valid_BxTx1: jax.Array) -> jax.Array:
    """As `features.normalized` does, over the valid frames."""
    count_Bx1x1 = jnp.maximum(valid_BxTx1.sum((1, 2), keepdims=True) * features_BxTxM.shape[2], 1)
    mean_Bx1x1 = (features_BxTxM * valid_BxTx1).sum((1, 2), keepdims=True) / count_Bx1x1
    centred_BxTxM = (features_BxTxM - mean_Bx1x1) * valid_BxTx1
    variance_Bx1x1 = jnp.square(centred_BxTxM).sum((1, 2), keepdims=True) / count_Bx1x1
    return centred_BxTxM / jnp.sqrt(variance_Bx1x1 + 1e-6)


def _rows(values_B: jax.Array) -> jax.Array:
    return values_B[:, None, None]


def spec_augment(rng: jax.Array, features_BxTxM: jax.Array, frames_B: jax.Array, options: AugmentOptions) -> jax.Array:
    """Sets random bands of channels and spans of frames to 0, each utterance's mean (Park et al. 2019).

    Widths are uniform in 0…`frequency_width` channels and 0…min(`time_width`, a fifth of the utterance) frames.
    """
    rows, frames, mels = features_BxTxM.shape
    mask = jnp.zeros((rows, frames, mels), bool)
    for i in range(options.frequency_masks):
        width_rng, start_rng = jax.random.split(jax.random.fold_in(rng, i))
        width_B = _uniform(width_rng, jnp.full(rows, min(options.frequency_width, mels)))
        start_B = _uniform(start_rng, mels - width_B)
        mask |= _band(mels, start_B, width_B)[:, None, :]
    for i in range(options.time_masks):
        width_rng, start_rng = jax.random.split(jax.random.fold_in(rng, 1000 + i))
        width_B = _uniform(width_rng, jnp.minimum(options.time_width, frames_B // 5))
        start_B = _uniform(start_rng, frames_B - width_B)
        mask |= _band(frames, start_B, width_B)[:, :, None]
    return jnp.where(mask, 0, features_BxTxM)


def _uniform(rng: jax.Array, high_B: jax.Array) -> jax.Array:
    """Whole numbers from 0 to `high_B` inclusive."""
    return jnp.floor(jax.random.uniform(rng, high_B.shape, jnp.float32) * (high_B + 1))


def _band(size: int, start_B: jax.Array, width_B: jax.Array) -> jax.Array:
    index = jnp.arange(size)
    return (index >= start_B[:, None]) & (index < (start_B + width_B)[:, None])


# Slaney's mel scale: linear to 1 kHz, logarithmic above.
_MELS_A_HZ, _MELS_A_FACTOR_E = 3 / 200, 27 / math.log(6.4)
_EDGE = 15 + math.log(8) * _MELS_A_FACTOR_E  # 8 kHz


def _centres(mels: int) -> np.ndarray:
    """Centres of the filters [M] in Hz: evenly spaced on the mel scale between 0 and 8 kHz."""
    mel = np.arange(1, mels + 1) * _EDGE / (mels + 1)
    return np.where(mel < 15, mel / _MELS_A_HZ, 1000 * np.exp((mel - 15) / _MELS_A_FACTOR_E))


def change_speed(features_BxTxM: jax.Array, recorded_B: jax.Array, frames_B: jax.Array, speed_B: jax.Array):
    """The features [B, T, M] of utterances of `recorded_B` frames played 1 + `speed_B` times as fast: `frames_B`.

    As with a tape, time is divided and frequency multiplied by the factor: both axes of the spectrogram are resampled
    linearly (bands from above 8 kHz repeat the highest). 0 beyond `frames_B`; computed in float32.
    """
    _, frames, mels = features_BxTxM.shape
    time = jnp.arange(frames)
    # Not time · (1 + speed), whose rounding would move the last frames of a long utterance.
    ahead_BxT = speed_B[:, None] * time
    low_BxT = time + jnp.floor(ahead_BxT).astype(int)
    weight_BxTx1 = (ahead_BxT - jnp.floor(ahead_BxT))[:, :, None]
    before_BxTxM, after_BxTxM = (
        jnp.take_along_axis(features_BxTxM, jnp.clip(at_BxT, 0, recorded_B[:, None] - 1)[:, :, None], axis=1)
        for at_BxT in (low_BxT, low_BxT + 1)
    )
    slower_BxTxM = before_BxTxM * (1 - weight_BxTx1) + after_BxTxM * weight_BxTx1
    hz_M = jnp.asarray(_centres(mels), jnp.float32)
    from_BxM = hz_M / (1 + speed_B[:, None])
    below_BxM = (jnp.minimum(from_BxM, 1000) - jnp.minimum(hz_M, 1000)) * _MELS_A_HZ
    above_BxM = jnp.log(jnp.maximum(from_BxM, 1000) / jnp.maximum(hz_M, 1000)) * _MELS_A_FACTOR_E
    band_BxM = jnp.clip(jnp.arange(mels) + (below_BxM + above_BxM) * ((mels + 1) / _EDGE), 0, mels - 1)
    shares_BxMxM = jnp.maximum(1 - jnp.abs(band_BxM[:, None] - jnp.arange(mels)[:, None]), 0)
    moved_BxTxM = jnp.einsum("btm,bmn->btn", slower_BxTxM, shares_BxMxM, precision=lax.Precision.HIGHEST)
    return jnp.where((time < frames_B[:, None])[:, :, None], moved_BxTxM, 0).astype(features_BxTxM.dtype)


def changed_frames(frames_B: np.ndarray, speed_B: np.ndarray) -> np.ndarray:
    """The number of frames that `change_speed` makes of `frames_B` (NumPy)."""
    return np.maximum(np.rint(frames_B / (1 + speed_B)), 1).astype(np.int32)


def speeds(options: AugmentOptions, seed: int, step: int, rows: int) -> np.ndarray:
    """How much faster than recorded each of the `rows` utterances of the batch of `step` is played [B], float64.

    Uniform in ±`speed`; a function of (seed, step, row).
    """
    return options.speed * np.random.default_rng((seed, 2, step)).uniform(-1, 1, rows)
