"""Run folders: configuration, alphabet and Orbax checkpoints; a kill at any moment loses nothing already saved."""

import contextlib
import json
import shutil
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from w2l_jax import checkpoint, losses, model
from w2l_jax.alphabet import Alphabet
from w2l_jax.config import from_table, to_toml
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.files import locked, making, read, sealed, unsealed, write_atomically
from w2l_jax.model import ModelConfig, Params

T = TypeVar("T")
FORMAT = 2


class Run:
    """A run folder. `create` starts one, `open` reads an existing one; both raise UserError for what does not fit."""

    def __init__(self, folder: Path):
        if folder.is_file():
            raise UserError(f"{folder}: a file, not a run folder")
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self._pointer = self.checkpoints / "checkpoints.json"

    @staticmethod
    def exists(folder: str | Path) -> bool:
        """Whether `folder` holds a run."""
        return (Path(folder) / "run.json").is_file()

    @staticmethod
    def complete(folder: str | Path) -> bool:
        """Whether training of the run in `folder` has finished."""
        return Run.exists(folder) and bool(Run(Path(folder)).pointers().get("finished"))

    @staticmethod
    def create(folder: str | Path, options: Any, alphabet: Alphabet) -> "Run":
        """Creates the folder with the options (a dataclass) and the alphabet; raises UserError if a run exists."""
        run = Run(Path(folder))
        if Run.exists(folder):
            raise UserError(f"{folder}: a run exists; resume it, or name another folder")
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        write_atomically(run.folder / "config.toml", to_toml(options))
        write_atomically(run.folder / "alphabet.json", sealed(json.loads(alphabet.to_json())))
        write_atomically(run.folder / "run.json", json.dumps({"format": FORMAT}))
        return run

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the run against training by other processes; raises UserError if one trains it.

        Removes what a killed process, or a full disk, left of a checkpoint.
        """
        with locked(self.folder, f"{self.folder}: another process is training this run"):
            self._tidy()
            try:
                yield
            finally:
                self._tidy()

    def _tidy(self) -> None:
        for path in self.checkpoints.glob(".*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    @staticmethod
    def open(folder: str | Path) -> "Run":
        """Opens an existing run."""
        run = Run(Path(folder))
        if not Run.exists(folder):
            raise UserError(f"{folder}: not a run (a run folder holds run.json, config.toml, alphabet.json)")
        path = run.folder / "run.json"
        version = read(path, lambda text: int(json.loads(text)["format"]), "take it from a run of the same version")
        if version != FORMAT:
            remedy = "upgrade w2l_jax" if version > FORMAT else "use the older version that wrote it"
            raise UserError(f"{path}: run format {version}, but this version reads {FORMAT}; {remedy}")
        return run

    def config(self) -> dict[str, Any]:
        """The run's options as nested dictionaries."""
        return read(self.folder / "config.toml", tomllib.loads)

    @property
    def model(self) -> ModelConfig:
        """The network's configuration."""
        return self._group("model", ModelConfig)

    @property
    def features(self) -> FeatureConfig:
        """The features the network was trained on."""
        return self._group("features", FeatureConfig)

    @property
    def data(self) -> dict[str, Any]:
        """The data options of its training."""
        return self._group("data", dict)

    def _group(self, name: str, cls: type[T]) -> T:
        def parse(text: str) -> T:
            table = tomllib.loads(text)[name]
            return dict(table) if cls is dict else from_table(cls, table, name)

        return read(self.folder / "config.toml", parse)

    @property
    def alphabet(self) -> Alphabet:
        """The alphabet of the network's outputs."""
        return read(self.folder / "alphabet.json", lambda text: Alphabet.from_json(json.dumps(unsealed(text))))

    def pointers(self) -> dict[str, Any]:
        """The content of `checkpoints.json`: `last`, `best` (steps) and `meta` (position of the last one)."""
        if not self._pointer.is_file():
            return {}
        advice = 'write {"last": <step>} with one of the steps in this folder'
        return read(self._pointer, unsealed, advice)

    def position(self) -> dict[str, Any]:
        """The metadata of the last checkpoint, at least its `step`."""
        return self.pointers().get("meta") or {"step": self.step_of("last")}

    def save(
        self,
        step: int,
        params: Params,
        opt_state: Any,
        meta: dict[str, Any],
        *,
        best: int | None,
        keep: Iterable[int],
        finished: bool = False,
    ) -> None:
        """Stores a checkpoint, then points to it, then removes those that are neither last, best nor in `keep`.

        Without `opt_state` (None) it can be adapted and decoded but not resumed.
        """
        trees = {"params": params} | ({} if opt_state is None else {"optimizer": opt_state})
        with making(self._folder(step)) as folder:
            checkpoint.write(folder, jax.device_get(trees))
        best = step if best is None else best
        write_atomically(self._pointer, sealed({"last": step, "best": best, "finished": finished, "meta": meta}))
        kept = {step, best, *keep}
        for other in set(self.steps()) - kept:
            shutil.rmtree(self._folder(other), ignore_errors=True)

    def steps(self) -> list[int]:
        """The steps of all checkpoints."""
        return sorted(int(f.name.removeprefix("step_")) for f in self.checkpoints.glob("step_" + 8 * "[0-9]"))

    def _folder(self, step: int) -> Path:
        return self.checkpoints / f"step_{step:08d}"

    def step_of(self, which: str) -> int:
        """The step of `which` (`last`, `best` or a number); raises UserError naming the choices."""
        steps = self.steps()
        if not steps:
            raise UserError(f"{self.folder}: no checkpoint yet; train it, or resume its training")
        step = self.pointers().get(which) if which in ("last", "best") else int(which) if which.isdigit() else None
        if step not in steps:
            raise UserError(
                f"{self.folder}: no checkpoint {which!r}; choose best, last or {', '.join(map(str, steps))}"
            )
        return step

    def restore_params(self, which: str = "best") -> Params:
        """The parameters of a checkpoint as float32 arrays, checked against the configuration and the alphabet."""
        path = self._folder(self.step_of(which)) / "params"
        params = checkpoint.restore(path)
        alphabet = self.alphabet
        own = losses.own_parameters(alphabet)
        if wrong := model.misfit(params, self.model, alphabet.size, self.features.mels, own):
            raise UserError(f"{path}: {wrong} as config.toml and alphabet.json say; these files are of different runs")
        for name, leaf in checkpoint.named(params).items():
            if not np.isfinite(leaf).all():
                raise UserError(f"{path}: {name} holds values that are not finite; use another checkpoint")
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)

    def restore_optimizer(self, which: str, like: Any) -> Any:
        """The optimizer state of a checkpoint in the structure of `like`; raises UserError if it has another one."""
        path = self._folder(self.step_of(which)) / "optimizer"
        if not path.exists():
            raise UserError(f"{path}: missing, as in an exported run; adapt it (init={self.folder}) instead")
        stored, expected = checkpoint.named(checkpoint.restore(path)), checkpoint.named(like)
        for name in sorted(stored.keys() | expected.keys()):
            ours, theirs = expected.get(name), stored.get(name)
            if ours is None or theirs is None or (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
                raise UserError(
                    f"{path}: {name} does not fit the options of this run (optimizer, frozen layers, clipping, "
                    "schedule); resume with those it was started with"
                )
        return jax.tree.unflatten(jax.tree.structure(like), [stored[name] for name in expected])
