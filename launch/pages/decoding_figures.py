"""The figures of decoding; each function fills a matplotlib Figure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration import Bin
from results import Result
from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding.recordings import Word
from w2l_jax.features import FRAME_SECONDS, OUTPUT_SECONDS

if TYPE_CHECKING:
    from tuning import Trial

_COLOURS = 24  # few, so that pictures are small


def letters(figure: Any, counts: Mapping[tuple[str, str], int]) -> None:
    """Of each letter of the reference (row), the percentage decoded as each other one (column)."""
    names = sorted({name for pair in counts for name in pair}, key=lambda name: (name == "", name))
    counts_SxH = np.array([[counts.get((reference, decoded), 0) for decoded in names] for reference in names], float)
    percent_SxH = 100 * counts_SxH / np.maximum(counts_SxH.sum(axis=1, keepdims=True), 1)
    axes = figure.subplots()
    # Correct letters would dominate the colour scale.
    picture = axes.imshow(np.where(np.eye(len(names)), np.nan, percent_SxH), cmap="viridis")
    for axis, nothing in ((axes.xaxis, "missed"), (axes.yaxis, "inserted")):
        axis.set_ticks(range(len(names)), [visible(name) or nothing for name in names])
    axes.tick_params(axis="x", rotation=90, length=0)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="decoded", ylabel="reference")
    figure.colorbar(picture, label="% of the letter of the reference", shrink=0.8)


def visible(name: str) -> str:
    """A letter or word with spaces made visible."""
    return name.replace(" ", "␣")


def lengths(figure: Any, results: Sequence[Result]) -> None:
    """Letter error rate over the length of an utterance, and over letters per second."""
    ler = 100 * np.array([r.errors().ler for r in results])
    seconds = np.array([r.seconds for r in results])
    speed = np.array([len(r.expected) for r in results]) / seconds
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, x, name in ((left, seconds, "seconds"), (right, speed, "letters per second")):
        axes.plot(x, ler, ".", alpha=0.35, markersize=4)
        parts = np.array_split(np.argsort(x, kind="stable"), min(8, len(x)))
        axes.plot([x[p].mean() for p in parts], [ler[p].mean() for p in parts], "o-", label="means of eighths")
        axes.set_xlabel(name)
        axes.grid(alpha=0.2)
    left.set_ylabel("LER (%)")
    left.legend(frameon=False)


def reliability(figure: Any, curves: Mapping[str, Sequence[Bin]]) -> None:
    """The fraction of correct words over confidence, one curve per calibration."""
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], ":", color="gray", label="perfect calibration")
    for (name, bins), marker in zip(curves.items(), "s^ov", strict=False):
        axes.plot([100 * b.confidence for b in bins], [100 * b.right for b in bins], f"{marker}-", label=name)
    axes.set(xlabel="confidence (%)", ylabel="correct words (%)", xlim=(0, 100), ylim=(0, 100))
    axes.grid(alpha=0.2)
    axes.legend(frameon=False)


def utterance(
    figure: Any, features_TxM: np.ndarray, logits_SxV: np.ndarray, alphabet: Alphabet, words: Sequence[Word]
) -> None:
    """The spectrogram, and below it the posterior of each letter over time, with the bounds of the words."""
    posteriors_SxV = np.exp(logits_SxV - logits_SxV.max(axis=1, keepdims=True))
    posteriors_SxC = (posteriors_SxV / posteriors_SxV.sum(axis=1, keepdims=True))[:, alphabet.first :]
    shown = [i for i in range(len(alphabet.characters)) if posteriors_SxC[:, i].max() > 0.1] or [0]
    seconds = len(posteriors_SxC) * OUTPUT_SECONDS
    heights = (1.4, 0.15 * len(shown))
    figure.set_size_inches(max(6.0, 1.6 * seconds), sum(heights) + 0.7)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    # Half of the frames and bands suffice at this size.
    frames, mels = (2 * (size // 2) for size in features_TxM.shape)
    halved = features_TxM[:frames, :mels].astype(np.float32).reshape(frames // 2, 2, mels // 2, 2).mean(axis=(1, 3))
    _picture(top, halved.T, np.quantile(halved, 0.02), np.quantile(halved, 0.995), frames * FRAME_SECONDS)
    top.set(yticks=[], ylabel="mel bands")
    _picture(bottom, posteriors_SxC[:, shown[::-1]].T, 0, 1, seconds)
    bottom.set_yticks(np.arange(len(shown)) + 0.5, [visible(alphabet.characters[i]) for i in shown[::-1]], fontsize=8)
    bottom.tick_params(axis="y", length=0)
    bottom.set(xlabel="seconds", ylabel="posterior")
    for word in words:
        for axes in (top, bottom):
            for time in (word.start, word.end):
                axes.axvline(time, color="white", linewidth=0.7, linestyle=":")
        place = {"transform": top.get_xaxis_transform(), "ha": "center", "va": "bottom"}
        top.text((word.start + word.end) / 2, 1.02, word.word, fontsize=8, **place)


def _picture(axes: Any, values_YxX: np.ndarray, low: float, high: float, seconds: float) -> None:
    scaled = np.clip((values_YxX - low) / max(high - low, 1e-6), 0, 1)
    style = {"origin": "lower", "aspect": "auto", "cmap": "magma", "extent": (0, seconds, 0, len(values_YxX))}
    axes.imshow(np.round(scaled * _COLOURS) / _COLOURS, vmin=0, vmax=1, **style)


def trials(figure: Any, trials: Sequence["Trial"], best: "Trial") -> None:
    """LER + WER over both weights, one plot per beam width, with every trial; the first is the paper's."""
    beams = sorted({trial.config.beam_width for trial in trials})
    costs = np.array([100 * trial.cost for trial in trials])
    # The worst trials would take most of the colour scale.
    levels = np.linspace(costs.min(), np.quantile(costs, 0.8), 13)
    picture, plots = None, figure.subplots(1, len(beams), sharex=True, sharey=True, squeeze=False)[0]
    for axes, beam in zip(plots, beams, strict=True):
        here = [trial for trial in trials if trial.config.beam_width == beam]
        points_Nx3 = np.array([[t.config.lm_weight, t.config.word_bonus, 1.0] for t in here])
        x, y, _ = points_Nx3.T
        if np.linalg.matrix_rank(points_Nx3) == 3 and levels[0] < levels[-1]:
            z = [100 * trial.cost for trial in here]
            picture = axes.tricontourf(x, y, z, levels=levels, extend="both", cmap="viridis_r")
        axes.plot(x, y, ".", color="black", markersize=2)
        for trial, marker, name in ((trials[0], "s", "the paper's"), (best, "*", "lowest")):
            if trial.config.beam_width == beam:
                style = {"markersize": 12, "markerfacecolor": "white", "markeredgecolor": "black", "linestyle": ""}
                axes.plot(trial.config.lm_weight, trial.config.word_bonus, marker, label=name, **style)
                axes.legend()
        axes.set(title=f"beam {beam}", xlabel="lm_weight", ylabel="word_bonus")
    if picture:
        figure.colorbar(picture, ax=plots, label="LER + WER (%)", format="%.1f")
