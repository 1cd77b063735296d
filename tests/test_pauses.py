import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax import pauses


def loudness(frames_TxC):
    return frames_TxC[:, 0]


@given(st.lists(st.integers(1, 90), max_size=8), st.integers(2, 60), st.integers(0, 2**31 - 1))
def test_parts_cover_the_recording_and_have_the_right_lengths(lengths, longest, seed):
    rng = np.random.default_rng(seed)
    pieces = [rng.random((length, 2)) for length in lengths]
    parts = list(pauses.cut(pieces, longest, loudness, width=3))
    if not pieces:
        assert parts == []
        return
    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate(pieces))
    assert all(1 <= len(part) <= longest for part in parts)
    assert len(parts) == 1 or all(len(part) >= longest // 2 for part in parts)
    undivided = list(pauses.cut([np.concatenate(pieces)], longest, loudness, width=3))
    assert [len(part) for part in undivided] == [len(part) for part in parts]


def test_cuts_in_the_middle_of_the_longest_pause():
    sound_T = np.ones(400)
    for start, end in ((20, 40), (60, 62), (65, 76), (95, 99), (140, 151), (240, 251), (330, 341)):
        sound_T[start:end] = 0
    parts = list(pauses.cut([sound_T[:, None]], 100, loudness, width=15))
    # Between 50 and 100 frames; the first pause comes too early, and the last part must not be too short.
    assert np.cumsum([len(part) for part in parts]).tolist() == [70, 145, 245, 335, 400]


def test_does_not_cut_a_short_word_between_pauses():
    sound_T = np.ones(300)
    sound_T[60:66], sound_T[74:80] = 0, 0
    first = next(pauses.cut([sound_T[:, None]], 100, loudness, width=31))
    assert len(first) in (*range(60, 67), *range(74, 81))
