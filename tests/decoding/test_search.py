import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding import compiled, lexicon, search
from w2l_jax.decoding.beam import BeamConfig, Decoder

WORDS = st.text("abcx", min_size=1, max_size=5)


@hypothesis.given(words=st.lists(WORDS, unique=True, max_size=30), seed=st.integers(0, 99))
@hypothesis.settings(deadline=None)
def test_prefixes_know_their_word_and_the_best_word_below(words, seed):
    """Against a search of the list; x is no letter of the alphabet, and the letters' order is not Unicode's."""
    alphabet, outside = Alphabet("cab"), len(words) // 2
    words = [*words[:outside], "", *words[outside:]]
    tree = lexicon.tree(words, outside, alphabet)
    score_W = np.random.default_rng(seed).normal(size=len(words))
    bound_N = lexicon.bounds(tree.first_N, tree.word_N, score_W, outside)
    nodes, seen = [(lexicon.ROOT, "")], 0
    while nodes:
        node, prefix = nodes.pop()
        seen += 1
        below = [i for i, word in enumerate(words) if word.startswith(prefix) and not alphabet.unknown(word)]
        assert bound_N[node] == max(score_W[[*below, outside]])
        assert tree.word_N[node] == (words.index(prefix) if prefix in words else outside)
        children = range(tree.first_N[node], tree.first_N[node + 1])
        labels = [int(tree.label_N[child]) for child in children]
        assert labels == sorted({alphabet.encode(words[i])[len(prefix)] for i in below if len(words[i]) > len(prefix)})
        nodes += [(child, prefix + alphabet.decode([label])) for child, label in zip(children, labels, strict=True)]
    assert seen == len(tree.word_N) - 1
    assert (tree.word_N[lexicon.OUTSIDE], bound_N[lexicon.OUTSIDE]) == (outside, score_W[outside])


@hypothesis.given(values=st.lists(st.integers(-5, 5), min_size=1, max_size=40), width=st.integers(1, 45))
@hypothesis.settings(deadline=None)
def test_the_best_are_kept_and_of_equals_the_first(values, width):
    scores = np.array(values, float)
    expected = [i for i in np.lexsort((np.arange(len(values)), -scores)) if scores[i] >= scores.max() - 4][:width]
    assert search._best(scores, width, 4.0).tolist() == sorted(expected)


@pytest.mark.parametrize("width", [1, 30])
def test_texts_that_lead_nowhere_are_dropped_and_nothing_else(width, toy_lm, monkeypatch):
    """With room for as few texts as possible; the tree stays that small however long the recording."""
    logits_SxV = np.random.default_rng(0).normal(size=(1500, 6))
    decoder = Decoder(Alphabet("abc '"), toy_lm, BeamConfig(beam_width=width))
    beams, nodes, used = search.begin(5)

    def decode(room):
        monkeypatch.setattr(search, "begin", lambda space: (beams.copy(), np.resize(nodes, room), used))
        return decoder.nbest(logits_SxV, 9), len(decoder._search(decoder._log_probs(logits_SxV))[1])

    (found, many), (expected, all_of_them) = decode(1), decode(1_000_000)
    assert found == expected
    assert all_of_them == 1_000_000 and many < 5000


def test_the_search_works_where_its_machine_code_cannot_be_kept(monkeypatch):
    njit = compiled.numba.njit

    def nowhere(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available for file")
        return njit(**options)

    monkeypatch.setattr(compiled.numba, "njit", nowhere)
    assert compiled.compiled(lambda x: x + 1)(1) == 2
