"""Compares runs on the same utterances: at equal updates, at equal training time, against a baseline."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results import RATES, percent
from w2l_jax import metrics
from w2l_jax.errors import UserError
from w2l_jax.files import read as read_text
from w2l_jax.files import replacing
from w2l_jax.metrics import Errors
from w2l_jax.run import Run
from w2l_jax.training import log

Row = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Decoded:
    """One run: the results of decode.py on the data, and its training metrics."""

    name: str
    records: dict[str, dict[str, Any]]
    """Utterance id → its line in decode.py's file."""
    errors: dict[str, dict[str, Errors]]
    """`greedy` and, if searched, `without_lm` and `beam` → utterance id → errors."""
    metrics: tuple[dict[str, Any], ...] = ()
    """The lines of metrics.jsonl."""

    @property
    def speakers(self) -> dict[str, str]:
        """Utterance id → speaker."""
        return {name: record["speaker"] for name, record in self.records.items()}

    @property
    def steps(self) -> int:
        """Updates made."""
        return max(line["step"] for line in self.metrics)

    @property
    def seconds(self) -> float:
        """Training time without evaluation, checkpoints and compilation."""
        return max(line["seconds"] for line in self.metrics if "seconds" in line)

    def curve(self, kind: str) -> list[dict[str, Any]]:
        """The lines of `kind`, such as train or dev."""
        return [line for line in self.metrics if line["kind"] == kind]


def read(folder: str | Path, data: str) -> Decoded:
    """Reads the results of `decode.py --run=<folder>` on `data` (a name such as `fr_dev`); UserError if missing."""
    run = Run.open(folder)
    path = run.folder / "decode" / f"{data}.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: missing; first: python launch/decode.py --run={run.folder} --data=<path of {data}>")
    return read_file(path, run.folder.name, log.read(run.folder))


def read_file(path: Path, name: str, metrics_lines: tuple[dict[str, Any], ...] = ()) -> Decoded:
    """Reads a file that decode.py wrote."""
    records = read_text(path, lambda text: [dict(json.loads(line)) for line in text.split("\n") if line])
    errors = {
        search: {r["id"]: metrics.utterance_errors(r["expected"], r[field]) for r in records}
        for search, field in _FIELDS.items()
        if all(field in r for r in records)
    }
    return Decoded(name, {r["id"]: r for r in records}, errors, metrics_lines)


def rates(runs: Sequence[Decoded]) -> list[Row]:
    """One row per run and search: updates, minutes, the four rates with their 95 % bootstrap intervals."""
    out = []
    for run in runs:
        for search, errors in run.errors.items():
            ids = sorted(errors)
            units, _ = metrics.resampling_units([run.speakers[i] for i in ids])
            sample = [errors[i] for i in ids]
            point, spans = dataclasses.asdict(metrics.rates(sample)), metrics.intervals(sample, units)
            start = {"run": run.name, "updates": f"{run.steps:,}", "minutes": f"{run.seconds / 60:.1f}"}
            cells = {title: percent(point[name], spans[name]) for name, title in RATES.items()}
            out.append({**start, "search": _SEARCHES[search], **cells})
    return out


def differences(runs: Sequence[Decoded], baseline: Decoded) -> list[Row]:
    """One row per run and search: its rates minus the baseline's, in percentage points with paired 95 % intervals."""
    out = []
    for run in runs:
        if run.name == baseline.name:
            continue
        for search in run.errors:
            mine, theirs = run.errors[search], baseline.errors.get(search)
            if theirs is None:
                continue
            if mine.keys() != theirs.keys():
                raise UserError(
                    f"{run.name} and {baseline.name} were decoded on different utterances; decode both again"
                )
            ids = sorted(mine)
            units, _ = metrics.resampling_units([run.speakers[i] for i in ids])
            a, b = [mine[i] for i in ids], [theirs[i] for i in ids]
            points = dataclasses.asdict(metrics.rates(a)), dataclasses.asdict(metrics.rates(b))
            spans = metrics.difference_intervals(a, b, units)
            cells = {title: _points(points[0][name] - points[1][name], spans[name]) for name, title in RATES.items()}
            out.append({"run": f"{run.name} − {baseline.name}", "search": _SEARCHES[search], **cells})
    return out


def at_equal_time(runs: Sequence[Decoded]) -> list[Row]:
    """Each run's last evaluation within the training time of the one that ended first (greedy, on its dev data)."""
    limit = min(run.seconds for run in runs)
    out = []
    for run in runs:
        lines = [line for line in run.curve("dev") if line["seconds"] <= limit + 1e-6]
        if lines:
            line = lines[-1]
            numbers = {"dev loss": f"{line['loss']:.1f}", "LER": f"{line['ler']:.1%}", "WER": f"{line['wer']:.1%}"}
            minutes = f"{line['seconds'] / 60:.1f}"
            out.append({"run": run.name, "updates": f"{line['step']:,}", "minutes": minutes, **numbers})
    return out


def units(runs: Sequence[Decoded]) -> str:
    """The resampling units of the intervals."""
    return metrics.resampling_units(list(runs[0].speakers.values()))[1]


_SEARCHES = {"greedy": "greedy", "without_lm": "without LM", "beam": "with LM"}
_FIELDS = {"greedy": "greedy", "without_lm": "without_lm", "beam": "predicted"}


def _points(difference: float, interval: tuple[float, float]) -> str:
    return f"{100 * difference:+.1f} [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"


def markdown(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    if not rows:
        return ""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def plot(runs: Sequence[Decoded], path: Path) -> None:
    """Writes a PNG: dev loss and dev LER over updates and over training time, one line per run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharey="row", layout="constrained")
    for run, marker in zip(runs, "osD^vPX*<>" * 10, strict=False):
        dev = run.curve("dev")
        for column, x in enumerate(([d["step"] for d in dev], [d["seconds"] / 60 for d in dev])):
            style = {"marker": marker, "markersize": 4, "linewidth": 1.5, "label": run.name}
            axes[0, column].plot(x, [d["loss"] for d in dev], **style)
            axes[1, column].plot(x, [100 * d["ler"] for d in dev], **style)
    axes[0, 0].set_ylabel("dev loss (nats per utterance)")
    axes[1, 0].set_ylabel("dev LER, greedy (%)")
    axes[1, 0].set_xlabel("updates")
    axes[1, 1].set_xlabel("training time (minutes)")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
