"""Streaming recognition. Bursts of noise serve as speech: the included network decodes words from them."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.decoding.conftest import hand_lm, kenlm_tools  # noqa: F401 (fixtures)
from w2l_jax import Break, features, inference, load
from w2l_jax.decoding.decoder_config import DecoderConfig
from w2l_jax.decoding.greedy import greedy
from w2l_jax.errors import UserError
from w2l_jax.streaming import LONGEST_SECONDS, PAUSE_SECONDS, Normalizer

RATE = 16_000
BURSTS = [(0.5, 1.5), (2.5, 3.1), (4.2, 5.2)]  # seconds
SEEN, STEP = 0.8, 0.16  # seconds in the past that an output frame depends on; seconds that are recognised together


def bursts(spans=BURSTS, length=6.8):
    rng = np.random.default_rng(0)
    wave_N = 1e-4 * rng.standard_normal(round(length * RATE))
    for start, end in spans:
        loud = slice(round(start * RATE), round(end * RATE))
        syllables_N = np.abs(np.sin(np.arange(loud.stop - loud.start) * np.pi * 5 / RATE))
        wave_N[loud] += 0.05 * syllables_N * rng.standard_normal(len(syllables_N))
    return wave_N.astype(np.float32)


WAVE = bursts()


@pytest.fixture(scope="module")
def english():
    return load("english")


@pytest.fixture(scope="module")
def expected(english):
    return list(english.stream([WAVE]))


def finals(events):
    return [event for event in events if event.kind == "final"]


def test_streaming_agrees_with_the_whole_recording(english, expected):
    """Pauses are between words or empty, so the best path over all frames gives the same text."""
    normalizer, levels_TxM = Normalizer(english.features), np.concatenate(list(features.levels([WAVE])))
    steps = [normalizer(levels_TxM[i : i + 20]) for i in range(0, len(levels_TxM), 20)]
    text = greedy(inference.logits(english.params, np.concatenate(steps), english.model), english.alphabet)
    assert "".join(event.text for event in finals(expected)).replace(" ", "") == text.replace(" ", "") != ""


def test_events_at_the_speed_of_speech(english, expected):
    clock = 0.0

    def microphone():
        nonlocal clock
        for start in range(0, len(WAVE), 1600):
            clock = (start + 1600) / RATE
            yield WAVE[start : start + 1600]

    came = [(clock, event) for event in english.stream(microphone())]
    assert [event for _, event in came] == expected
    ends = iter(BURSTS)
    for now, event in came:
        assert event.start == event.words[0].start and event.end == event.words[-1].end
        assert [word.word for word in event.words] == event.text.split()
        assert all(a.start < a.end <= b.start for a, b in zip(event.words, event.words[1:], strict=False))
        if event.kind == "provisional":
            # A change before the end may affect an earlier word.
            assert 0 < now - event.end <= 1.2
        else:
            start, end = next(ends)
            assert start - 0.1 <= event.start and event.end <= end + 0.1
            assert now - event.end >= PAUSE_SECONDS and now - end <= PAUSE_SECONDS + 0.5
    assert next(ends, None) is None
    # Some words become final before all of them are shown.
    pairs = [(a.text, b.text) for a, b in itertools.pairwise(expected) if b.kind == "final"]
    assert all(words.startswith(shown) for shown, words in pairs) and len(pairs) == len(BURSTS)


def test_words_in_noise_become_final(english):
    """At the latest when the network has seen the pause, which takes 0.8 s more."""
    noise_N = 0.02 * np.random.default_rng(1).standard_normal(len(WAVE)).astype(np.float32)
    clock = 0.0

    def blocks():
        nonlocal clock
        for start in range(0, len(WAVE), 1600):
            clock = (start + 1600) / RATE
            yield (WAVE + noise_N)[start : start + 1600]

    delays = [clock - event.end for event in english.stream(blocks()) if event.kind == "final"]
    assert delays and all(delay < SEEN + PAUSE_SECONDS + 2 * STEP + 0.1 for delay in delays[:-1])


@hypothesis_settings(max_examples=6)
@given(cuts=st.lists(st.integers(0, len(WAVE)), max_size=30))
def test_blocks_of_any_length_give_the_same_events(english, expected, cuts):
    assert list(english.stream(np.split(WAVE, sorted(cuts)))) == expected


@pytest.mark.parametrize("size", [1, len(WAVE)])
def test_samples_one_by_one_and_all_at_once(english, size):
    short = WAVE[: 2 * RATE]
    found = list(english.stream(short[i : i + size] for i in range(0, len(short), size)))
    assert found == list(english.stream(np.array_split(short, 7))) and len(finals(found)) == 1


def test_int16_is_the_same(english):
    steps_N = np.round(WAVE * 32768).astype(np.int16)
    assert list(english.stream([steps_N])) == list(english.stream([steps_N / 32768]))


def test_another_rate(english, expected):
    import soxr

    loud = list(english.stream([soxr.resample(WAVE, RATE, 48_000)], 48_000))
    assert [event.start for event in finals(loud)] == pytest.approx([e.start for e in finals(expected)], abs=0.2)


def test_the_last_words_come_at_the_end(english):
    """Ctrl-C in the middle of a word."""
    events = list(english.stream([WAVE[: round(1.2 * RATE)]]))
    assert events[-1].kind == "final" and 0.8 < events[-1].end <= 1.2


def test_words_without_a_pause_are_final_after_twenty_seconds(english):
    wave_N = bursts([(0.5, 24.0)], 25.0)
    clock = 0.0

    def blocks():
        nonlocal clock
        for start in range(0, len(wave_N), 1600):
            clock = (start + 1600) / RATE
            yield wave_N[start : start + 1600]

    came = [(clock, event) for event in english.stream(blocks())]
    ends = [(now, event) for now, event in came if event.kind == "final"]
    assert len(ends) >= 2
    for now, event in ends:
        assert now - event.start < LONGEST_SECONDS + SEEN + 2 * STEP + PAUSE_SECONDS + 1


@pytest.mark.parametrize(
    "quiet_N", [np.zeros(10 * RATE), 1e-4 * np.random.default_rng(0).standard_normal(20 * RATE), np.zeros(0)]
)
def test_silence_gives_nothing(english, quiet_N):
    assert list(english.stream([quiet_N])) == []


def test_faults_are_reported_and_streaming_continues(english, expected):
    damaged_N = WAVE.copy()
    damaged_N[100:103] = [np.nan, np.inf, -np.inf]
    found = list(english.stream([damaged_N]))
    assert [(event.kind, event.start, "not finite" in event.text) for event in found[:1]] == [("message", 0.0, True)]
    assert [event.kind for event in found].count("message") == 1
    assert len(finals(found)) == 3
    clipped = [event for event in english.stream([WAVE * 100]) if event.kind == "message"]
    assert [event.start for event in clipped] == [pytest.approx(BURSTS[0][0], abs=STEP)]
    assert "clipped" in clipped[0].text


def test_lost_sound_does_not_shift_times(english, expected):
    lost = [WAVE[: 2 * RATE], Break(0.25), WAVE[round(2.25 * RATE) :]]
    found = list(english.stream(lost))
    (message,) = [event for event in found if event.kind == "message"]
    assert (message.start, message.end) == (2.0, 2.25) and "lost" in message.text
    assert [event.start for event in finals(found)] == pytest.approx([e.start for e in finals(expected)], abs=0.1)


def test_a_rate_that_changes(english, expected):
    import soxr

    later = soxr.resample(WAVE[2 * RATE :], RATE, 8000)
    found = list(english.stream([WAVE[: 2 * RATE], Break(rate=8000), later]))
    assert [e.text for e in found if e.kind == "message"] == ["the rate changes from 16000 to 8000 Hz"]
    assert [e.start for e in finals(found)] == pytest.approx([e.start for e in finals(expected)], abs=0.2)
    assert finals(found)[0] == finals(expected)[0]


@pytest.mark.parametrize(
    ("block", "error"), [(np.zeros((2, 3)), r"shape \[2, 3\]"), (np.zeros(3, np.int32), "type int32")]
)
def test_blocks_that_are_not_waveforms(english, block, error):
    with pytest.raises(UserError, match=error):
        list(english.stream([block]))


def test_everything_is_compiled_before_the_first_block(english):
    asked = []

    def blocks():
        asked.append(True)
        yield WAVE

    events = english.stream(blocks())
    assert not asked
    next(events)
    assert asked


def test_final_words_use_the_language_model(english, hand_lm):  # noqa: F811
    """The search in pieces finds the same in each segment as a search over the whole segment."""
    both = dataclasses.replace(english, decoder=DecoderConfig(lm=str(hand_lm), beam_width=20))
    events = list(both.stream([WAVE]))
    assert finals(events)
    for event in finals(events):
        assert event.transcript.text == event.text
        assert all(0 <= word.confidence <= 1 + 1e-9 for word in event.words)
    assert list(both.stream(np.array_split(WAVE, 31))) == events


def test_the_normaliser_converges_to_the_statistics_of_its_input(english):
    levels_TxM = 3 + 2 * np.random.default_rng(0).standard_normal((125 * 100, 128)).astype(np.float32)
    normalizer = Normalizer(english.features)
    pieces = [normalizer(levels_TxM[i : i + 20]).astype(np.float64) for i in range(0, len(levels_TxM), 20)]
    assert abs(pieces[-1].mean()) < 0.1 and abs(pieces[-1].std() - 1) < 0.1
    assert pieces[0].mean() > 2  # at first it seems to be a loud speaker
