import collections
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preparing import splits
from w2l_jax.corpora import Utterance
from w2l_jax.errors import UserError


def make_utterance(name, speaker="", split="", audio=""):
    return Utterance(name, Path("a") / (audio or f"{name}.wav"), "x", speaker, split=split)


def sides(utterances, **options):
    """Speaker → split; each has two utterances, which must agree."""
    found = collections.defaultdict(set)
    for utterance in splits.assign(utterances, **options):
        found[utterance.speaker].add(utterance.split)
    assert all(len(places) == 1 for places in found.values())
    return {speaker: places.pop() for speaker, places in found.items()}


def crowd(names):
    return [make_utterance(f"{name}{i}", name) for name in names for i in range(2)]


def by_hash_alone(names, seed=0):
    """The speaker's split among so many others that no split needs a stand-in."""
    many = [f"other{i}" for i in range(200)]
    found = sides(crowd([*names, *many]), seed=seed)
    assert set(found.values()) == {"train", "dev", "test"}
    return {name: found[name] for name in names}


NAMES = st.sets(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=40)


@given(NAMES, NAMES, st.integers(0, 20))
def test_adding_speakers_moves_stand_ins_only(names, more, seed):
    before, after = sides(crowd(names), seed=seed), sides(crowd(names | more), seed=seed)
    own = by_hash_alone(sorted(names), seed)
    stand_ins = {name for name in names if before[name] != own[name]}
    assert len(stand_ins) <= 2
    if set(own.values()) == {"train", "dev", "test"}:
        assert not stand_ins
    if set(before.values()) == {"train", "dev", "test"}:
        assert {name for name in names if after[name] != before[name]} <= stand_ins


@given(NAMES)
def test_no_split_is_empty_with_enough_speakers(names):
    found = collections.Counter(sides(crowd(names)).values())
    assert found["train"] >= 1
    assert (found["test"] >= 1) == (len(names) > 1)
    assert (found["dev"] >= 1) == (len(names) > 2)
    assert sides(crowd(names), dev_fraction=0).keys() == names
    assert set(sides(crowd(names), dev_fraction=0).values()) <= {"train", "test"}
    assert set(sides(crowd(names), dev_fraction=0, test_fraction=0).values()) == {"train"}


def test_fractions_are_approximately_as_requested():
    found = collections.Counter(sides(crowd(map(str, range(20_000)))).values())
    assert found["test"] == pytest.approx(2000, rel=0.06)
    assert found["dev"] == pytest.approx(900, rel=0.1)


def test_hashes_never_change():
    """Another hash would move the speakers of existing prepared datasets."""
    found = sides(crowd("abcdefghijklmnopqrstuvwxyz"))
    assert {side: "".join(s for s in found if found[s] == side) for side in ("test", "dev")} == EXPECTED


EXPECTED = {"test": "t", "dev": "cen"}


def test_official_splits_are_kept_for_all_utterances_of_a_speaker():
    given_ = [
        make_utterance("a1", "anna", "test"),
        make_utterance("a2", "anna"),
        make_utterance("b1", "bert", "train"),
        make_utterance("b2", "bert"),
        make_utterance("c1", "carl", "train"),
        make_utterance("c2", "carl", "dev"),
        make_utterance("c3", "carl"),
        make_utterance("d1", "dora"),
    ]
    found = [utterance.split for utterance in splits.assign(given_)]
    assert found == ["test", "test", "train", "train", "train", "dev", "dev", "train"]


def test_unknown_speakers_are_split_by_recording():
    utterances = [make_utterance(f"u{i}") for i in range(400)]
    found = collections.Counter(u.split for u in splits.assign(utterances))
    assert 20 <= found["test"] <= 60
    pieces = [make_utterance(f"r{i}-{j}", audio=f"r{i}.wav") for i in range(40) for j in range(5)]
    for _, group in itertools.groupby(splits.assign(pieces), key=lambda u: u.audio):
        assert len({u.split for u in group}) == 1
    # The recording x and the speaker x are unrelated.
    assert splits.assign([make_utterance("u", "u.wav", "test"), make_utterance("u")])[1].split == "train"


@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from(["", "", "", "train", "dev", "test"]))))
def test_no_speaker_is_in_two_splits_unless_the_corpus_says_so(pairs):
    given_ = [make_utterance(f"u{i}", speaker, split) for i, (speaker, split) in enumerate(pairs)]
    official = collections.defaultdict(set)
    for utterance in given_:
        official[utterance.speaker] |= {utterance.split} - {""}
    parts = collections.defaultdict(list)
    for before, after in zip(given_, splits.assign(given_), strict=True):
        assert before.split in ("", after.split)
        parts[after.split].append(after)
    torn = {speaker for speaker, places in official.items() if len(places) > 1}
    both = splits.check_speakers(parts, allow_overlap=True)
    assert set(itertools.chain.from_iterable(both.values())) == torn
    if torn:
        with pytest.raises(UserError, match=r"speaker\(s\) in both .*allow_speaker_overlap"):
            splits.check_speakers(parts, allow_overlap=False)


def test_overlap_errors_name_the_splits():
    parts = {"train": crowd("ab"), "dev": [], "test": [*crowd("bc"), make_utterance("u"), make_utterance("v")]}
    assert splits.check_speakers(parts, True) == {"train and test": ["b"]}
    with pytest.raises(UserError, match=r"1 speaker\(s\) in both train and test: b; error rates"):
        splits.check_speakers(parts, False)


def test_bad_fractions_and_splits():
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(UserError, match=r"test_fraction=.* at least 0 and below 1"):
            splits.assign([], test_fraction=fraction)
    with pytest.raises(UserError, match="u: its split is 'eval'; known: train, dev, test"):
        splits.assign([make_utterance("u", "s", "eval")])
