"""The perplexity of a language model on held-out text, and its card as text."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def measure(model: Path, sentences: Iterable[str]) -> dict[str, Any]:
    """Returns the perplexity of a KenLM model (ARPA or binary) on sentences, and the number of unknown words.

    As KenLM's `query`: `perplexity` is 10 to the power of minus the mean log10 probability of all words and of the end
    of each sentence, unknown words at the probability of <unk>; `perplexity_of_known_words` excludes the unknown ones.
    `unknown_rate` is their share of the words, ends of sentences not counted. Compare the first between models with
    different vocabularies only if they treat <unk> alike.
    """
    import kenlm

    loaded = kenlm.Model(str(model))
    ends = words = unknown = 0
    total = total_unknown = 0.0
    for sentence in sentences:
        scores = list(loaded.full_scores(sentence, bos=True, eos=True))
        ends += 1
        words += len(scores) - 1
        unknown += sum(oov for _, _, oov in scores)
        total += math.fsum(score for score, _, _ in scores)
        total_unknown += math.fsum(score for score, _, oov in scores if oov)
    if not ends:
        return {"sentences": 0, "words": 0}
    return {
        "sentences": ends,
        "words": words,
        "unknown_words": unknown,
        "unknown_rate": unknown / max(words, 1),
        "perplexity": 10 ** (-total / (words + ends)),
        "perplexity_of_known_words": 10 ** (-(total - total_unknown) / (words + ends - unknown)),
    }


def summary(card: dict[str, Any]) -> str:
    """Returns a language model's card as lines of text."""
    lines = _from_text(card) if "sentences" in card else _from_model(card)
    lines.append(("vocabulary", f"{card['vocabulary']:,} words"))
    if "ngrams" in card:
        lines.append(("n-grams", " + ".join(f"{count:,}" for count in card["ngrams"])))
    lines.append(("on held-out text", _measured(card.get("evaluation"))))
    lines.append(("lm.bin", f"{card['bytes'] / 1e6:,.1f} MB, sha256 {card['sha256'][:16]}…"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def _from_text(card: dict[str, Any]) -> list[tuple[str, str]]:
    made_from = card["made_from"]
    pruned = f"pruned {' '.join(map(str, made_from['prune']))}" if any(made_from["prune"]) else "not pruned"
    lines = [("text", f"{card['words']:,} words in {card['sentences']:,} sentences")]
    for source in card["sources"]:
        lines.append(("", f"{source['file']}: {source['words']:,} words in {source['sentences']:,} sentences"))
    ids, texts = made_from["held_out_ids"]["count"], made_from["exclude"]["count"]
    lines.append(("excluded by id", f"{card['held_out']:,} utterances, of {ids:,} held out"))
    lines.append(("excluded by text", f"{card['matching']:,} sentences of text files, for {texts:,} texts to exclude"))
    kept = {"text": ("skipped", "kept"), "all": ("skipped", "skipped"), "none": ("kept", "kept")}
    of_lines, of_utterances = kept[made_from["deduplicate"]]
    repeats = f"{card['repeated_lines']:,} lines of plain text ({of_lines}), "
    lines.append(("repeats", f"{repeats}{card['repeated_transcripts']:,} utterances ({of_utterances})"))
    worst = ", ".join(f"{char} ({count:,})" for char, count in list(card["dropped_characters"].items())[:8])
    lines.append(("not in the alphabet", f"{card['dropped']:,} sentences, skipped" + (f": {worst}" if worst else "")))
    guessed = ", discounts guessed (little text)" if card["discount_fallback"] else ""
    return [*lines, ("model", f"order {made_from['order']}, {pruned}{guessed}")]


def _from_model(card: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [("model", f"{card['made_from']['model']['file']}, order {card['order']}, unchanged")]
    lines.append(("not in the alphabet", f"{card['unspellable']:,} words, never recognised"))
    if card.get("missing"):
        lines.append(("not in the model", f"{card['missing']:,} of the listed words"))
    if card.get("renamed"):
        lines.append(("renamed", f"{card['renamed']:,} words, to write them in the alphabet"))
    if card.get("lost"):
        lost = f"{card['lost']:,} words, such as {', '.join(card['lost_words'])}"
        lines.append(("spelled alike", f"{lost}: never recognised, since a likelier one has their spelling"))
    return lines


def _measured(lm: dict[str, Any] | None) -> str:
    if lm is None:
        return "not measured: no held_out data"
    if not lm["sentences"]:
        return "no sentence that the alphabet can spell"
    return (
        f"perplexity {lm['perplexity']:,.1f}; {lm['unknown_rate']:.2%} of the words unknown, of the others "
        f"{lm['perplexity_of_known_words']:,.1f} ({lm['words']:,} words in {lm['sentences']:,} sentences)"
    )
