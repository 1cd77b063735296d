"""Times one search in a process without JAX and network."""

import dataclasses
import re
import resource
import statistics
import time
from pathlib import Path

import numpy as np

from w2l_jax.alphabet import Alphabet
from w2l_jax.decoding.beam import BeamConfig
from w2l_jax.decoding.decoder import Decoder
from w2l_jax.decoding.greedy import greedy


@dataclasses.dataclass(frozen=True)
class Search:
    """A beam search of this width with the language model of folder `lm` (or none), greedy without a width."""

    alphabet: Alphabet
    width: int = 0
    lm: str = ""

    @property
    def name(self) -> str:
        """What a table calls it."""
        return f"beam {self.width}{', language model' if self.lm else ''}" if self.width else "greedy"

    def __call__(self, task: tuple[list[np.ndarray], int]) -> tuple[float, float, list[str]]:
        """Decodes a list of logits [S, V] `repetitions` times, after one run for compilation.

        Returns the median of the processor seconds, the process's peak in MB, and the texts.
        """
        logits, repetitions = task
        decoder = Decoder(self.alphabet, self.lm or None, BeamConfig(beam_width=self.width)) if self.width else None
        seconds = []
        for _ in range(1 + repetitions):
            if decoder and decoder.lm:
                decoder.lm.forget(limit=-1)  # the cache of the previous round
            started = time.process_time()
            texts = [decoder.decode(x_SxV).text if decoder else greedy(x_SxV, self.alphabet) for x_SxV in logits]
            seconds.append(time.process_time() - started)
        return statistics.median(seconds[1:]), _peak(), texts


def _peak() -> float:
    """MB; getrusage would include the parent process."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
