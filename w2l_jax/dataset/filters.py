"""Why an utterance is excluded from a prepared dataset; every exclusion is counted by reason.

All texts are checked before any audio is read; then one recording at a time.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from w2l_jax import features
from w2l_jax.alphabet import Alphabet
from w2l_jax.corpora import MAX_SKIPPED, Utterance, too_many
from w2l_jax.errors import UserError
from w2l_jax.languages import NAMES, language_name
from w2l_jax.text import Tags, clean, tags_in

EMPTY_TEXT = "empty text"
TAGS = "tags in the text"
NUMBERS = "numbers not spelled"
UNKNOWN_CHARACTERS = "unknown characters"
TOO_LONG = "too long"
LABEL_TOO_LONG = "label too long"

OnUnknown = Literal["error", "drop_utterance"]


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """An excluded utterance: the short reason it is counted under, and a sentence of detail."""

    reason: str
    message: str


def needed_frames(transcript: str) -> int:
    """The fewest output frames in which CTC can emit `transcript`: one per character, and a blank within each pair."""
    return len(transcript) + sum(a == b for a, b in zip(transcript, transcript[1:], strict=False))


def check_languages(utterances: Iterable[Utterance], language: str) -> None:
    """Raises UserError if an utterance is marked with another known language than `language`.

    Nothing else would notice: German ä becomes a in the English alphabet.
    """
    for utterance in utterances:
        other = language_name(utterance.language)
        if other != language and other in NAMES.values():
            raise UserError(f"{utterance.id}: its language is {utterance.language!r}, not {language}; choose {other}")


def check_texts(
    utterances: Sequence[Utterance],
    alphabet: Alphabet,
    on_unknown: OnUnknown = "error",
    *,
    language: str = "",
    numbers: bool = False,
    tags: Tags = "drop",
    max_skipped: float = MAX_SKIPPED,
) -> tuple[dict[str, str], dict[str, Exclusion]]:
    """Returns id → transcript (`text.clean`) of the usable texts, and id → exclusion of the others.

    Raises UserError, listing the most frequent characters outside the alphabet, if more texts than the share
    `max_skipped` hold any, unless they are to be dropped.
    """
    transcripts, excluded = {}, {}
    unknown: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for utterance in utterances:
        transcript = clean(utterance.text, alphabet, language, numbers=numbers, tags=tags)
        strange = alphabet.unknown(transcript)
        if tags == "skip_utterance" and (present := tags_in(utterance.text)):
            excluded[utterance.id] = Exclusion(TAGS, f"{' '.join(present)} in {utterance.text!r}")
        elif not transcript:
            excluded[utterance.id] = Exclusion(EMPTY_TEXT, f"nothing is left of the text {utterance.text!r}")
        elif strange:
            reason = NUMBERS if numbers and all(char.isdecimal() for char in strange) else UNKNOWN_CHARACTERS
            digits = not numbers and any(map(str.isdecimal, strange))
            hint = "; write numbers in words (spell_numbers)" if digits else ""
            excluded[utterance.id] = Exclusion(reason, f"{', '.join(strange)} in {utterance.text!r}{hint}")
            unknown.update(strange)
            examples.update({char: f"{utterance.id}: {utterance.text!r}" for char in strange if char not in examples})
        else:
            transcripts[utterance.id] = transcript
    count = sum(exclusion.reason in (UNKNOWN_CHARACTERS, NUMBERS) for exclusion in excluded.values())
    if on_unknown == "error" and too_many(count, len(utterances), max_skipped):
        rows = [f"  {char} in {n:,} texts, such as {examples[char]}" for char, n in unknown.most_common(10)]
        more = [f"  … and {len(unknown) - 10:,} other characters"] if len(unknown) > 10 else []
        raise UserError(
            "\n".join(
                [
                    f"{count:,} of {len(utterances):,} texts hold characters outside the alphabet, and at most "
                    f"{max_skipped:.0%} may be skipped (max_skipped); the most frequent:",
                    *rows,
                    *more,
                    f"alphabet: {alphabet.characters!r}",
                    "correct the texts, choose their language, add the characters to the alphabet "
                    "(alphabet_from_data), write numbers in words (spell_numbers), or skip these utterances "
                    "(unknown_characters=drop_utterance)",
                ]
            )
        )
    return transcripts, excluded


def label_too_long(frames: int, transcript: str) -> Exclusion | None:
    """Returns an exclusion if `frames` feature frames are too few for the network to emit `transcript`."""
    if features.output_frames(frames) >= needed_frames(transcript):
        return None
    return Exclusion(
        LABEL_TOO_LONG,
        f"{len(transcript)} characters need {needed_frames(transcript)} output frames, the audio has "
        f"{features.output_frames(frames)}: probably the text is not that of the audio",
    )


def table(counts: dict[str, int]) -> str:
    """Returns reasons and counts as aligned lines, most frequent first."""
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return "\n".join(f"  {count:>8,}  {reason}" for reason, count in rows)
