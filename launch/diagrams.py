"""Draw the diagrams of the documentation: recording to text, freezing, transfer against scratch."""

import csv
import dataclasses
from collections import defaultdict
from pathlib import Path

import matplotlib.patches
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import cli
from w2l_jax.model import LAYERS, ModelConfig, layers

DESCRIPTION = """Draw the diagrams of README and docs, as PNG files.

  python launch/diagrams.py --out=docs/figures

The learning curves come from the report of reproduce.py in --report.
"""
INK, PALE, BLUE, ORANGE, GREY = "#222222", "#e8eef4", "#0072b2", "#d55e00", "#808080"
DPI = 100


@dataclasses.dataclass(frozen=True)
class Options:
    out: Path = Path("docs/figures")
    """Folder to write."""
    report: Path = Path("docs/paper/real")
    """Report of reproduce.py with the learning curves (figures/figure3.csv and figure5.csv)."""


def main() -> None:
    options = cli.parse(Options, description=DESCRIPTION)
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = {
        "pipeline": pipeline(),
        "freezing": freezing(8),
        "transfer": transfer(options.report / "figures"),
    }
    for name, figure in pictures.items():
        path = options.out / f"{name}.png"
        figure.savefig(path, dpi=DPI, metadata={"Software": None})
        print(path)


def pipeline() -> Figure:
    """From a recording to text: the output of each step, and its module."""
    steps = (
        ("recording", "any format,\nrate, length", ""),
        ("waveform", "16 kHz, mono\n[N]", "audio.py"),
        ("features", "128 mel bands,\n1 frame per 8 ms\n[T, 128]", "features.py"),
        ("logits", "1 row per 16 ms,\nblank + characters\n[S, V]", "model.py"),
        ("text", "words, times,\nconfidences", "decoding/"),
    )
    figure, axes = _canvas(10, 2.6, (0, 10), (0, 2.6))
    for i, (name, content, module) in enumerate(steps):
        x = 0.1 + 2.05 * i
        _box(axes, x, 0.75, 1.55, 1.35, PALE)
        axes.text(x + 0.775, 1.83, name, ha="center", va="center", fontsize=12, weight="bold", color=INK)
        axes.text(x + 0.775, 1.22, content, ha="center", va="center", fontsize=9, color=INK)
        if i:
            _arrow(axes, x - 0.48, 1.42, x - 0.03, 1.42, INK)
            axes.text(x - 0.25, 0.55, module, ha="center", va="center", fontsize=10, color=BLUE, family="monospace")
    axes.text(8.05, 0.2, "greedy, or a beam search\nwith a KenLM language model", ha="center", va="center",
              fontsize=9, color=INK)  # fmt: skip
    axes.text(
        0.1, 2.4, "w2l_jax.load(…).transcribe(recording)", va="center", fontsize=11, family="monospace", color=INK
    )
    return figure


def freezing(k: int) -> Figure:
    """The computed part of an update with the lowest `k` layers frozen, layer by layer."""
    columns = (("forward", 3.9), ("input gradient", 5.5), ("weight gradient", 7.1), ("Adam's state", 8.7))
    figure, axes = _canvas(10, 5.8, (0, 10), (-0.6, 13.2))
    axes.text(0.1, 12.7, f"One update with k = {k}: layers 1 to {k} frozen", fontsize=12, weight="bold", va="center")
    for name, x in columns:
        axes.text(x + 0.5, 11.75, name, ha="center", va="center", fontsize=10, color=INK)
    for number, layer in enumerate(layers(ModelConfig(), 29), start=1):
        y, frozen = number - 0.35, number <= k
        size = f"{layer.channels_in} → {layer.channels_out}, kernel {layer.kernel}"
        axes.text(0.1, y + 0.35, f"{number}", fontsize=10, va="center", weight="bold", color=GREY if frozen else BLUE)
        axes.text(0.5, y + 0.35, size, fontsize=10, va="center", color=INK)
        computed = (True, number > k + 1, not frozen, not frozen)
        for (_, x), done in zip(columns, computed, strict=True):
            _box(axes, x, y, 1.0, 0.7, BLUE if done else "white", GREY if not done else BLUE)
            if not done:
                axes.text(x + 0.5, y + 0.35, "none", ha="center", va="center", fontsize=9, color=GREY)
    axes.plot((0.1, 9.8), (k + 0.5, k + 0.5), color=ORANGE, lw=1.5, ls="--")
    axes.text(9.8, -0.35, "blue is computed or stored; dashed: the gradient stops here", ha="right", fontsize=9,
              va="center", color=INK)  # fmt: skip
    assert number == LAYERS
    return figure


def transfer(folder: Path) -> Figure:
    """Dev LER over updates of German from English (k = 0, k = 8) and from scratch; thin lines are single seeds."""
    curves = _curves(folder / "figure3.csv") | _curves(folder / "figure5.csv")
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for network, label, colour in (
        ("from scratch", "from scratch", GREY),
        ("k = 8", "from English, 8 layers frozen", ORANGE),
        ("k = 0", "from English, all layers trained", BLUE),
    ):
        seeds = curves[network]
        updates = sorted(next(iter(seeds.values())))
        for curve in seeds.values():
            axes.plot(updates, [curve[update] for update in updates], color=colour, lw=0.7, alpha=0.6)
        mean = [sum(curve[update] for curve in seeds.values()) / len(seeds) for update in updates]
        axes.plot(updates, mean, color=colour, lw=2.2, label=f"{label}: {mean[-1]:.1f} % at the end")
    axes.set(xlabel="updates of 16 utterances", ylabel="dev LER, greedy (%)", ylim=(30, 102), xlim=(0, None))
    axes.set_title("German, 1.6 hours of one reader; thick: mean of three seeds", fontsize=10, loc="left")
    axes.grid(color="#eeeeee")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _curves(path: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Dev LER in percent by network, seed and update."""
    curves: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] == "dev":
                curves[row["network"]][row["seed"]][int(row["update"])] = float(row["LER (%)"])
    return curves


def _canvas(width: float, height: float, xlim: tuple[float, float], ylim: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=xlim, ylim=ylim)
    axes.axis("off")
    return figure, axes


def _box(axes: Axes, x: float, y: float, width: float, height: float, colour: str, edge: str = "#9fb4c8") -> None:
    axes.add_patch(matplotlib.patches.Rectangle((x, y), width, height, facecolor=colour, edgecolor=edge, lw=1))


def _arrow(axes: Axes, x: float, y: float, to_x: float, to_y: float, colour: str) -> None:
    axes.annotate("", xy=(to_x, to_y), xytext=(x, y), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.5})


if __name__ == "__main__":
    cli.run(main)
