"""Checkpoints written by a thread while training continues."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from w2l_jax.model import Params
from w2l_jax.run import Run


class Saver:
    """Writes the checkpoints of a run one by one; leaving the block waits for the last one.

    Errors of `Run.save` are raised by the next call here, or on leaving.
    """

    def __init__(self, run: Run):
        self._run = run
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._thread.shutdown(wait=True)
        if kind is None:
            self.check()

    def save(self, step: int, params: Params, opt_state: Any, meta: dict[str, Any], **options: Any) -> None:
        """Copies the arrays to the host, after the previous checkpoint is written, and returns; else as `Run.save`."""
        if self._writing:
            self._writing.result()
        # On a CPU these are views; the next update does not reuse them, since referenced arrays are not donated.
        arrays = jax.device_get((params, opt_state))
        self._writing = self._thread.submit(self._run.save, step, *arrays, meta, **options)

    def check(self) -> None:
        """Raises the error of writing the last checkpoint, if it has ended with one."""
        if self._writing and self._writing.done():
            self._writing.result()
