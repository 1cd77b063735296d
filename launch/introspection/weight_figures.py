"""The figures of introspection; each function fills a matplotlib Figure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from introspection.weight_changes import COMPARED, FilterNumbers, Findings, Histograms
from w2l_jax.audio import SAMPLE_RATE
from w2l_jax.features import FRAME_SECONDS

_COLOURS = 16  # few, so that pictures are small
_DPI = 110  # of the PNG: there a weight is a pixel
_CHANGE, _WEIGHT = "magma", "RdBu_r"
_HZ = (250, 500, 1000, 2000, 4000)


def distributions(figure: Any, findings: Findings) -> None:
    """Figure 7: per layer the distribution of weights (left) and of their absolute changes (right)."""
    figure.set_size_inches(9, 1.5 + len(COMPARED))
    plots = figure.subplots(len(COMPARED), 2, sharex="col", sharey=True)
    final = findings.stages[-1]
    _histograms(plots[:, 0], findings.weights, {findings.base: "C0", final: "C1"})
    stages = {name: f"C{i}" for i, name in enumerate(findings.stages[::-1], start=1)}
    _histograms(plots[:, 1], findings.changes, stages)
    plots[-1, 0].set_xlabel("weight")
    plots[-1, 1].set_xlabel("absolute change of a weight")
    most = max(row.weights for row in findings.layers)
    lowest = -math.ceil(math.log10(most))
    plots[0, 0].set(ylim=(lowest, 0.3), yticks=range(0, lowest - 1, -2))
    for layer, axes in zip(COMPARED, plots[:, 0], strict=True):
        note = {1: " (input)", COMPARED[-1]: " (topmost)"}.get(layer, "")
        axes.set_title(f"layer {layer}{note}", loc="left", fontsize=9)
    figure.supylabel("log10 of the fraction of weights in a bin", fontsize=9)


def _histograms(plots: Sequence[Any], histograms: Histograms, colours: Mapping[str, str]) -> None:
    for index, axes in enumerate(plots):
        for name, colour in colours.items():
            fractions = histograms.fractions[name][index]
            heights = np.log10(fractions, where=fractions > 0, out=np.full(len(fractions), -99.0))
            first = name == next(iter(colours))
            style = {"fill": True, "alpha": 0.35} if first else {"linewidth": 1.2}
            axes.stairs(heights, histograms.edges, baseline=-99, color=colour, label=name, **style)
        axes.grid(alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    plots[0].legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.15), fontsize=9)


def filters(figure: Any, findings: Findings, shown: Sequence[tuple[str, FilterNumbers]]) -> None:
    """Figure 8: for each filter its absolute change, then its weights in the adapted and in the base network.

    Changes share one scale; weights have one per filter.
    """
    figure.set_size_inches(10, 0.4 + 2.5 * len(shown))
    reach = max(row.largest_change for _, row in shown) or 1.0
    for (why, row), axes in zip(shown, figure.subplots(len(shown), 3, sharey="row", squeeze=False), strict=True):
        base_MxK, adapted_MxK = _pictures(findings, row)
        span = float(np.abs([base_MxK, adapted_MxK]).max()) or 1.0
        change = _picture(axes[0], np.abs(adapted_MxK - base_MxK), _CHANGE, 0, reach)
        _picture(axes[1], adapted_MxK, _WEIGHT, -span, span)
        weight = _picture(axes[2], base_MxK, _WEIGHT, -span, span)
        axes[0].set_title(f"filter {row.filter}, {why}\nlargest change {row.largest_change:.3g}", fontsize=9)
        axes[1].set_title(findings.stages[-1], fontsize=9)
        axes[2].set_title(findings.base, fontsize=9)
        axes[0].set_ylabel("frequency (Hz)")
        figure.colorbar(change, ax=axes[0], label="absolute change")
        figure.colorbar(weight, ax=axes[2], label="weight")
    for plot in axes:
        plot.set_xlabel("time (ms)")


def _pictures(findings: Findings, row: FilterNumbers) -> tuple[np.ndarray, np.ndarray]:
    kernels = findings.base_KxMxC, findings.adapted_KxMxC
    base_MxK, adapted_MxK = (kernel_KxMxC[..., row.filter - 1].T for kernel_KxMxC in kernels)
    return base_MxK, adapted_MxK


def _picture(axes: Any, values_MxK: np.ndarray, colours: str, low: float, high: float) -> Any:
    import librosa

    mels, frames = values_MxK.shape
    extent = (0, 1000 * FRAME_SECONDS * frames, 0.5, mels + 0.5)
    style = {"origin": "lower", "aspect": "auto", "interpolation": "none", "extent": extent}
    # Bands are evenly spaced on the mel scale: band i of 1 to `mels` at i / (mels + 1).
    places = librosa.hz_to_mel(_HZ) / librosa.hz_to_mel(SAMPLE_RATE / 2) * (mels + 1)
    axes.set_yticks(places, [f"{hz}" for hz in _HZ])
    return axes.imshow(values_MxK, cmap=colours, vmin=low, vmax=high, **style)


_GAP, _HEAD, _TOP, _ACROSS = 3, 16, 60, 7  # pixels, and filters side by side


def contact_sheet(figure: Any, findings: Findings) -> None:
    """Every filter of the input layer, the most changed first: change, adapted, base, a pixel for each weight."""
    from matplotlib import colormaps

    frames, mels, count = findings.base_KxMxC.shape
    across = min(_ACROSS, count)
    cell_width, cell_height = 3 * (frames + _GAP) + 3 * _GAP, mels + _HEAD + _GAP
    height, width = _TOP + -(-count // across) * cell_height, max(across * cell_width, 760)
    figure.set_size_inches(width / _DPI, height / _DPI)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))
    sheet_YxXx4 = np.zeros((height, width, 4), np.uint8)
    reach = findings.filters[0].largest_change or 1.0
    for place, row in enumerate(findings.filters):
        x, y = place % across * cell_width, _TOP + place // across * cell_height + _HEAD
        base_MxK, adapted_MxK = _pictures(findings, row)
        span = float(np.abs([base_MxK, adapted_MxK]).max()) or 1.0
        parts = (
            (_CHANGE, np.abs(adapted_MxK - base_MxK) / reach),
            (_WEIGHT, 0.5 + adapted_MxK / (2 * span)),
            (_WEIGHT, 0.5 + base_MxK / (2 * span)),
        )
        for part, (colours, scaled_MxK) in enumerate(parts):
            left = x + part * (frames + _GAP)
            pixels = colormaps[colours](np.round(scaled_MxK[::-1] * _COLOURS) / _COLOURS, bytes=True)
            sheet_YxXx4[y : y + mels, left : left + frames] = pixels
        axes.text(x, y - 3, f"{row.filter}: {row.largest_change:.3g}", fontsize=8)
    axes.imshow(sheet_YxXx4, extent=(0, width, height, 0), interpolation="none", aspect="auto")
    _legend(figure, axes, findings, frames)


def _legend(figure: Any, axes: Any, findings: Findings, frames: int) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    size = figure.get_size_inches() * _DPI
    milliseconds = 1000 * FRAME_SECONDS * frames
    axes.text(0, 12, f"filter: largest change; {milliseconds:g} ms across, 0 to 8 kHz (mel) upwards", fontsize=8)
    axes.text(0, 26, f"left: change; middle: {findings.stages[-1]}; right: {findings.base}", fontsize=8)
    scales = (
        (_CHANGE, (0, findings.filters[0].largest_change or 1.0), "absolute change"),
        (_WEIGHT, (-1, 1), "weight"),
    )
    for index, (colours, limits, name) in enumerate(scales):
        place = ((size[0] - 280 + 150 * index) / size[0], 1 - 16 / size[1], 100 / size[0], 10 / size[1])
        bar = figure.colorbar(
            ScalarMappable(Normalize(*limits), colours), figure.add_axes(place), orientation="horizontal"
        )
        bar.set_label(name, fontsize=8, labelpad=1)
        bar.set_ticks(limits, labels=[f"{limit:.3g}" for limit in limits] if index == 0 else ["-max", "max"])
        bar.ax.tick_params(labelsize=8)
