"""Simulates a mild room: pauses, reverberation, noise and random loudness."""

import numpy as np

SAMPLE_RATE = 16_000


def place_in_room(speech: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Returns `speech` (float32 [samples] at `rate` Hz) as 16 kHz int16 with room, noise and gain drawn from `rng`.

    One utterance in five gets reverberation (0.1 to 0.3 s); all get noise of random colour at 20 to 45 dB below the
    speech; the peak is 1 to 15 dB below full scale.
    """
    import soxr

    speech = soxr.resample(_trim(speech), rate, SAMPLE_RATE).astype(np.float32)
    before, after = rng.integers(SAMPLE_RATE // 20, SAMPLE_RATE // 5, 2)
    sound = np.pad(speech, (before, after))
    if rng.random() < 0.2:
        sound = _reverberate(sound, rng)
    noise = _noise(len(sound), tilt=rng.uniform(0, 2), rng=rng)
    noise *= _rms(speech) / _rms(noise) * 10 ** (-rng.uniform(20, 45) / 20)
    sound = sound + noise
    peak = 32767 * 10 ** (-rng.uniform(1, 15) / 20)
    return np.round(sound * (peak / np.abs(sound).max())).astype(np.int16)


def _trim(speech: np.ndarray) -> np.ndarray:
    # espeak-ng ends every sentence with a third of a second of silence.
    loud = np.flatnonzero(np.abs(speech) > 0.003 * np.abs(speech).max())
    return speech[loud[0] : loud[-1] + 1]


def _reverberate(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    seconds = rng.uniform(0.1, 0.3)
    time = np.arange(1, int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    tail *= 10 ** (-rng.uniform(5, 15) / 20) / np.sqrt(np.sum(tail**2))
    response = np.concatenate([[1], tail])
    size = _power_of_two(len(sound) + len(response))
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size))[: len(sound)]


def _noise(length: int, tilt: float, rng: np.random.Generator) -> np.ndarray:
    """White (tilt 0) to brown (tilt 2) noise: power falls with frequency to the power of `tilt`."""
    size = _power_of_two(length)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    # Flat below 50 Hz, where there is no speech and brown noise would have all its energy.
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 50)
    return np.fft.irfft(spectrum * frequency ** (-tilt / 2))[:length]


def _rms(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


def _power_of_two(length: int) -> int:
    return 1 << (length - 1).bit_length()
