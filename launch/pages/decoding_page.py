"""The page that `decode.py --report` writes: results, errors, and utterances to look at and listen to."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

import numpy as np

import calibration
import results
from pages import decoding_figures as figures
from pages import html as report
from results import Result
from w2l_jax import audio, inference, metrics
from w2l_jax.alphabet import Alphabet
from w2l_jax.corpora import Utterance
from w2l_jax.dataset.store import Dataset
from w2l_jax.decoding import confidence
from w2l_jax.model import ModelConfig, Params

_FREQUENT = 20


@dataclasses.dataclass(frozen=True)
class Example:
    """An example: its result, why it was chosen, features [T, M] and logits [S, V]."""

    result: Result
    reason: str
    features_TxM: np.ndarray
    logits_SxV: np.ndarray


def choose(decoded: Sequence[Result], count: int, seed: int = 0) -> list[tuple[int, str]]:
    """Indices of `count` utterances and why: a quarter each worst, median and best by LER, the rest at random."""
    errors = [result.errors() for result in decoded]
    ranked = sorted(range(len(decoded)), key=lambda i: (-errors[i].ler, -errors[i].wer, decoded[i].id))
    quarter = count // 4
    middle = max((len(ranked) - quarter) // 2, 0)
    reasons: dict[int, str] = {}
    for reason, some in (
        ("worst", ranked[:quarter]),
        ("median", ranked[middle : middle + quarter]),
        ("best", ranked[len(ranked) - quarter :]),
        ("random", np.random.default_rng(seed).permutation(ranked).tolist()),
    ):
        for i in some:
            if len(reasons) < count:
                reasons.setdefault(i, reason)
    return list(reasons.items())


def examples(
    decoded: Sequence[Result], dataset: Dataset, params: Params, config: ModelConfig, count: int, seed: int = 0
) -> Iterator[Example]:
    """Yields the utterances that `choose` takes, with the features of `dataset` and their logits."""
    places = {entry.id: index for index, entry in enumerate(dataset.entries)}
    for i, reason in choose(decoded, count, seed):
        (features_TxM,) = dataset.features_of([places[decoded[i].id]])
        yield Example(decoded[i], reason, features_TxM, inference.logits(params, features_TxM, config))


def build(
    title: str,
    facts: Mapping[str, str],
    decoded: Sequence[Result],
    examples: Iterable[Example],
    alphabet: Alphabet,
    recordings: Mapping[str, Utterance],
) -> str:
    """The page as HTML.

    Args:
      title: of the page.
      facts: names and values of run, data and decoder.
      decoded: every result.
      examples: utterances to show, with their `recordings` by id.
      alphabet: the network's characters.
    """
    sections = [
        ("Error rates", report.facts(facts) + _totals(decoded)),
        ("Length and speed of speech", _lengths(decoded)),
        ("Letters", _letters(decoded)),
        ("Words", _words(decoded)),
    ]
    if any(word.confidence is not None for r in decoded for word in r.words):
        sections.append(("Confidence", _confidence(decoded)))
    shown = "".join(_example(example, alphabet, recordings) for example in examples)
    return report.page(title, [*sections, ("Utterances", _LEGEND + shown)])


def _totals(decoded: Sequence[Result]) -> str:
    return report.table(
        results.searches(decoded),
        "LER and WER are means over utterances, the corpus rates all edits over all letters and words; each "
        "with its 95 % bootstrap interval",
    )


def _lengths(decoded: Sequence[Result]) -> str:
    text = "Letter error rate over the length of an utterance and the speed of speech: one dot per utterance"
    return report.figure(lambda figure: figures.lengths(figure, decoded), text, (9, 3.4))


def _letters(decoded: Sequence[Result]) -> str:
    counts = confusions((r.expected, r.best) for r in decoded)
    reference = confusions((r.expected, "") for r in decoded)
    rows = [
        {
            "reference": figures.visible(a) or "(nothing)",
            "decoded": figures.visible(b) or "(nothing)",
            "times": count,
            "share of the reference": f"{count / reference[a, '']:.1%}" if a else "",
        }
        for (a, b), count in counts.most_common()
        if a != b
    ]
    text = "Confusion of letters: of each letter of the reference, the percentage decoded as each other letter"
    picture = report.figure(lambda figure: figures.letters(figure, counts), text, (7.5, 6.5))
    return picture + report.table(rows[:_FREQUENT], "Most frequent confusions (␣ is a space)")


def _words(decoded: Sequence[Result]) -> str:
    counts = confusions((r.expected.split(), r.best.split()) for r in decoded).most_common()
    wrong = [(a, b, count) for (a, b), count in counts if a != b]
    kinds = {
        "Most frequent substitutions": [{"reference": a, "decoded": b, "times": n} for a, b, n in wrong if a and b],
        "Most frequent words missed": [{"reference": a, "times": n} for a, b, n in wrong if not b],
        "Most frequent words inserted": [{"decoded": b, "times": n} for a, b, n in wrong if not a],
    }
    tables = "".join(report.table(rows[:_FREQUENT], name) for name, rows in kinds.items())
    return f'<div class="columns">{tables}</div>'


def _confidence(decoded: Sequence[Result]) -> str:
    words = [word for r in decoded for word in r.words]
    right = [correct for r in decoded for correct in confidence.right(r.expected, r.best)]
    curves = {
        "calibrated": calibration.reliability([word.confidence for word in words], right),
        "not calibrated": calibration.reliability([word.posterior for word in words], right),
    }
    rows = [
        {
            "curve": name,
            "words": f"{len(words):,}",
            "mean confidence": f"{np.mean([getattr(word, field) for word in words]):.1%}",
            "correct": f"{np.mean(right):.1%}",
            "expected calibration error": f"{calibration.calibration_error(curves[name]):.1%}",
        }
        for name, field in (("calibrated", "confidence"), ("not calibrated", "posterior"))
    ]
    text = "Reliability: fraction of correct words over confidence, in tenths"
    picture = report.figure(lambda figure: figures.reliability(figure, curves), text, (4.5, 4))
    return picture + report.table(rows, "Confidence of words, posteriors over the n-best list")


_LEGEND = (
    '<p class="quiet">In the lines below, <del>struck out</del> letters were missed, <ins>doubly '
    'underlined</ins> ones inserted, and <span class="changed">waved</span> ones substituted. '
    "Click on a word to hear it.</p>"
)


def _example(example: Example, alphabet: Alphabet, recordings: Mapping[str, Utterance]) -> str:
    r, errors = example.result, example.result.errors()
    reference, decoded = marked(r)
    text = f"{r.id}: spectrogram, and posteriors of the letters with word boundaries"

    def draw(figure):
        figures.utterance(figure, example.features_TxM, example.logits_SxV, alphabet, r.words)

    facts = f"{example.reason} · LER {errors.ler:.1%}, WER {errors.wer:.1%} · {r.seconds:.1f} s · {r.source}"
    picture = report.figure(draw, text)
    return (
        f'<article><h3>{escape(r.id)}</h3><p class="quiet">{escape(facts)}</p>'
        f'<dl class="said"><dt>reference</dt><dd{report.direction(r.expected)}>{reference}</dd>'
        f"<dt>decoded</dt><dd{report.direction(r.best)}>{decoded}</dd></dl>"
        f'{_sound(recordings.get(r.id))}<div class="scroll wide">{picture}</div></article>\n'
    )


def _sound(recording: Utterance | None) -> str:
    try:
        if recording is None:
            raise audio.AudioError("the data do not name the recording; give a manifest with --recordings", "")
        return report.audio(audio.load(recording.audio, recording.start, recording.end), audio.SAMPLE_RATE)
    except audio.AudioError as error:
        return f'<p class="quiet">No sound: {escape(str(error))}</p>'


def marked(r: Result) -> tuple[str, str]:
    """The reference and the decoded text as HTML: differences marked, decoded words clickable."""
    reference, decoded = ["missed"] * len(r.expected), ["inserted"] * len(r.best)
    for i, j in metrics.alignment(r.expected, r.best):
        if i is not None and j is not None:
            reference[i] = decoded[j] = "same" if r.expected[i] == r.best[j] else "changed"
    words, start = [], 0
    for number, word in enumerate(r.best.split(" ")):
        end = start + len(word)
        words += [
            _click(r, number, _tagged(word, decoded[start:end])),
            _tagged(r.best[end : end + 1], decoded[end : end + 1]),
        ]
        start = end + 1
    return _tagged(r.expected, reference), "".join(words)


_TAGS = {
    "same": "{}",
    "missed": "<del>{}</del>",
    "inserted": "<ins>{}</ins>",
    "changed": '<span class="changed">{}</span>',
}


def _tagged(text: str, kinds: Sequence[str]) -> str:
    groups = itertools.groupby(zip(kinds, text, strict=True), key=lambda pair: pair[0])
    return "".join(_TAGS[kind].format(escape("".join(letter for _, letter in group))) for kind, group in groups)


def _click(r: Result, number: int, content: str) -> str:
    if not r.words:
        return content
    word = r.words[number]
    sure = "" if word.confidence is None else f", confidence {word.confidence:.0%}"
    about = f"{word.start:.2f} to {word.end:.2f} s{sure}"
    return (
        f'<button type="button" class="word" data-start="{word.start:.3f}" data-end="{word.end:.3f}" title="{about}">'
        f"{content}</button>"
    )


def confusions(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> Counter[tuple[str, str]]:
    """Counts pairs of (reference, decoded) symbols over pairs of reference and hypothesis.

    A decoded "" is a deletion, a reference "" an insertion. Strings are compared by letters, lists by words.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for reference, decoded in pairs:
        steps = metrics.alignment(reference, decoded)
        counts.update(("" if i is None else reference[i], "" if j is None else decoded[j]) for i, j in steps)
    return counts
