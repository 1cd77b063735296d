"""Training metrics in metrics.jsonl, TensorBoard and the terminal."""

import json
import math
import os
from pathlib import Path
from typing import Any

from w2l_jax.errors import UserError
from w2l_jax.files import write_atomically


class MetricsLog:
    """Appends to `metrics.jsonl` and TensorBoard; opening it at a step drops all later lines.

    Without a folder nothing is written, since of several processes only one writes.
    """

    def __init__(self, folder: Path | None, step: int):
        self.path = Path(os.devnull) if folder is None else folder / "metrics.jsonl"
        if folder is None:
            self._file, self._board = self.path.open("w"), None
            return
        if self.path.exists():
            kept = [line for line in self.path.read_bytes().splitlines() if _step_of(line) <= step]
            write_atomically(self.path, b"".join(line + b"\n" for line in kept))
        self._file = self.path.open("a", encoding="utf-8")
        try:
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)
        except ImportError:  # training machines may lack it; metrics.jsonl holds the same numbers
            self._board = None

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Adds a line `{"kind", "step", …}`, null for what is not finite; numbers also go to TensorBoard."""
        record = {name: None if _undefined(value) else value for name, value in values.items()}
        line = json.dumps({"kind": kind, "step": step, **record}, ensure_ascii=False, allow_nan=False)
        self._file.write(line + "\n")
        if self._board:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def flush(self) -> None:
        """Flushes everything to disk."""
        self._file.flush()
        if self._board:
            self._board.flush()

    def close(self) -> None:
        """Ends the log."""
        self._file.close()
        if self._board:
            self._board.close()


def read(folder: Path) -> tuple[dict[str, Any], ...]:
    """The lines of `metrics.jsonl` in a run folder, NaN for null; a line still being written is ignored."""
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    complete = [line for line in lines if line.endswith(b"\n")]
    try:
        records = [dict(json.loads(line.decode())) for line in complete]
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}); resuming the run removes what is") from None
    return tuple({k: math.nan if v is None else v for k, v in record.items()} for record in records)


def _undefined(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _step_of(line: bytes) -> float:
    """A line truncated by a kill counts as last."""
    try:
        return float(json.loads(line.decode())["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf
