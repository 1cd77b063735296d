"""A run decoded on a dataset: one result an utterance, and the tables made of them."""

import dataclasses
import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from w2l_jax import metrics
from w2l_jax.alphabet import Alphabet
from w2l_jax.dataset.batches import Source
from w2l_jax.decoding.beam import Transcript
from w2l_jax.decoding.greedy import greedy
from w2l_jax.decoding.pool import DecoderPool
from w2l_jax.inference import Prediction
from w2l_jax.metrics import Errors

SEARCHES = {"greedy": "greedy", "without_lm": "no LM", "beam": "beam"}
"""The ways in which an utterance may have been decoded, and what tables call them."""
RATES = {"ler": "LER", "wer": "WER", "corpus_ler": "corpus LER", "corpus_wer": "corpus WER"}
"""The rates in `metrics.Rates`: means over utterances, as in the paper, and of the corpus as a whole."""


@dataclasses.dataclass(frozen=True)
class Result:
    """One decoded utterance; `beam` is None without a search, `loss` (nats) where the target cannot fit."""

    id: str
    source: str
    speaker: str
    seconds: float
    expected: str
    greedy: str
    beam: Transcript | None
    loss: float | None
    without_lm: str | None = None
    """What the beam search finds without the language model, where that was asked for."""

    def text(self, search: str) -> str | None:
        """The transcript of one of `SEARCHES`, None if it was not made."""
        return (self.beam and self.beam.text) if search == "beam" else getattr(self, search)

    @property
    def best(self) -> str:
        """The transcript to use: the beam search's, or the greedy one where there was no search."""
        return self.beam.text if self.beam else self.greedy

    def errors(self, search: str = "") -> Errors:
        """The errors of the transcript of one of `SEARCHES`, by default of the best there is."""
        return metrics.utterance_errors(self.expected, self.text(search) if search else self.best)

    def record(self) -> dict[str, Any]:
        """A JSON object with transcripts, scores and error rates."""
        out = {key: value for key, value in dataclasses.asdict(self).items() if key not in ("beam", "without_lm")}
        if self.without_lm is not None:
            out["without_lm"] = self.without_lm
        errors = self.errors("greedy")
        out |= {"greedy_ler": errors.ler, "greedy_wer": errors.wer}
        if self.beam:
            errors = self.errors()
            out |= {"predicted": self.beam.text, "ler": errors.ler, "wer": errors.wer, "score": self.beam.score}
            out |= {"acoustic_score": self.beam.acoustic_score, "lm_score": self.beam.lm_score}
        return out


def decode(
    predictions: Iterable[Prediction],
    source: Source,
    alphabet: Alphabet,
    pool: DecoderPool | None,
    without_lm: Mapping[int, str] = types.MappingProxyType({}),
) -> Iterator[Result]:
    """Yields the result of each prediction; the network runs ahead of the search, which uses the pool's processes.

    `without_lm` holds what the function of that name found, by index.
    """
    waiting: list[Prediction] = []

    def logits():
        for prediction in predictions:
            waiting.append(prediction)
            yield prediction.logits_SxV

    transcripts = pool.decode(logits()) if pool else (None for _ in logits())
    for transcript in transcripts:
        prediction = waiting.pop(0)
        entry = source.dataset.entries[prediction.index]
        text = greedy(prediction.path_S, alphabet)
        loss = prediction.loss if prediction.feasible else None
        about = (entry.id, entry.source, entry.speaker, entry.duration, entry.transcript)
        yield Result(*about, text, transcript, loss, without_lm.get(prediction.index))


def without_lm(predictions: Sequence[Prediction], pool: DecoderPool) -> Iterator[tuple[int, str]]:
    """Yields the index and the transcript of each prediction, searched with both weights at 0."""
    config = dataclasses.replace(pool.config, lm_weight=0.0, word_bonus=0.0)
    found = pool.decode((prediction.logits_SxV for prediction in predictions), config)
    for prediction, transcript in zip(predictions, found, strict=True):
        yield prediction.index, transcript.text


def rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One row a corpus and one for all: utterances, hours, mean loss, greedy rates and, where searched, the beam's.

    `greedy_intervals` and `beam_intervals` hold the 95 % bootstrap interval of each rate; `units` says what was drawn.
    """
    groups = {name: [r for r in results if r.source == name] for name in sorted({r.source for r in results})}
    if len(groups) > 1:
        groups["all"] = list(results)
    return [_row(name, group) for name, group in groups.items()]


def _row(name: str, group: Sequence[Result]) -> dict[str, Any]:
    losses = [r.loss for r in group if r.loss is not None]
    row = {"corpus": name, "utterances": len(group), "hours": sum(r.seconds for r in group) / 3600}
    row["loss"] = sum(losses) / len(losses) if losses else math.nan
    units, row["units"] = metrics.resampling_units([r.speaker for r in group])
    for search in SEARCHES:
        if any(r.text(search) is None for r in group):
            continue
        errors = [r.errors(search) for r in group]
        row[search] = metrics.rates(errors)
        row[f"{search}_intervals"] = metrics.intervals(errors, units)
    return row


def table(results: Sequence[Result]) -> str:
    """The rows as text: error rates are means over utterances, as in the paper, and of the corpus as a whole.

    Behind each stands its 95 % bootstrap interval.
    """
    found = rows(results)
    rates = f"{'search':<7}" + "".join(f"{name:>23}" for name in RATES.values())
    lines = [f"{'corpus':<20}{'utt.':>6}{'hours':>7}{'loss':>8}  {rates}"]
    for row in found:
        start = f"{row['corpus'][:20]:<20}{row['utterances']:>6}{row['hours']:>7.2f}{row['loss']:>8.2f}"
        for search, label in SEARCHES.items():
            if search in row:
                spans = row[f"{search}_intervals"]
                cells = "".join(f"{percent(getattr(row[search], name), spans[name]):>23}" for name in spans)
                lines.append(f"{start if search == 'greedy' else '':<41}  {label:<7}{cells}")
    drawn = ", ".join(sorted({row["units"] for row in found}))
    return "\n".join([*lines, f"[95 % intervals: bootstrap over {drawn}]"])


def searches(results: Sequence[Result], lm: bool) -> list[dict[str, str]]:
    """The paper's Table 3: a row a corpus and search, with and without language model (`lm`: `beam` had one)."""
    names = {"greedy": "greedy", "without_lm": "beam, no LM", "beam": "beam, LM" if lm else "beam, no LM"}
    return [
        {
            "corpus": row["corpus"],
            "utterances": f"{row['utterances']:,}",
            "search": names[search],
            **{title: percent(getattr(row[search], n), row[f"{search}_intervals"][n]) for n, title in RATES.items()},
            "95 % intervals over": row["units"],
        }
        for row in rows(results)
        for search in SEARCHES
        if search in row
    ]


def percent(rate: float, interval: tuple[float, float]) -> str:
    """A rate and its interval in percent, such as `28.5% [26.1, 30.9]`."""
    return f"{rate:.1%} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def worst(results: Sequence[Result], count: int) -> str:
    """The utterances with the highest word error rate, as in §6.6: expected, predicted, LER, WER, loss."""
    ranked = sorted(results, key=lambda r: (-r.errors().wer, -r.errors().ler, r.id))
    blocks = []
    for r in ranked[:count]:
        errors = r.errors()
        loss = "target too long" if r.loss is None else f"loss {r.loss:.2f}"
        rates = f"LER {errors.ler:.0%}, WER {errors.wer:.0%}, {loss}"
        blocks.append(f"{r.id}: {rates}\n    expected:  {r.expected}\n    predicted: {r.best}")
    return "\n".join(blocks)
