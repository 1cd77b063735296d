"""Data of the language that a network was trained on, in the new alphabet, for training or evaluation."""

from w2l_jax.alphabet import Alphabet
from w2l_jax.dataset.filters import UNKNOWN_CHARACTERS
from w2l_jax.dataset.store import Dataset
from w2l_jax.errors import UserError
from w2l_jax.reporting import Report


def representable(dataset: Dataset, alphabet: Alphabet, drop: bool, report: Report) -> Dataset:
    """Returns the utterances of `dataset` that the new language's `alphabet` can represent; reports how many it cannot.

    Raises UserError for those unless `drop` is set, and if nothing is left.
    """
    unknown = [alphabet.unknown(entry.transcript) for entry in dataset.entries]
    count = sum(map(bool, unknown))
    if count and (not drop or count == len(dataset)):
        first = next(i for i, characters in enumerate(unknown) if characters)
        advice = "" if drop else "; data.unknown_characters=drop_utterance omits them"
        raise UserError(
            f"{dataset.folder}: {count} of {len(dataset)} transcripts hold characters that the new language's alphabet "
            f"{alphabet.characters!r} lacks, the first one {dataset.entries[first].id}: {unknown[first]!r} in "
            f"{dataset.entries[first].transcript!r}{advice}; given a manifest instead of a prepared folder, letters "
            "lose accents that the alphabet lacks"
        )
    if dataset.alphabet == alphabet:  # prepared for it: the rest was excluded then
        count = dataset.excluded.get(UNKNOWN_CHARACTERS, 0)
    if count:
        report(f"{dataset.folder}: skipped {count} utterances that the new language's alphabet cannot represent")
    return dataset.select(i for i, characters in enumerate(unknown) if not characters)
