import itertools
from types import SimpleNamespace

import numpy as np
import pytest

import tuning
from tests.decoding.conftest import logits_for
from tuning import Part, Trial
from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding.beam import BeamConfig
from w2l_jax.decoding.pool import DecoderPool

BEAMS = (25, 50, 100)


def quadratic(config: BeamConfig) -> Trial:
    """Lowest at lm_weight 1.37, word_bonus 3.2 and the widest beam."""
    cost = (config.lm_weight - 1.37) ** 2 + 0.3 * (config.word_bonus - 3.2) ** 2 + 5 / config.beam_width
    return Trial(config, cost / 2, cost / 2)


def test_the_search_finds_the_lowest_point():
    found = list(tuning.search(quadratic, BEAMS, 200, seed=0))
    best = min(found, key=tuning.rank)
    assert len({trial.config for trial in found}) == 200
    assert best.config.lm_weight == pytest.approx(1.37, abs=0.1)
    assert best.config.word_bonus == pytest.approx(3.2, abs=0.15)
    assert best.config.beam_width == 100
    # The grid alone is far from the minimum, so the steps found it.
    assert best.cost - 0.05 < 0.02 < 0.1 < min(found[:26], key=tuning.rank).cost - 0.05


def test_the_search_is_a_function_of_the_seed():
    runs = [[t.config for t in tuning.search(quadratic, BEAMS, 60, seed)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0][:26] == runs[2][:26] and runs[0][26:] != runs[2][26:]
    assert runs[0][0] == BeamConfig(100, 0.8, 2.3)  # the paper's
    assert [t.config for t in tuning.search(quadratic, BEAMS, 40, 1)] == runs[0][:40]


def test_among_equal_trials_the_narrower_beam_wins():
    wide, narrow = (Trial(BeamConfig(beam), 0.1, 0.2) for beam in (100, 25))
    assert min([wide, narrow], key=tuning.rank) is narrow


ALPHABET = Alphabet("ab ")
SAID = ["ab", "ba", "ab ba", "b"]


class Counting:
    """A decoding pool that counts its calls; utterance i is decoded as its text, or as nothing at weight 0."""

    def __init__(self):
        self.searches = []

    def decode(self, logits, config):
        self.searches.append(config)
        for logits_SxV in logits:
            text = ALPHABET.decode(logits_SxV.argmax(axis=1))
            yield SimpleNamespace(text=text if config.lm_weight else "")


def part() -> Part:
    return Part(list("wxyz"), [logits_for(list(ALPHABET.encode(text)), 4) for text in SAID], SAID)


def test_an_interrupted_search_resumes_without_repeating_trials(tmp_path):
    pool = Counting()
    first = tuning.Trials(pool, part(), tmp_path, "content")
    trials = [first(config) for config in (BeamConfig(lm_weight=0.0), BeamConfig(), BeamConfig(25))]
    assert [(t.ler, t.wer) for t in trials] == [(1.0, 1.0), (0.0, 0.0), (0.0, 0.0)]
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-20])  # killed while it wrote the third
    again = tuning.Trials(pool, part(), tmp_path, "content")
    assert [again(trial.config) for trial in trials] == trials
    assert pool.searches == [trial.config for trial in trials] + [BeamConfig(25)]
    third = tuning.Trials(pool, part(), tmp_path, "content")
    assert third(BeamConfig(25)) == trials[2] and len(pool.searches) == 4
    # Another network, language model or sample of utterances does not reuse these trials.
    for other, content in ((part(), "other"), (Part(["w"], part().logits[:1], SAID[:1]), "content")):
        tuning.Trials(pool, other, tmp_path, content)(BeamConfig())
    assert len(pool.searches) == 6


def test_smaller_samples_of_utterances_are_subsets_of_larger_ones():
    entries = [SimpleNamespace(id=f"u{i}", transcript=f"t{i}") for i in range(50)]
    logits = [np.full((1, 1), i) for i in range(50)]
    splits = [tuning.split(SimpleNamespace(entries=entries), logits, count, seed=3) for count in (10, 30, 0, 99)]
    for (used, others), count in zip(splits, (10, 30, 50, 50), strict=True):
        assert len(used.ids) == count and sorted(used.ids + others.ids) == sorted(e.id for e in entries)
        assert used.expected == [f"t{i[1:]}" for i in used.ids]
        assert [int(a[0, 0]) for a in used.logits] == [int(i[1:]) for i in used.ids]
    assert all(set(a[0].ids) <= set(b[0].ids) for a, b in itertools.pairwise(splits))
    assert tuning.split(SimpleNamespace(entries=entries), logits, 10, seed=4)[0].ids != splits[0][0].ids


def test_the_table_shows_the_ten_best_and_the_papers():
    found = [Trial(BeamConfig(), 0.5, 0.9), *(Trial(BeamConfig(lm_weight=i), i / 100, i / 50) for i in range(1, 13))]
    check = Trial(BeamConfig(lm_weight=1), 0.011, 0.031)
    rows = tuning.table(found, 4, [check], 2)
    assert [row["lm_weight"] for row in rows] == [*map(str, range(1, 11)), "0.8"]
    assert rows[0]["LER of 4"] == "1.0%" and rows[0]["WER of those"] == "3.1%" and rows[1]["WER of those"] == ""
    assert rows[-1][""] == "the paper's" and "WER of those" not in tuning.table(found, 4, [], 0)[0]


def test_measured_errors_equal_those_of_decoding(toy_lm):
    some = part()
    with DecoderPool(ALPHABET, toy_lm) as pool:
        assert tuning.measure(pool, some, BeamConfig(lm_weight=0.0, word_bonus=0.0)).cost == 0.0
        wrong = some._replace(expected=["ab", "ba", "ab ba", "a"])
        found = tuning.measure(pool, wrong, BeamConfig(lm_weight=0.0, word_bonus=0.0))
    assert (found.ler, found.wer) == (0.25, 0.25)
