"""A run decoded on a dataset: one result per utterance, and tables."""

import dataclasses
import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from w2l_jax import metrics
from w2l_jax.alphabet import Alphabet
from w2l_jax.dataset.batches import Source
from w2l_jax.decoding.align import WordSpan, align
from w2l_jax.decoding.beam import Transcript
from w2l_jax.decoding.confidence import HYPOTHESES, confidences
from w2l_jax.decoding.greedy import greedy
from w2l_jax.decoding.recordings import Word
from w2l_jax.inference import Prediction
from w2l_jax.metrics import Errors

if TYPE_CHECKING:
    from w2l_jax.decoding.pool import DecoderPool

SEARCHES = {"greedy": "greedy", "without_lm": "no LM", "beam": "beam"}
"""The searches of an utterance, and their short names."""
TABLE3 = {"greedy": "greedy", "without_lm": "beam, no LM", "beam": "beam, LM"}
"""Their names in the paper's Table 3."""
RATES = {"ler": "LER", "wer": "WER", "corpus_ler": "corpus LER", "corpus_wer": "corpus WER"}
"""The rates in `metrics.Rates`: means over utterances, as in the paper, and of the corpus as a whole."""


@dataclasses.dataclass(frozen=True)
class Result:
    """One decoded utterance; `beam` is None without a search, `loss` (nats) if the target cannot fit."""

    id: str
    source: str
    speaker: str
    seconds: float
    expected: str
    greedy: str
    beam: Transcript | None
    loss: float | None
    without_lm: str | None = None
    """The beam search's result without the language model, if requested."""
    words: tuple[Word, ...] = ()
    """The words of `best`, if details were requested."""
    nbest: tuple[Transcript, ...] = ()
    """The best hypotheses of the beam search, `beam` first, if requested."""

    def text(self, search: str) -> str | None:
        """The transcript of one of `SEARCHES`, None if it was not made."""
        return (self.beam and self.beam.text) if search == "beam" else getattr(self, search)

    @property
    def best(self) -> str:
        """The transcript to use: the beam search's, or the greedy one without a search."""
        return self.beam.text if self.beam else self.greedy

    def errors(self, search: str = "") -> Errors:
        """The errors of the transcript of one of `SEARCHES`, by default of the best one."""
        return metrics.utterance_errors(self.expected, self.text(search) if search else self.best)

    def record(self) -> dict[str, Any]:
        """A JSON object with transcripts, scores, error rates and details, if any."""
        out = {key: value for key, value in vars(self).items() if key not in ("beam", "without_lm", "words", "nbest")}
        if self.without_lm is not None:
            out["without_lm"] = self.without_lm
        errors = self.errors("greedy")
        out |= {"greedy_ler": errors.ler, "greedy_wer": errors.wer}
        if self.beam:
            errors = self.errors()
            out |= {"predicted": self.beam.text, "ler": errors.ler, "wer": errors.wer, "score": self.beam.score}
            out |= {"acoustic_score": self.beam.acoustic_score, "lm_score": self.beam.lm_score}
        if self.words:
            names = ("word", "start", "end", "confidence") if self.beam else ("word", "start", "end")
            out["words"] = [{name: getattr(word, name) for name in names} for word in self.words]
        if self.nbest:
            out["nbest"] = [dataclasses.asdict(transcript) for transcript in self.nbest]
        return out


def decode(
    predictions: Iterable[Prediction],
    source: Source,
    alphabet: Alphabet,
    pool: "DecoderPool | None",
    without_lm: Mapping[int, str] = types.MappingProxyType({}),
    *,
    nbest: int | None = None,
    calibration: tuple[float, float] = (1.0, 1.0),
) -> Iterator[Result]:
    """Yields the result of each prediction; the network runs ahead of the search, which uses the pool's processes.

    `without_lm` holds the results of the function of that name, by index. With `nbest` (even 0) the results have words
    with times and confidences (by `calibration`: temperature, coverage) and that many hypotheses; None is cheaper.
    """
    waiting: list[Prediction] = []

    def logits():
        for prediction in predictions:
            waiting.append(prediction)
            yield prediction.logits_SxV

    for hypotheses in _lists(pool, logits(), nbest):
        prediction = waiting.pop(0)
        entry = source.dataset.entries[prediction.index]
        result = Result(
            entry.id,
            entry.source,
            entry.speaker,
            entry.duration,
            entry.transcript,
            greedy(prediction.path_S, alphabet),
            hypotheses[0] if hypotheses else None,
            prediction.loss if prediction.feasible else None,
            without_lm.get(prediction.index),
        )
        if nbest is not None:
            spans = align(prediction.logits_SxV, result.best, alphabet)
            words = _words(spans, hypotheses[:HYPOTHESES], calibration)
            result = dataclasses.replace(result, words=words, nbest=tuple(hypotheses[:nbest]))
        yield result


def _lists(
    pool: "DecoderPool | None", logits: Iterable[np.ndarray], nbest: int | None
) -> Iterator[Sequence[Transcript]]:
    """Each utterance's hypotheses, best first; with details as many as confidences need."""
    if pool is None:
        return (() for _ in logits)
    if nbest is None:
        return ((transcript,) for transcript in pool.decode(logits))
    return pool.nbest(logits, max(nbest, HYPOTHESES))


def _words(
    spans: Sequence[WordSpan], hypotheses: Sequence[Transcript], calibration: tuple[float, float]
) -> tuple[Word, ...]:
    if not hypotheses:
        return tuple(Word(*span) for span in spans)
    sure, raw = confidences(hypotheses, *calibration), confidences(hypotheses, 1.0)
    return tuple(Word(*span, a, b) for span, a, b in zip(spans, sure, raw, strict=True))


def without_lm(predictions: Sequence[Prediction], pool: "DecoderPool") -> Iterator[tuple[int, str]]:
    """Yields the index and the transcript of each prediction, searched with both weights at 0."""
    config = dataclasses.replace(pool.config, lm_weight=0.0, word_bonus=0.0)
    transcripts = pool.decode((prediction.logits_SxV for prediction in predictions), config)
    for prediction, transcript in zip(predictions, transcripts, strict=True):
        yield prediction.index, transcript.text


def rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One row per corpus and one for all: utterances, hours, mean loss, greedy rates and, if searched, the beam's.

    `greedy_intervals` and `beam_intervals` hold the 95 % bootstrap interval of each rate; `units` names the resampling
    units.
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

    Each is followed by its 95 % bootstrap interval.
    """
    summary = rows(results)
    rates = f"{'search':<7}" + "".join(f"{name:>23}" for name in RATES.values())
    lines = [f"{'corpus':<20}{'utt.':>6}{'hours':>7}{'loss':>8}  {rates}"]
    for row in summary:
        start = f"{row['corpus'][:20]:<20}{row['utterances']:>6}{row['hours']:>7.2f}{row['loss']:>8.2f}"
        for search, label in SEARCHES.items():
            if search in row:
                spans = row[f"{search}_intervals"]
                cells = "".join(f"{percent(getattr(row[search], name), spans[name]):>23}" for name in spans)
                lines.append(f"{start if search == 'greedy' else '':<41}  {label:<7}{cells}")
    drawn = ", ".join(sorted({row["units"] for row in summary}))
    return "\n".join([*lines, f"[95 % intervals: bootstrap over {drawn}]"])


def searches(results: Sequence[Result]) -> list[dict[str, str]]:
    """The paper's Table 3: one row per corpus and search, with and without language model, and 95 % intervals."""
    lm = any(r.beam and r.beam.lm_score for r in results)
    names = TABLE3 if lm else TABLE3 | {"beam": TABLE3["without_lm"]}
    return [
        {
            "corpus": row["corpus"],
            "utterances": f"{row['utterances']:,}",
            "hours": f"{row['hours']:.2f}",
            "search": names[search],
            **{title: percent(getattr(row[search], n), row[f"{search}_intervals"][n]) for n, title in RATES.items()},
            "bootstrap over": row["units"],
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
