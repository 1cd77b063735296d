import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from preparing.pieces import annotated_seconds, recorded_seconds, split_long
from w2l_jax import audio, features
from w2l_jax.corpora import Utterance
from w2l_jax.dataset.prepare import PrepareConfig, prepare

# Tones in silence, at known samples of 16 kHz: pauses of 0.2, 0.6, 0.1 and 3 s, silence at either end.
WORDS = (("a", 0.5, 1.5), ("b", 1.7, 2.7), ("c", 3.3, 4.3), ("d", 4.4, 5.4), ("e", 8.4, 9.4))
SECONDS = 12.0


@pytest.fixture
def recording(tmp_path):
    samples = np.zeros(int(SECONDS * 16000), np.float32)
    for pitch, (_, start, end) in enumerate(WORDS, start=3):
        t = np.arange(round(start * 16000), round(end * 16000))
        samples[t] = 0.3 * np.sin(t * pitch / 50)
    soundfile.write(tmp_path / "long.flac", samples, 16000)
    return Utterance("long", tmp_path / "long.flac", "A b, c d e.", "s", words=WORDS)


def cut(utterance, max_seconds, seconds=recorded_seconds):
    return [(u.id, u.text, u.start, u.end) for u in split_long([utterance], max_seconds, seconds)]


def test_cut_to_the_sample(recording, tmp_path):
    """Cut at the longest pause in the second half of what fits; drop silence over half a second; read nothing twice."""
    assert cut(recording, 4.0) == [
        ("long-001", "a b", 0.0, pytest.approx(3.0)),
        ("long-002", "c d", pytest.approx(3.0), pytest.approx(5.9)),
        ("long-003", "e", pytest.approx(7.9), pytest.approx(9.9)),
    ]
    pieces = list(split_long([recording], 4.0, recorded_seconds))
    dataset = prepare(pieces, tmp_path / "p", PrepareConfig(max_seconds=4.0), workers=1)
    samples = audio.load(recording.audio)
    for index, (first, stop) in enumerate([(0, 48000), (48000, 94400), (126400, 158400)]):
        assert dataset.entries[index].duration == (stop - first) / 16000
        np.testing.assert_array_equal(dataset.features_of([index])[0], features.compute(samples[first:stop]))
    assert [entry.transcript for entry in dataset.entries] == ["a b", "c d", "e"]
    # Uncut it would be skipped.
    uncut = prepare([recording, *pieces[:1]], tmp_path / "q", PrepareConfig(max_seconds=4.0), workers=1)
    assert uncut.excluded == {"too long": 1}


def test_short_recordings_and_those_without_words_are_not_cut(recording):
    assert list(split_long([recording], 12.0, recorded_seconds)) == [recording]
    bare = dataclasses.replace(recording, words=())
    assert list(split_long([bare], 4.0, recorded_seconds)) == [bare]
    missing = dataclasses.replace(recording, audio=Path("absent.wav"))
    assert list(split_long([missing], 4.0, recorded_seconds)) == [missing]


def test_silence_at_the_end_makes_one_piece(recording):
    """Twelve seconds, but the words end at 9.4: only silence exceeds the limit."""
    assert cut(recording, 11.0) == [("long-001", "a b c d e", 0.0, 9.9)]
    assert recorded_seconds(recording) == 12.0
    assert annotated_seconds(recording) == 9.4


def test_without_audio_only_word_times_decide(recording):
    found = cut(dataclasses.replace(recording, audio=Path("absent.wav")), 4.0, annotated_seconds)
    assert found[-1] == ("long-003", "e", pytest.approx(7.9), pytest.approx(9.4))


def test_a_piece_of_a_recording_is_cut_within_its_bounds(recording):
    part = dataclasses.replace(recording, words=WORDS[1:], start=1.6, end=9.5)
    assert cut(part, 3.0) == [
        ("long-001", "b c", 1.6, pytest.approx(4.35)),
        ("long-002", "d", pytest.approx(4.35), pytest.approx(5.9)),
        ("long-003", "e", pytest.approx(7.9), pytest.approx(9.5)),
    ]


def test_words_without_a_pause_stay_together(recording):
    """Too long to use, and skipped for that reason when the audio is read."""
    joined = tuple((f"w{i}", i * 0.5, i * 0.5 + 0.48) for i in range(20))
    assert cut(dataclasses.replace(recording, words=joined), 4.0) == [
        ("long-001", " ".join(word for word, _, _ in joined), 0.0, pytest.approx(10.48, abs=0.5))
    ]
    half = (*((word, s, s + 0.5) for word, s, _ in joined[:10]), ("x", 6.0, 7.0), ("y", 7.5, 8.0))
    ids = [(text, start) for _, text, start, _ in cut(dataclasses.replace(recording, words=half), 4.0)]
    assert ids == [(" ".join(word for word, _, _ in half[:10]), 0.0), ("x y", pytest.approx(5.5))]


TIMES = st.lists(st.tuples(st.floats(0, 3), st.floats(0.01, 2)), min_size=1, max_size=60)


@given(TIMES, st.floats(2, 10), st.floats(0, 5), st.booleans())
def test_pieces_hold_every_word_once_and_never_overlap(times, limit, after, overlapping):
    words, now = [], 0.0
    for number, (pause, length) in enumerate(times):
        now = max(0.0, now + pause - (1.0 if overlapping else 0.0))
        words.append((f"w{number}", now, now + length))
        now += length
    total = max(end for _, _, end in words) + after
    utterance = Utterance("u", Path("u.wav"), "text", words=tuple(words))
    pieces = list(split_long([utterance], limit, lambda _: total))
    if total <= limit:
        assert pieces == [utterance]
        return
    aligned = [word for piece in pieces for word in piece.words]
    assert aligned == sorted(words, key=lambda word: word[1:])
    assert [piece.text.split() for piece in pieces] == [[word for word, _, _ in piece.words] for piece in pieces]
    assert [piece.id for piece in pieces] == [f"u-{i:03d}" for i in range(1, len(pieces) + 1)]
    for before, following in zip(pieces, pieces[1:], strict=False):
        assert round(before.end * 16000) <= round(following.start * 16000)
    for piece in pieces:
        assert 0 <= piece.start <= piece.words[0][1] + 1e-9
        assert max(end for _, _, end in piece.words) - 1e-9 <= piece.end <= total + 1e-9
        if round(piece.end * 16000) - round(piece.start * 16000) > limit * 16000:
            ends = [max(end for _, _, end in piece.words[: i + 1]) for i in range(len(piece.words) - 1)]
            assert all(word[1] - end < 0.05 + 1e-9 for word, end in zip(piece.words[1:], ends, strict=True))
