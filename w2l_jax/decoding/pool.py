"""Beam search on several cores, in processes that start once and never import JAX."""

import collections
import concurrent.futures
import concurrent.futures.process
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding.beam import BeamConfig, Decoder, LanguageModel, Transcript
from w2l_jax.errors import UserError

# Utterances per worker that wait or are being decoded: enough that none idles, few enough for constant memory.
_QUEUED = 4


class DecoderPool:
    """A context manager with `workers` decoding processes; with one worker it decodes in this process.

    The processes are spawned, not forked, so it does not matter whether JAX runs here already; each maps the language
    model's file, of which the machine's memory then holds one copy. The transcripts are the same for any number of
    workers.
    """

    def __init__(
        self, alphabet: Alphabet, lm_folder: Path | str | None, config: BeamConfig = BeamConfig(), workers: int = 1
    ):
        """Loads the language model here first, so that a bad one is a UserError at once."""
        if workers < 1:
            raise UserError(f"{workers} decoding workers; there must be at least 1")
        self.config = config
        self._work = _Work(alphabet, None if lm_folder is None else LanguageModel(lm_folder))
        self._work.decode(np.zeros((0, alphabet.size)), config)
        self._workers = workers
        self._executor = None
        self._arguments = (alphabet, lm_folder)

    def __enter__(self) -> "DecoderPool":
        if self._workers > 1:
            spawn = multiprocessing.get_context("spawn")
            self._executor = concurrent.futures.ProcessPoolExecutor(self._workers, spawn, _start, self._arguments)
            with _without_main():
                for _ in range(self._workers):
                    self._executor.submit(int)
        return self

    def __exit__(self, *_):
        if self._executor:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def decode(self, logits: Iterable[np.ndarray], config: BeamConfig | None = None) -> Iterator[Transcript]:
        """Yields the transcript of each utterance's logits [S, V], in order, reading a few utterances ahead.

        `config` replaces the pool's options for this call (tuning tries many). Raises what `Decoder.decode` raises.
        """
        config = config or self.config
        if not self._executor:
            for logits_SxV in logits:
                yield self._work.decode(np.asarray(logits_SxV, np.float32), config)
            return
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        try:
            for logits_SxV in logits:
                # float32, because a worker without JAX's own types could not unpack bfloat16.
                waiting.append(self._executor.submit(_decode, np.asarray(logits_SxV, np.float32), config))
                if len(waiting) >= _QUEUED * self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except concurrent.futures.process.BrokenProcessPool:
            raise UserError(
                "a decoding process was killed, most likely for want of memory; use fewer workers or a smaller "
                "language model"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


class _Work:
    """One process's language model, and its decoders by options."""

    def __init__(self, alphabet: Alphabet, lm: LanguageModel | None):
        self._alphabet, self._lm = alphabet, lm
        self._decoder: Decoder | None = None

    def decode(self, logits_SxV: np.ndarray, config: BeamConfig) -> Transcript:
        if self._decoder is None or self._decoder.config != config:
            self._decoder = Decoder(self._alphabet, self._lm, config)
        return self._decoder.decode(logits_SxV)


_work: _Work


def _start(alphabet: Alphabet, lm_folder: Path | str | None) -> None:
    global _work
    # Ctrl-C is the parent's to handle; a parent that was killed leaves no processes behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = _Work(alphabet, None if lm_folder is None else LanguageModel(lm_folder))


def _end_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _decode(logits_SxV: np.ndarray, config: BeamConfig) -> Transcript:
    return _work.decode(logits_SxV, config)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hides the running script from processes that start meanwhile.

    A spawned process runs the parent's script again (all but `if __name__ == "__main__"`), for functions that may be
    defined there. Ours are not, and a launch script imports JAX.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    main.__spec__ = None
    if "__file__" in hidden:
        del main.__file__
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)
