"""Previews the preparation of texts: random ones with their transcripts, rare characters, skipped texts."""

import random
from collections import Counter
from collections.abc import Sequence

from preparing.collect import Collection
from w2l_jax.corpora import Utterance
from w2l_jax.dataset import filters
from w2l_jax.dataset.identity import PrepareConfig
from w2l_jax.text import clean

_RAREST = 10


def show(collection: Collection, config: PrepareConfig, count: int) -> None:
    """Prints `count` random texts of each source with their transcripts, its rarest characters, and skipped texts."""
    sources: dict[str, list[Utterance]] = {}
    for utterance in collection.utterances:
        sources.setdefault(utterance.source, []).append(utterance)
    for source, utterances in sorted(sources.items()):
        print(f"\n{source}: {len(utterances):,} texts in {config.labels.characters!r}")
        for utterance in random.Random(0).sample(utterances, min(count, len(utterances))):
            transcript = clean(utterance.text, config.labels, **config.cleaning)
            print(f"  {utterance.id}\n    text        {utterance.text}\n    transcript  {transcript}")
        _rarest(utterances, config)
        _, excluded = filters.check_texts(utterances, config.labels, "drop_utterance", **config.cleaning)
        _skipped([(id, exclusion.reason, exclusion.message) for id, exclusion in excluded.items()], len(utterances))
    if collection.skipped:
        print("\nfiles and rows without an utterance")
        _skipped([(row["id"], row["reason"], row["message"]) for row in collection.skipped], 0)


def _rarest(utterances: Sequence[Utterance], config: PrepareConfig) -> None:
    texts, example = Counter(), {}
    for utterance in utterances:
        for char in set(clean(utterance.text, config.labels, **config.cleaning)):
            texts[char] += 1
            example[char] = f"{utterance.id}: {utterance.text}"
    print("  the rarest characters")
    for char, n in sorted(texts.items(), key=lambda item: (item[1], item[0]))[:_RAREST]:
        outside = "" if char in config.labels.ids else ", outside the alphabet"
        print(f"    {char!r} in {n:,} texts{outside}, such as {example[char]}")


def _skipped(rows: Sequence[tuple[str, str, str]], total: int) -> None:
    counts = Counter(reason for _, reason, _ in rows)
    first = {reason: f"{id}: {message}" for id, reason, message in reversed(rows)}
    print(f"  skipped: {len(rows):,}{f' of {total:,}' if total else ''}")
    for reason, n in counts.most_common():
        print(f"    {n:,} {reason}, the first {first[reason]}")
