"""Training metrics in metrics.jsonl, TensorBoard and the terminal."""

import contextlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any

from w2l_jax.errors import UserError
from w2l_jax.files import write_atomically


class MetricsLog:
    """Appends to `metrics.jsonl` and TensorBoard; opening it at a step drops all later lines.

    Without a folder nothing is written, since of several processes only one writes.
    """

    def __init__(self, folder: Path | None, step: int):
        self.path, self._board = Path(os.devnull) if folder is None else folder / "metrics.jsonl", None
        if folder is None:
            self._file = self.path.open("w")
            return
        if self.path.exists():
            kept = [line for line in self.path.read_bytes().splitlines() if _step_of(line) <= step]
            write_atomically(self.path, b"".join(line + b"\n" for line in kept))
        self._file = self.path.open("a", encoding="utf-8")
        with contextlib.suppress(ImportError):  # training machines may lack it; metrics.jsonl holds the same numbers
            from tensorboardX import event_file_writer as events

            # Not SummaryWriter: when the disk is full its thread ends, and it waits for that thread forever.
            (folder / "tensorboard").mkdir(exist_ok=True)
            self._event, self._board = events.event_pb2.Event, events.EventsWriter(f"{folder}/tensorboard/events")
            if step:  # TensorBoard drops later steps
                self._board.write_event(self._event(step=step + 1, session_log={"status": 1}))

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Adds a line `{"kind", "step", …}`, null for what is not finite; numbers also go to TensorBoard."""
        undefined = {n for n, value in values.items() if isinstance(value, float) and not math.isfinite(value)}
        record = {name: None if name in undefined else value for name, value in values.items()}
        line = json.dumps({"kind": kind, "step": step, **record}, ensure_ascii=False, allow_nan=False)
        self._file.write(line + "\n")
        if self._board:
            numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
            summary = {"value": [{"tag": f"{kind}/{name}", "simple_value": v} for name, v in numbers.items()]}
            self._board.write_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Flushes everything to disk."""
        for file in filter(None, (self._file, self._board)):
            file.flush()

    def close(self) -> None:
        """Ends the log."""
        for file in filter(None, (self._file, self._board)):
            file.close()


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


def _step_of(line: bytes) -> float:
    """A line truncated by a kill counts as last."""
    try:
        return float(json.loads(line.decode())["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf
