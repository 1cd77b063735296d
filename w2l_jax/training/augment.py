"""Random changes of training features: SpecAugment in the step, speed perturbation on the host."""

import jax
import jax.numpy as jnp
import numpy as np

from w2l_jax.training.options import AugmentOptions


def spec_augment(rng: jax.Array, features_BxTxM: jax.Array, frames_B: jax.Array, options: AugmentOptions) -> jax.Array:
    """Sets random bands of channels and stretches of frames to 0, each utterance's mean (Park et al. 2019).

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
    return jnp.floor(jax.random.uniform(rng, high_B.shape) * (high_B + 1))


def _band(size: int, start_B: jax.Array, width_B: jax.Array) -> jax.Array:
    index = jnp.arange(size)
    return (index >= start_B[:, None]) & (index < (start_B + width_B)[:, None])


def _hz_to_mel(hz: np.ndarray) -> np.ndarray:
    """Slaney's scale, which the filters use: linear to 1 kHz, logarithmic above."""
    return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1000) / 1000) * 27 / np.log(6.4))


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def change_speed(features_TxM: np.ndarray, factor: float) -> np.ndarray:
    """The features of the utterance played `factor` times as fast, [round(T / factor), M], float16.

    As with a tape, time is divided and every frequency multiplied by `factor`: both axes of the spectrogram are
    resampled linearly (bands that would come from above 8 kHz repeat the highest).
    """
    frames, mels = features_TxM.shape
    rows = np.arange(changed_frames(frames, factor)) * factor
    # Centres of the filters lie evenly on the mel scale between 0 and 8 kHz.
    edge = float(_hz_to_mel(np.array(8000.0)))
    centres = _mel_to_hz(np.arange(1, mels + 1) * edge / (mels + 1))
    columns = _hz_to_mel(centres / factor) * (mels + 1) / edge - 1
    return _interpolate(_interpolate(features_TxM.astype(np.float32), rows, 0), columns, 1).astype(np.float16)


def changed_frames(frames: int, factor: float) -> int:
    """The number of frames that `change_speed` makes of `frames`."""
    return max(round(frames / factor), 1)


def _interpolate(values: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    last = values.shape[axis] - 1
    positions = np.clip(positions, 0, last)
    low = np.floor(positions).astype(int)
    weight = (positions - low).astype(np.float32)
    weight = weight[:, None] if axis == 0 else weight
    high = np.minimum(low + 1, last)
    return values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight


def speed_factor(options: AugmentOptions, seed: int, step: int, index: int) -> float:
    """The speed of utterance `index` in the batch of `step`: uniform in 1 ± `speed`, a function of its arguments."""
    return 1.0 + options.speed * float(np.random.default_rng((seed, 2, step, index)).uniform(-1, 1))
