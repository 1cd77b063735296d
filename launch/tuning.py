"""Tunes the weights of the beam search by local search on dev data, as in the paper (§6).

Minimises LER + WER, both means over utterances as in the paper. After a coarse grid, each trial draws one of the ten
best and takes a Gaussian step of each of its values.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from w2l_jax import metrics
from w2l_jax.dataset.store import Dataset
from w2l_jax.decoding.beam import BeamConfig
from w2l_jax.decoding.pool import DecoderPool
from w2l_jax.files import text_digest, write_atomically

_KEPT = 10
_STEPS = {"lm_weight": 0.25, "word_bonus": 0.6}
_BEAM_STEP = 0.8  # in positions in the list of beams
_GRID = {"lm_weight": (0.2, 0.6, 1.0, 1.4, 1.8), "word_bonus": (0.0, 2.5, 5.0, 7.5, 10.0)}


@dataclasses.dataclass(frozen=True)
class Trial:
    """A point of the search and its mean letter and word error rates over the utterances."""

    config: BeamConfig
    ler: float
    wer: float

    @property
    def cost(self) -> float:
        """The objective: LER + WER."""
        return self.ler + self.wer


def rank(trial: Trial) -> tuple[float, ...]:
    """Sorting key, best trial first; ties go to the narrower beam."""
    return trial.cost, trial.config.beam_width, trial.config.lm_weight, trial.config.word_bonus


def grid(beams: Sequence[int]) -> list[BeamConfig]:
    """The first trials: the paper's weights, and a coarse grid with the narrowest beam."""
    paper = BeamConfig(beam_width=min(beams, key=lambda beam: (abs(beam - BeamConfig.beam_width), beam)))
    points = [(weight, bonus) for weight in _GRID["lm_weight"] for bonus in _GRID["word_bonus"]]
    return [paper, *(BeamConfig(min(beams), weight, bonus) for weight, bonus in points)]


def search(
    evaluate: Callable[[BeamConfig], Trial], beams: Sequence[int], trials: int, seed: int = 0
) -> Iterator[Trial]:
    """Yields `trials` different trials, those of the grid first; the same ones for the same seed and evaluations."""
    rng = np.random.default_rng(seed)
    beams, first = sorted(set(beams)), grid(beams)
    tried: set[BeamConfig] = set()
    best: list[Trial] = []
    for number in range(trials):
        config = first[number] if number < len(first) else None
        while config is None or config in tried:
            config = _step(best[rng.integers(len(best))].config, beams, rng)
        tried.add(config)
        trial = evaluate(config)
        best = sorted([*best, trial], key=rank)[:_KEPT]
        yield trial


def _step(start: BeamConfig, beams: Sequence[int], rng: np.random.Generator) -> BeamConfig:
    weight, bonus = (getattr(start, name) + rng.normal(0, size) for name, size in _STEPS.items())
    place = round(beams.index(start.beam_width) + rng.normal(0, _BEAM_STEP))
    beam = beams[min(max(place, 0), len(beams) - 1)]
    # Three decimals, so that a trial read from its file equals the original.
    return BeamConfig(beam, round(max(weight, 0.0), 3), round(bonus, 3))


class Part(NamedTuple):
    """Some utterances of a dataset: ids, logits [S, V] and normalised transcripts."""

    ids: list[str]
    logits: list[np.ndarray]
    expected: list[str]


def split(dataset: Dataset, logits: Sequence[np.ndarray], count: int, seed: int) -> tuple[Part, Part]:
    """`count` utterances (0: all) to tune on, and the others; by a hash of (seed, id), so that 50 are a subset of
    100.
    """
    ids = [entry.id for entry in dataset.entries]
    ranked = sorted(range(len(ids)), key=lambda i: text_digest(f"{seed}:{ids[i]}"))
    selected = ranked[: count or len(ids)]
    used, others = (
        Part([ids[i] for i in part], [logits[i] for i in part], [dataset.entries[i].transcript for i in part])
        for part in (sorted(selected), sorted(set(ranked) - set(selected)))
    )
    return used, others


def measure(pool: DecoderPool, part: Part, config: BeamConfig) -> Trial:
    """Decodes `part` with `config`."""
    found = pool.decode(part.logits, config)
    errors = [metrics.utterance_errors(text, t.text) for text, t in zip(part.expected, found, strict=True)]
    total = metrics.rates(errors)
    return Trial(config, total.ler, total.wer)


class Trials:
    """Decodes the same utterances at each point; points in its file are not decoded again."""

    def __init__(self, pool: DecoderPool, part: Part, folder: Path, content: str):
        """Opens the file in `folder` for these utterances; `content` identifies the other inputs of the trials."""
        self._pool, self._part = pool, part
        key = text_digest(json.dumps([content, part.ids]))
        self._file = folder / f"trials-{key[:10]}.jsonl"
        self._known = _read(self._file)
        # Rewritten, so that new lines do not continue one that an interruption cut off.
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file, "".join(map(_line, self._known.values())))

    def __call__(self, config: BeamConfig) -> Trial:
        """The trial of `config`, from the file, or decoded and added to it."""
        if config not in self._known:
            self._known[config] = measure(self._pool, self._part, config)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(_line(self._known[config]))
        return self._known[config]


def _line(trial: Trial) -> str:
    return json.dumps({**dataclasses.asdict(trial.config), "ler": trial.ler, "wer": trial.wer}) + "\n"


def _read(file: Path) -> dict[BeamConfig, Trial]:
    known: dict[BeamConfig, Trial] = {}
    for line in file.read_bytes().splitlines() if file.is_file() else []:
        try:
            row = json.loads(line)
            ler, wer = row.pop("ler"), row.pop("wer")
            known[BeamConfig(**row)] = Trial(BeamConfig(**row), ler, wer)
        except (ValueError, KeyError, TypeError):
            break  # a line cut off by an interruption
    return known


def table(found: Sequence[Trial], used: int, checks: Sequence[Trial], others: int) -> list[dict[str, str]]:
    """A row for each of the ten best trials and for the paper's weights, which are `found[0]`.

    `used` and `others` count utterances; `checks` are trials of some of these weights on the others, if any.
    """
    by_config = {trial.config: trial for trial in checks}
    rows = []
    for trial in dict.fromkeys([*sorted(found, key=rank)[:_KEPT], found[0]]):
        config = trial.config
        row = {"beam_width": str(config.beam_width), "lm_weight": f"{config.lm_weight:g}"}
        row |= {"word_bonus": f"{config.word_bonus:g}", "": "the paper's" if trial is found[0] else ""}
        row |= {f"LER of {used}": f"{trial.ler:.1%}", "WER": f"{trial.wer:.1%}", "LER + WER": f"{trial.cost:.1%}"}
        if checks:
            check = by_config.get(config)
            row |= {f"LER of {others} others": f"{check.ler:.1%}" if check else ""}
            row |= {"WER of those": f"{check.wer:.1%}" if check else ""}
        rows.append(row)
    return rows
