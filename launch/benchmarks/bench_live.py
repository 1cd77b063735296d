"""Live recognition: its cost, the latency of words, and its error rate compared with whole recordings."""

import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

import w2l_jax
from benchmarks import BenchmarkOptions, Report, Table
from w2l_jax import audio, features, model
from w2l_jax.corpora import manifest
from w2l_jax.incoming import STEP_SECONDS
from w2l_jax.metrics import edit_distance
from w2l_jax.model import ModelConfig
from w2l_jax.recognizer import Recognizer
from w2l_jax.text import clean

_BURST, _PAUSE = 2.5, 1.0  # seconds of syllable-like sound, and of silence
_PAUSES = (0.0, 1.5, 6.0)  # seconds between the utterances of --data


def run(options: BenchmarkOptions, report: Report) -> Sequence[Table]:
    """Streams `--minutes` of sound as fast as it is recognised, with the included network and with one of full size.

    With `--data`, a manifest, also `--limit` of its utterances in a row, compared with the whole recording.
    """
    english = w2l_jax.load(options.run or "english", lm=options.lm)
    config = ModelConfig(options.model.width, options.model.top_width)
    outputs, mels = english.alphabet.size, english.features.mels
    params = jax.device_get(model.init(jax.random.key(0), config, outputs, mels))
    wide = Recognizer(params, english.alphabet, config, english.features)
    name = Path(options.run or "english").name
    rows, latencies = [], []
    for title, recognizer in ((name, english), (f"{config.width}/{config.top_width}, fresh weights", wide)):
        report(f"live: {title}")
        cores, slowest, shown, final = _measure(recognizer, options.minutes)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append((title, cores, 1000 * slowest, peak))
        if recognizer is english and shown:
            for kind, seconds in (("a word is shown", shown), ("the last words before a pause are final", final)):
                latencies.append((kind, len(seconds), *np.percentile(seconds, [5, 50, 95, 100]).tolist()))
    tables = [
        Table(
            f"Live: {options.minutes:g} minutes of sound",
            ("network", "of a core", "ms of a step, 99 %", "peak MB of the process"),
            tuple(rows),
            f"Processor time of all threads per second of sound; a step is {1000 * STEP_SECONDS:.0f} ms of it.",
        ),
        Table(
            f"Latency of words in seconds from their end, with {name}",
            ("event", "number", "5 %", "50 %", "95 %", "most"),
            tuple(latencies),
            "Counted in samples, so add the time of a step. Ends are those of the final words.",
        ),
    ]
    return [*tables, _against_whole(english, options, report)] if options.data else tables


def _against_whole(recognizer: Recognizer, options: BenchmarkOptions, report: Report) -> Table:
    """Letter error rates of the stream and of the whole recording, of utterances in random order with pauses."""
    utterances, rng = manifest.read(options.data), np.random.default_rng(0)
    sample = [utterances[i] for i in rng.permutation(len(utterances))[: options.limit]]
    spoken = [(audio.load(u.audio, u.start, u.end), clean(u.text, recognizer.alphabet)) for u in sample]
    reference = " ".join(text for _, text in spoken)
    rows = []
    for pause in _PAUSES:
        report(f"live: {options.data}, pauses of {pause:g} s")
        parts_N = [part_N for said_N, _ in spoken for part_N in (said_N, _background(said_N, pause, rng))]
        wave_N = np.concatenate(parts_N)
        streamed = [event.text for event in recognizer.stream(np.split(wave_N, range(2560, len(wave_N), 2560)))
                    if event.kind == "final"]  # fmt: skip
        whole, stream = recognizer.transcribe(wave_N).text, " ".join(streamed)
        rates = [100 * edit_distance(reference, text) / len(reference) for text in (whole, stream)]
        bare = reference.replace(" ", "")
        rates += [100 * edit_distance(bare, text.replace(" ", "")) / len(bare) for text in (whole, stream)]
        rows.append((pause, len(wave_N) / audio.SAMPLE_RATE / 60, *rates, len(streamed)))
    levels = [np.concatenate(list(features.levels([said_N], recognizer.features))) for said_N, _ in spoken]
    mean, deviation = (np.mean([f(level_TxM) for level_TxM in levels]) for f in (np.mean, np.std))
    without = ("whole, without spaces", "stream, without spaces")
    return Table(
        f"LER of {len(sample)} utterances of {options.data}, percent",
        ("pauses added, s", "minutes", "whole recording", "stream", *without, "final segments"),
        tuple(rows),
        f"Their features have a mean of {mean:.2f} and a deviation of {deviation:.2f} before they are normalised.",
    )


def _background(said_N: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Noise as loud as the quietest tenth of a second of a recording, in pieces of 10 ms."""
    loudness = said_N[: len(said_N) // 160 * 160].reshape(-1, 160).std(axis=1)
    level = np.sqrt(np.mean(np.sort(loudness)[:10] ** 2)) if len(loudness) else 0.0
    return (level * rng.standard_normal(round(seconds * audio.SAMPLE_RATE))).astype(np.float32)


def _measure(recognizer: Recognizer, minutes: float) -> tuple[float, float, list[float], list[float]]:
    """Processor time per second of sound, that of the slowest steps, and the latencies of shown and final words."""
    steps: list[float] = []
    clock = 0.0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal clock
        rng = np.random.default_rng(0)
        size = round(STEP_SECONDS * audio.SAMPLE_RATE)
        while clock < 60 * minutes:
            at_N = clock + np.arange(size) / audio.SAMPLE_RATE
            loud_N = np.where(at_N % (_BURST + _PAUSE) < _BURST, 0.05 * np.abs(np.sin(5 * np.pi * at_N)), 1e-4)
            block_N = (loud_N * rng.standard_normal(size)).astype(np.float32)
            clock += STEP_SECONDS
            begun = time.process_time()
            yield block_N
            steps.append(time.process_time() - begun)

    shown: dict[int, tuple[str, float]] = {}
    provisional, final = [], []
    for event in recognizer.stream(blocks()):
        for number, word in enumerate(event.words):
            if event.kind == "provisional" and shown.get(number, ("", 0.0))[0] != word.word:
                shown[number] = word.word, clock
            if event.kind == "final" and shown.get(number, ("", 0.0))[0] == word.word:
                provisional.append(shown[number][1] - word.end)
        if event.kind == "final":
            final.append(clock - event.end)
            shown.clear()
    return sum(steps) / clock, float(np.percentile(steps, 99)), provisional, final
