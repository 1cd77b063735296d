import functools
import itertools
import tracemalloc

import jax
import numpy as np
import pytest
import soundfile

import recording_files
from tests.decoding.conftest import logits_for
from w2l_jax import losses, model
from w2l_jax.alphabet import BLANK, Alphabet
from w2l_jax.decoding import recordings
from w2l_jax.decoding.pool import DecoderPool
from w2l_jax.decoding.recordings import Word
from w2l_jax.errors import UserError
from w2l_jax.model import ModelConfig
from w2l_jax.recognizer import Recognizer

ALPHABET = Alphabet("abc '")
GREEDY = functools.partial(recordings.greedy_search, params={}, alphabet=ALPHABET)


def saying(words, pause):
    """Labels of words, 16 ms per letter, with blanks and a space in the pauses before them, and the words' spans."""
    labels, spans, end = [], [], 0
    for word, silence in zip(words, pause, strict=True):
        labels += [BLANK] * (silence // 2) + ([4] if labels else [BLANK]) + [BLANK] * (silence - silence // 2 - 1)
        start, end = max(end, len(labels) - 5), len(labels) + len(word)
        spans.append(Word(word, round(start * 0.016, 3), round(end * 0.016, 3)))
        labels += [ALPHABET.characters.index(letter) + 1 for letter in word]
    return labels, spans


@pytest.fixture(scope="module")
def long():
    """Two minutes: 500 words after pauses of 3 to 20 frames, every ninth after one of 60."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.permutation(list("abc"))[: rng.integers(1, 4)]) for _ in range(500)]
    pauses = [60 if i % 9 == 8 else int(rng.integers(3, 20)) for i in range(500)]
    labels, spans = saying(words, pauses)
    return logits_for(labels, ALPHABET.size), spans


def test_a_long_recording_gives_all_its_words(long):
    logits_SxV, spans = long
    assert len(logits_SxV) * 0.016 > 120
    segments = list(recordings.transcribe(iter(np.array_split(logits_SxV, 7)), ALPHABET, GREEDY))
    assert [word for segment in segments for word in segment.words] == spans
    assert all(segment.end - segment.start <= 35 and segment.transcript is None for segment in segments)
    # Each cut is in a long pause, except the last, whose part must not become too short.
    gaps = [after.start - before.end for before, after in itertools.pairwise(segments)]
    assert len(segments) > 4 and min(gaps[:-1]) >= 0.85


def test_up_to_35_seconds_are_one_segment(long):
    logits_SxV, _ = long
    for frames, count in ((2187, 1), (2300, 2)):
        segments = list(recordings.transcribe([logits_SxV[:frames]], ALPHABET, GREEDY))
        assert len(segments) == count
    assert list(recordings.transcribe([logits_for([BLANK] * 5000, ALPHABET.size)], ALPHABET, GREEDY)) == []
    assert list(recordings.transcribe([], ALPHABET, GREEDY)) == []


def test_with_a_beam_search(long):
    logits_SxV, spans = long
    with DecoderPool(ALPHABET, None, workers=1) as pool:
        search = functools.partial(recordings.beam_search, pool=pool, calibration=(1.0, 0.5))
        segments = list(recordings.transcribe([logits_SxV[:3000]], ALPHABET, search))
    aligned = [word[:3] for segment in segments for word in segment.words]
    assert aligned == [span[:3] for span in spans if span.end < 3000 * 0.016]
    assert all(segment.transcript.text == segment.text for segment in segments)
    assert all(0.49 < word.confidence <= 0.5 for segment in segments for word in segment.words)


def test_lines_of_a_transcript(long):
    logits_SxV, spans = long
    words = [span.word for span in spans]
    lines = [" ".join(words[i : i + 40]) for i in range(0, 500, 40)]
    segments = recording_files.align_lines(logits_SxV, lines, ALPHABET)
    assert [segment.text for segment in segments] == lines
    assert [word for segment in segments for word in segment.words] == spans
    # Cut in the middle of a pause, or half a second from the words.
    for before, after in itertools.pairwise(segments):
        end, start = before.words[-1].end, after.words[0].start
        assert before.end == pytest.approx(min((end + start) / 2, end + 0.5), abs=0.001)
        assert after.start == pytest.approx(max((end + start) / 2, start - 0.5), abs=0.001)
    assert segments[0].start == pytest.approx(max(0, spans[0].start - 0.5))
    assert segments[-1].end == pytest.approx(min(len(logits_SxV) * 0.016, spans[-1].end + 0.5))
    with pytest.raises(UserError, match="is it the right transcript"):
        recording_files.align_lines(logits_SxV[:100], lines, ALPHABET)


def test_long_recordings_with_asg():
    alphabet = Alphabet("ab ", repetitions=2)
    params = losses.own_parameters(alphabet)
    words = ["abba", "b", "aab"] * 40
    labels = [alphabet.ids[" "]]
    for word in words:
        labels += np.repeat(alphabet.encode(word), 8).tolist() + [alphabet.ids[" "]] * 6
    search = functools.partial(recordings.greedy_search, params=params, alphabet=alphabet)
    segments = list(recordings.transcribe([logits_for(labels, alphabet.size)], alphabet, search))
    assert len(segments) > 1 and " ".join(segment.text for segment in segments).split() == words


@pytest.mark.slow
def test_twenty_minutes_need_no_more_memory_than_five(tmp_path):
    """From the file to the words; fifteen more minutes are 58 MB of samples and 29 MB of features."""
    config = ModelConfig(width=4, top_width=8)
    params = jax.device_get(model.init(jax.random.key(0), config, ALPHABET.size))
    recognizer = Recognizer(params, ALPHABET, config)
    minute = np.random.default_rng(0).normal(0, 3000, 60 * 16000).astype(np.int16)
    peaks = []
    for minutes in (5, 20):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 16000, 1) as file:
            for i in range(minutes):
                file.write(np.roll(minute // (1 + i % 3), 1000 * i))
        tracemalloc.start()
        for _ in recognizer.segments(path):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0] < 150e6, peaks
