"""Beam search on several cores, in processes that start once and never import JAX."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding.beam import BeamConfig, Decoder, LanguageModel, Transcript
from w2l_jax.errors import UserError
from w2l_jax.processes import WorkerDiedError, WorkerPool


class DecoderPool:
    """A context manager with `workers` decoding processes; with one worker it decodes in this process.

    Each process maps the language model's file, of which the machine's memory then holds one copy. The transcripts
    are the same for any number of workers.
    """

    def __init__(
        self, alphabet: Alphabet, lm_folder: Path | str | None, config: BeamConfig = BeamConfig(), workers: int = 1
    ):
        """Loads the language model here first, so that a bad one is a UserError at once."""
        if workers < 1:
            raise UserError(f"{workers} decoding workers; there must be at least 1")
        self.config = config
        self._work = _Work(alphabet, lm_folder)
        self._work((np.zeros((0, alphabet.size)), config))
        self._pool = WorkerPool(_Work(alphabet, lm_folder), workers) if workers > 1 else None

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(self, *_):
        if self._pool:
            self._pool.__exit__()

    def decode(self, logits: Iterable[np.ndarray], config: BeamConfig | None = None) -> Iterator[Transcript]:
        """Yields the transcript of each utterance's logits [S, V], in order, reading a few utterances ahead.

        `config` replaces the pool's options for this call (tuning tries many). Raises what `Decoder.decode` raises.
        """
        # float32, because a worker without JAX's own types could not unpack bfloat16.
        tasks = ((np.asarray(logits_SxV, np.float32), config or self.config) for logits_SxV in logits)
        try:
            yield from self._pool.in_order(tasks) if self._pool else map(self._work, tasks)
        except WorkerDiedError:
            raise UserError(
                "a decoding process was killed, most likely for want of memory; use fewer --workers or a smaller "
                "language model"
            ) from None


class _Work:
    """One process's language model, read at its first task, and its decoder for the options last used."""

    def __init__(self, alphabet: Alphabet, lm_folder: Path | str | None):
        self._alphabet, self._lm_folder = alphabet, lm_folder
        self._lm: LanguageModel | None = None
        self._decoder: Decoder | None = None

    def __call__(self, task: tuple[np.ndarray, BeamConfig]) -> Transcript:
        logits_SxV, config = task
        if self._lm is None and self._lm_folder is not None:
            self._lm = LanguageModel(self._lm_folder)
        if self._decoder is None or self._decoder.config != config:
            self._decoder = Decoder(self._alphabet, self._lm, config)
        return self._decoder.decode(logits_SxV)
