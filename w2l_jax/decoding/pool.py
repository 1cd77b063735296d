"""Beam search on several cores, in processes that start once and never import JAX."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding.beam import BeamConfig, Transcript
from w2l_jax.decoding.decoder import Decoder
from w2l_jax.errors import UserError
from w2l_jax.lm.language_model import LanguageModel
from w2l_jax.workers import WorkerDiedError, WorkerPool


class DecoderPool:
    """A context manager with `workers` decoding processes; with one worker it decodes in this process.

    The processes map the language model's file, so that memory holds one copy. Transcripts do not depend on the number
    of workers.
    """

    def __init__(
        self,
        alphabet: Alphabet,
        lm_folder: Path | str | None,
        config: BeamConfig = BeamConfig(),
        workers: int = 1,
        hot_words: Mapping[str, float] = MappingProxyType({}),
    ):
        """Loads the language model and compiles the search here first, so that a bad option raises at once."""
        if workers < 1:
            raise UserError(f"{workers} decoding workers; there must be at least 1")
        self.config = config
        self._work = _Work(alphabet, lm_folder, dict(hot_words))
        self._work((np.zeros((0, alphabet.size)), config, 1))
        self._pool = WorkerPool(_Work(alphabet, lm_folder, dict(hot_words)), workers) if workers > 1 else None

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(self, *_):
        if self._pool:
            self._pool.__exit__()

    def decode(self, logits: Iterable[np.ndarray], config: BeamConfig | None = None) -> Iterator[Transcript]:
        """Yields the transcript of each utterance's logits [S, V], in order, reading a few utterances ahead.

        `config` overrides the pool's options for this call. Raises as `Decoder.decode` does.
        """
        return (nbest[0] for nbest in self.nbest(logits, 1, config))

    def nbest(
        self, logits: Iterable[np.ndarray], count: int, config: BeamConfig | None = None
    ) -> Iterator[list[Transcript]]:
        """Yields up to `count` transcripts of each utterance (`Decoder.nbest`), otherwise as `decode`."""
        # float32: a worker without JAX cannot unpack bfloat16.
        tasks = ((np.asarray(logits_SxV, np.float32), config or self.config, count) for logits_SxV in logits)
        try:
            yield from self._pool.in_order(tasks) if self._pool else map(self._work, tasks)
        except WorkerDiedError:
            raise UserError("a decoding process was killed, probably for lack of memory; use fewer workers") from None


class _Work:
    """A worker's language model, read at its first task, and its decoder for the latest options."""

    def __init__(self, alphabet: Alphabet, lm_folder: Path | str | None, hot_words: dict[str, float]):
        self._alphabet, self._lm_folder, self._hot_words = alphabet, lm_folder, hot_words
        self._lm: LanguageModel | None = None
        self._decoder: Decoder | None = None

    def __call__(self, task: tuple[np.ndarray, BeamConfig, int]) -> list[Transcript]:
        logits_SxV, config, count = task
        if self._lm is None and self._lm_folder is not None:
            self._lm = LanguageModel(self._lm_folder)
        if self._decoder is None or self._decoder.config != config:
            self._decoder = Decoder(self._alphabet, self._lm, config, self._hot_words)
        return self._decoder.nbest(logits_SxV, count)
