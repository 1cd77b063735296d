"""The networks that the paper's figures and tables need: variants, languages, amounts, seeds."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from demo_corpus import DemoConfig
from w2l_jax.dataset.store import PREPARED
from w2l_jax.errors import UserError
from w2l_jax.model import ModelConfig


class Variant(NamedTuple):
    """A variant of training a language's network."""

    frozen_layers: int | None
    """The paper's k; None: from scratch."""
    reinitialized: bool = False
    """The layers above k are reinitialised (section 6.1)."""
    hours: float = 0.0
    """Hours of training speech (0: all)."""
    unfrozen: bool = False
    """After half of the updates every layer is trained."""

    @property
    def name(self) -> str:
        """A short name for files, such as `k8_0.4h`."""
        start = "scratch" if self.frozen_layers is None else f"k{self.frozen_layers}"
        amount = f"_{self.hours:g}h" if self.hours else ""
        return f"{start}{'_reinitialized' if self.reinitialized else ''}{'_unfrozen' if self.unfrozen else ''}{amount}"

    @property
    def text(self) -> str:
        """A readable name, such as `k = 8, 0.4 h`."""
        words = ["from scratch" if self.frozen_layers is None else f"k = {self.frozen_layers}"]
        words += ["reinitialised"] * self.reinitialized + ["then all layers"] * self.unfrozen
        return ", ".join(words + [f"{self.hours:g} h"] * bool(self.hours))


SCRATCH, K0, K8 = Variant(None), Variant(0), Variant(8)
REINITIALIZED, UNFROZEN = Variant(8, reinitialized=True), Variant(8, unfrozen=True)
_TRAINED: dict[str, tuple[Variant, ...]] = {
    "figure2": (K8, REINITIALIZED),
    "figure3": tuple(map(Variant, (0, 6, 8, 9, 10))),
    "figure5": (SCRATCH, K0),
    "figure6": (K8,),
    "figure7": (K0,),
    "figure8": (K0,),
    "table1": (SCRATCH, K0, K8),
    "table3": (SCRATCH, K0, K8),
    "forgetting": (K0, K8),
    "unfreezing": (K0, K8, UNFROZEN, SCRATCH),
    "amounts": (K0, K8, SCRATCH),
    "distance": (K0, K8, SCRATCH),
}
_BY_AMOUNT = {"figure6", "amounts"}
MEASURED = ("figure4", "memory")
EXPERIMENTS = (*_TRAINED, *MEASURED)
"""Values of `--only`: figures and tables of the paper, and questions beyond it."""


@dataclasses.dataclass(frozen=True)
class Language:
    """A language to adapt the base network to."""

    name: str = ""
    """Such as german; the language of the transcripts, too."""
    train: str = ""
    """Training data: name of a prepared folder or of a manifest (`de_train` is de_train or de_train.jsonl)."""
    dev: str = ""
    """Data for the learning curves and the tables."""
    tests: tuple[str, ...] = ()
    """Further data for Table 1."""
    text: str = ""
    """File of text for the language model, besides the training transcripts."""
    distance: str = ""
    """Its distance from the base's language, near or far, if that is compared."""
    experiments: tuple[str, ...] = ()
    """The experiments of this language."""
    amounts: tuple[float, ...] = ()
    """Hours of training speech, besides all of it, in the experiments on amounts."""
    steps: int = 500
    """Updates of each training."""
    eval_every: int = 50
    """Updates between points of a learning curve."""
    seeds: int = 1
    """Number of trainings of each network: seeds 0, 1, …"""
    arguments: tuple[str, ...] = ()
    """More options of train.py."""

    def __post_init__(self):
        if wrong := [name for name in self.experiments if name not in _TRAINED]:
            raise UserError(f"{self.name}: no experiment {wrong[0]!r}; there are {', '.join(_TRAINED)}")
        if not (self.name and self.train and self.dev):
            raise UserError("each of [[languages]] needs name, train and dev")
        if "figure6" in self.experiments and not self.amounts:
            raise UserError(f"{self.name}: figure6 needs amounts, such as [100.0, 20.0] (hours)")
        if same := _repeated(Path(data).name for data in (self.dev, *self.tests)):
            raise UserError(f"{self.name}: two of dev and tests are called {same}; results are stored by that name")
        if ending := [a for a in self.arguments if a.startswith(("--steps", "--stop."))]:
            raise UserError(f"{self.name}: {ending[0]}: networks are compared after equally many updates, `steps`")

    def variants(self, experiment: str) -> tuple[Variant, ...]:
        """The networks that an experiment compares in this language; none if it has no part in it."""
        if experiment not in self.experiments:
            return ()
        amounts = (0.0, *(self.amounts if experiment in _BY_AMOUNT else ()))
        return tuple(v._replace(hours=hours) for hours in amounts for v in _TRAINED[experiment])


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Demonstration speech to synthesise if it is missing."""

    folder: str = ""
    """Where."""
    speech: DemoConfig = DemoConfig()
    """What."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """The update timed for Figure 4; options of benchmark.py."""

    batch_size: int = 64
    """Utterances."""
    seconds: float = 12.0
    """Length of each."""
    labels: int = 150
    """Labels of each."""
    model: ModelConfig = ModelConfig()
    repetitions: int = 3
    """Measurements, of which the median counts."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """The scale of the experiments, and their folder."""

    config: str = ""
    """TOML file of a scale: configs/reproduce_demo.toml, _real.toml or _paper.toml."""
    out: str = "reproduction"
    """Folder for runs, language models, figures and report; the same folder is resumed."""
    data: str = "."
    """Folder of the data."""
    only: str = ""
    """Experiments to run and report, separated by commas, such as figure3,table1 (default: all of the file)."""
    dry_run: bool = False
    """Print the remaining commands without running them."""
    report_only: bool = False
    """Only write the report of the results so far."""
    title: str = ""
    """Of the report."""
    note: str = ""
    """A note on what these data can and cannot show, for the report's head."""
    synthesized: tuple[Corpus, ...] = ()
    """Demonstration corpora to synthesise first."""
    base: str = "english"
    """Run of the base language."""
    base_config: str = ""
    """Configuration of train.py for the base; without one the paper's values."""
    base_train: str = ""
    """Training data for the base, if the configuration does not name them."""
    base_data: str = ""
    """Data of the base's language, to measure forgetting."""
    train_config: str = "configs/adapt.toml"
    """Configuration of train.py for every network; "" for the paper's values."""
    scratch_arguments: tuple[str, ...] = ()
    """Options of train.py for networks from scratch, such as the architecture."""
    timing: Timing = Timing()
    languages: tuple[Language, ...] = ()
    """Languages to adapt the base to."""

    def __post_init__(self):
        if same := _repeated(language.name for language in self.languages):
            raise UserError(f"two of [[languages]] are called {same}")
        if same := _repeated(language.distance for language in self.languages if language.distance):
            raise UserError(f"two of [[languages]] are {same}: one near and one far language are compared")
        if not self.base_data and any("forgetting" in language.experiments for language in self.languages):
            raise UserError("forgetting needs base_data, data of the base's language")

    @property
    def experiments(self) -> tuple[str, ...]:
        """The chosen experiments; raises UserError for one that does not exist."""
        asked = tuple(part.strip() for part in self.only.split(",") if part.strip())
        if wrong := [name for name in asked if name not in EXPERIMENTS]:
            raise UserError(f"--only={wrong[0]}: there are {', '.join(EXPERIMENTS)}")
        return asked or EXPERIMENTS

    @property
    def trains_base(self) -> bool:
        """Whether the base is trained if missing."""
        return bool(self.base_config or self.base_train)

    def cells(self) -> list["Cell"]:
        """Every network that the chosen experiments need, once; those of seed 0 of all languages come first."""
        cells: dict[Cell, None] = {}
        for seed in range(max((language.seeds for language in self.languages), default=0)):
            for language in self.languages:
                if seed < language.seeds:
                    every = itertools.chain.from_iterable(map(language.variants, self.experiments))
                    cells.update(dict.fromkeys(Cell(language, variant, seed) for variant in every))
        return list(cells)

    def of(self, language: Language, variants: Sequence[Variant]) -> Iterator["Cell"]:
        """The cells of some variants, every seed."""
        return (Cell(language, variant, seed) for variant in variants for seed in range(language.seeds))

    def run(self, cell: "Cell") -> Path:
        """The run folder of a cell."""
        return Path(self.out) / "runs" / cell.name

    def find(self, name: str) -> str:
        """The prepared folder or manifest of `name`; UserError if it neither exists nor can be synthesised."""
        prepared = Path(self.data) / name
        manifest = prepared.with_name(f"{prepared.name}.jsonl")
        if (prepared / PREPARED).is_file():  # a folder of that name may hold the manifest's recordings
            return str(prepared)
        if manifest.is_file() or self._can_be_synthesized(manifest):
            return str(manifest)
        raise UserError(f"neither {prepared} nor {prepared}.jsonl exists; give their folder with --data")

    def find_text(self, name: str) -> str:
        """The text file of `name`; UserError as for `find`."""
        file = Path(self.data) / name
        if file.is_file() or self._can_be_synthesized(file):
            return str(file)
        raise UserError(f"{file}: no such text for a language model; put it there, or omit `text` of the language")

    def _can_be_synthesized(self, path: Path) -> bool:
        return any(path.is_relative_to(corpus.folder) for corpus in self.synthesized)


def _repeated(names: Iterable[str]) -> str:
    """A repeated name, else ""."""
    return next((name for name, count in collections.Counter(names).items() if count > 1), "")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network of the grid."""

    language: Language
    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """Its run folder's name."""
        return f"{self.language.name}_{self.variant.name}_seed{self.seed}"
