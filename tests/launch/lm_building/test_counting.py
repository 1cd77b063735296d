from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lm_building.counting import Frequencies, LineSet

lines = st.lists(st.integers(0, 60).map(lambda i: b"line %d" % i), max_size=200)


@given(lines, st.integers(1, 20))
def test_seen_is_a_set(lines, recent):
    seen, known = LineSet(recent), set()
    for line in lines:
        assert seen.add(line) == (line not in known)
        known.add(line)


def test_a_line_costs_eight_bytes():
    seen = LineSet(recent=1000)
    assert all(seen.add(b"%d" % i) for i in range(20_000))
    assert not any(seen.add(b"%d" % i) for i in range(20_000))
    assert (seen._sorted.nbytes, len(seen._recent)) == (8 * 20_000, 0)


@given(st.lists(st.text("abcäß", min_size=1, max_size=3), max_size=300), st.integers(1, 30), st.integers(0, 40))
def test_frequencies_are_exact(tmp_path_factory, words, in_memory, count):
    frequencies = Frequencies(tmp_path_factory.mktemp("counts"), in_memory)
    for i in range(0, len(words), 5):
        frequencies.add(words[i : i + 5])
        assert len(frequencies._counts) < in_memory
    expected = sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))
    assert frequencies.most_common(count) == [word for word, _ in expected[:count]]
