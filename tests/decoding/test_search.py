import collections
import functools
import math

import hypothesis
import hypothesis.strategies as st
import kenlm
import numpy as np
import pytest

from tests.decoding.conftest import log_softmax
from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding import search
from w2l_jax.decoding.beam import BeamConfig
from w2l_jax.decoding.decoder import Decoder
from w2l_jax.lm import compiled, lexicon
from w2l_jax.lm.language_model import LanguageModel

WORDS = st.text("abcx", min_size=1, max_size=5)


def plain_search(log_probs_SxV: np.ndarray, characters: str, language, config: BeamConfig) -> dict[str, float]:
    """A plain beam search with texts in a dictionary; returns the final texts with their log P."""
    beams = {"": (0.0, -math.inf)}
    for probs_V in log_probs_SxV:
        grown = collections.defaultdict(lambda: [-math.inf, -math.inf])
        tried = [i for i in range(len(probs_V)) if probs_V[i] >= -config.label_margin or i == probs_V.argmax()]
        for text, (blank, label) in beams.items():
            both = np.logaddexp(blank, label)
            for i in tried:
                char = characters[i - 1]
                if i == 0:
                    targets = [(text, 0, both)]
                elif char == " " and text[-1:] in ("", " "):
                    targets = [(text, 1, both)]
                elif text[-1:] == char:
                    targets = [(text, 1, label), (text + char, 1, blank)]
                else:
                    targets = [(text + char, 1, both)]
                for target, kind, prob in targets:
                    grown[target][kind] = np.logaddexp(grown[target][kind], prob + probs_V[i])
        scores = {text: np.logaddexp(*probs) + language(text) for text, probs in grown.items()}
        ranked = sorted((text for text in scores if scores[text] > -math.inf), key=lambda text: -scores[text])
        best = scores[ranked[0]]
        beams = {text: grown[text] for text in ranked[: config.beam_width] if scores[text] >= best - config.beam_margin}
    ended = collections.defaultdict(lambda: -math.inf)
    for text, probs in beams.items():
        ended[text.strip()] = np.logaddexp(ended[text.strip()], np.logaddexp(*probs))
    return ended


def unfinished(text: str, lm: LanguageModel, config: BeamConfig, hot_words: dict[str, float]) -> float:
    """The score of the text's finished words, and the best unigram score that its last word can reach."""
    known, state, total = set(lm.words), kenlm.State(), 0.0
    lm.model.BeginSentenceWrite(state)
    *finished, begun = text.split(" ")

    def beside(word):
        return hot_words.get(word, 0.0) + (config.word_bonus if word in known else 0.0)

    for word in finished:
        after = kenlm.State()
        total += config.lm_weight * math.log(10) * lm.model.BaseScore(state, word, after) + beside(word)
        state = after
    if begun:
        alone = kenlm.State()
        lm.model.NullContextWrite(alone)
        words = ["<unk>", *(word for word in {*lm.words, *hot_words} if word.startswith(begun))]
        total += max(
            config.lm_weight * math.log(10) * lm.model.BaseScore(alone, word, kenlm.State()) + beside(word)
            for word in words
        )
    return total


@pytest.mark.parametrize(("width", "margin"), [(1, 10.0), (4, 3.0), (25, 10.0), (25, math.inf), (80, 4.0)])
def test_skipped_candidates_would_not_have_survived(width, margin, toy_lm):
    """Beams and scores equal those of a search that tries everything before it drops anything."""
    lm, alphabet, rng = LanguageModel(toy_lm), Alphabet("abc '"), np.random.default_rng(width)
    for _ in range(4):
        config = BeamConfig(width, float(rng.choice([0.3, 0.8])), float(rng.choice([-1.0, 2.3])), margin, 3.0)
        hot_words = {"ab": float(rng.normal()), "cc": 1.0}
        logits_SxV = rng.choice([0.7, 2.0]) * rng.normal(size=(40, alphabet.size))
        language = functools.cache(functools.partial(unfinished, lm=lm, config=config, hot_words=hot_words))
        expected = plain_search(log_softmax(logits_SxV), alphabet.characters, language, config)
        found = Decoder(alphabet, lm, config, hot_words).nbest(logits_SxV, 1000)
        assert {t.text: t.acoustic_score for t in found} == pytest.approx(expected, abs=1e-9)


@hypothesis.given(words=st.lists(WORDS, unique=True, max_size=30), seed=st.integers(0, 99))
@hypothesis.settings(deadline=None)
def test_prefixes_know_their_word_and_the_best_word_below(words, seed):
    """Against a search in the word list; x is not in the alphabet, whose order is not Unicode's."""
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
def test_the_best_are_kept_and_ties_keep_the_first(values, width):
    scores = np.array(values, float)
    expected = [i for i in np.lexsort((np.arange(len(values)), -scores)) if scores[i] >= scores.max() - 4][:width]
    assert search._best(scores, width, 4.0).tolist() == sorted(expected)


@pytest.mark.parametrize("width", [1, 30])
def test_only_dead_ends_are_dropped(width, toy_lm, monkeypatch):
    """With memory for as few texts as possible; the tree stays small for any length of recording."""
    logits_SxV = np.random.default_rng(0).normal(size=(1500, 6))
    decoder = Decoder(Alphabet("abc '"), toy_lm, BeamConfig(beam_width=width))
    beams, nodes, used = search.begin(5)

    def decode(room):
        monkeypatch.setattr(search, "begin", lambda space: (beams.copy(), np.resize(nodes, room), used))
        return decoder.nbest(logits_SxV, 9), len(decoder.extend(decoder.begin(), logits_SxV)[1])

    (found, many), (expected, all_of_them) = decode(1), decode(1_000_000)
    assert found == expected
    assert all_of_them == 1_000_000 and many < 5000


def test_the_search_works_without_a_writable_cache(monkeypatch):
    njit = compiled.numba.njit

    def nowhere(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available for file")
        return njit(**options)

    monkeypatch.setattr(compiled.numba, "njit", nowhere)
    assert compiled.compiled(lambda x: x + 1)(1) == 2


@pytest.mark.parametrize("size", [1, 7, 40])
def test_a_resumed_search_gives_the_same_result(size, toy_lm):
    logits_SxV = 2 * np.random.default_rng(0).normal(size=(40, 6))
    decoder = Decoder(Alphabet("abc '"), toy_lm, BeamConfig(beam_width=30))
    expected = decoder.nbest(logits_SxV, 9)
    front = decoder.begin()
    for start in range(0, len(logits_SxV), size):
        front = decoder.extend(front, logits_SxV[start : start + size])
        decoder.finish(front, 1)  # which leaves the front unchanged
    assert decoder.finish(front, 9) == expected
