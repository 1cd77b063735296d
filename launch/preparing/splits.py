"""Splits utterances into training, development and test sets if the corpus does not.

By a hash of the speaker's name only, so that speakers keep their split when a corpus grows.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from w2l_jax.corpora import SPLITS, Utterance
from w2l_jax.dataset.store import overlap_error
from w2l_jax.errors import UserError
from w2l_jax.files import text_digest

_Group = tuple[str, str]


def assign(
    utterances: Sequence[Utterance], test_fraction: float = 0.1, dev_fraction: float = 0.05, seed: int = 0
) -> list[Utterance]:
    """Returns the utterances with `split` train, dev or test; those that have one keep it.

    Each speaker has a hash of (seed, name), a number from 0 to 1. Speakers below `test_fraction` are for testing;
    of the others, those whose second hash is below `dev_fraction` for development. If some utterances of a speaker have
    a split, the others get it, too; utterances without a speaker are split by recording.

    An empty split gets the speaker with the lowest hash as a stand-in, and train always keeps the one with the highest.
    So adding speakers to non-empty splits moves only stand-ins, at most two, and none once every split has its own
    speakers. A fraction of 0 leaves a split empty. A single speaker goes to train; with two, dev is empty. Raises
    UserError for other splits than these three and for fractions outside 0…1.
    """
    for name, fraction in (("test", test_fraction), ("dev", dev_fraction)):
        if not 0 <= fraction < 1:
            raise UserError(f"{name}_fraction={fraction} must be at least 0 and below 1")
    assigned = _assigned(utterances)
    free = {group for group in map(_group, utterances) if group not in assigned}
    test = _lowest(free, test_fraction, f"{seed}:test")
    dev = _lowest(free - test, dev_fraction, f"{seed}:dev")
    out = []
    for utterance in utterances:
        group = _group(utterance)
        split = (
            utterance.split or assigned.get(group) or ("test" if group in test else "dev" if group in dev else "train")
        )
        out.append(utterance if split == utterance.split else dataclasses.replace(utterance, split=split))
    return out


def _group(utterance: Utterance) -> _Group:
    return ("speaker", utterance.speaker) if utterance.speaker else ("recording", utterance.audio.name)


def _assigned(utterances: Iterable[Utterance]) -> dict[_Group, str]:
    """The split of each group that the corpus assigns: the strictest if there are several."""
    assigned: dict[_Group, str] = {}
    for utterance in utterances:
        if utterance.split and utterance.split not in SPLITS:
            raise UserError(f"{utterance.id}: its split is {utterance.split!r}; known: {', '.join(SPLITS)}")
        if utterance.split:
            group = _group(utterance)
            assigned[group] = max(utterance.split, assigned.get(group, ""), key=("", *SPLITS).index)
    return assigned


def _lowest(groups: set[_Group], fraction: float, salt: str) -> set[_Group]:
    """Those with a hash below `fraction`: at least one, and never all."""
    if not fraction or not groups:
        return set()
    ranks = {group: _rank(salt, group) for group in groups}
    below = {group for group, rank in ranks.items() if rank < fraction} or {min(ranks, key=ranks.__getitem__)}
    return below - {max(ranks, key=ranks.__getitem__)} if len(below) == len(ranks) else below


def _rank(salt: str, group: _Group) -> float:
    return int(text_digest(":".join((salt, *group)))[:16], 16) / 2**64


def check_speakers(sides: Mapping[str, Iterable[Utterance]], allow_overlap: bool) -> dict[str, list[str]]:
    """Returns, by pair such as "train and test", the known speakers in both, sorted.

    Raises UserError if there are any and `allow_overlap` is false.
    """
    places: dict[str, set[str]] = collections.defaultdict(set)
    for split, utterances in sides.items():
        for utterance in utterances:
            if utterance.speaker:
                places[utterance.speaker].add(split)
    both: dict[str, list[str]] = collections.defaultdict(list)
    for speaker, splits in sorted(places.items()):
        if len(splits) > 1:
            both[" and ".join(split for split in SPLITS if split in splits)].append(speaker)
    if both and not allow_overlap:
        raise overlap_error(*next((speakers, f"both {pair}") for pair, speakers in both.items()))
    return dict(both)
