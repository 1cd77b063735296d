"""One utterance: spoken, placed in a room, written. Runs in worker processes."""

import pathlib

import numpy as np

from w2l_jax.corpora.demo.plan import Utterance
from w2l_jax.corpora.demo.room import SAMPLE_RATE, place_in_room
from w2l_jax.corpora.demo.speak import speak


def record(task: tuple[Utterance, pathlib.Path]) -> tuple[str, float]:
    """Speaks an utterance into a FLAC file, which is complete whenever it exists; returns its stem and seconds."""
    import soundfile

    utterance, path = task
    speech, rate = speak(utterance.text, utterance.speaker.voice)
    sound = place_in_room(speech, rate, np.random.default_rng(utterance.seed))
    temporary = path.with_suffix(".part")
    soundfile.write(temporary, sound, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    temporary.replace(path)
    return utterance.stem, len(sound) / SAMPLE_RATE


def duration(path: pathlib.Path) -> float | None:
    """Returns the seconds of an audio file, or None if it is missing or unreadable."""
    import soundfile

    if not path.exists():
        return None
    try:
        return soundfile.info(path).duration or None
    except soundfile.LibsndfileError:
        return None
