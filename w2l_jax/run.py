"""Run folders: configuration, alphabet and Orbax checkpoints, written so that a kill at any moment loses nothing."""

import json
import shutil
import tomllib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np

from w2l_jax import losses, model
from w2l_jax.alphabet import Alphabet
from w2l_jax.config import to_toml
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig
from w2l_jax.files import alone, making, write_atomically
from w2l_jax.model import ModelConfig, Params

FORMAT = 1


def check_format(text: str, where: str) -> None:
    """Refuses the `run.json` of a run that this version cannot read (UserError that names `where` it stands)."""
    try:
        version = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{where}: damaged; take it from another run of the same version") from None
    if version != FORMAT:
        raise UserError(f"{where}: run format {version}, but this version reads {FORMAT}; upgrade w2l_jax")


class Run:
    """A run folder. `create` starts one, `open` reads an existing one; both check what they find (UserError)."""

    def __init__(self, folder: Path):
        if folder.is_file():
            raise UserError(f"{folder}: a file, where a run folder is needed")
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self._pointer = self.checkpoints / "checkpoints.json"

    @staticmethod
    def exists(folder: str | Path) -> bool:
        """Whether `folder` holds a run."""
        return (Path(folder) / "run.json").is_file()

    @staticmethod
    def complete(folder: str | Path) -> bool:
        """Whether the run in `folder` has been trained to its end."""
        return Run.exists(folder) and bool(Run(Path(folder)).pointers().get("finished"))

    @staticmethod
    def create(folder: str | Path, options: Any, alphabet: Alphabet) -> "Run":
        """Makes the folder with the options (a dataclass) and the alphabet; an existing run is an error."""
        run = Run(Path(folder))
        if Run.exists(folder):
            raise UserError(f"{folder}: a run exists already; resume it, or name another folder")
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        write_atomically(run.folder / "config.toml", to_toml(options))
        write_atomically(run.folder / "alphabet.json", alphabet.to_json())
        write_atomically(run.folder / "run.json", json.dumps({"format": FORMAT}))
        return run

    def alone(self) -> AbstractContextManager[TextIO]:
        """Keeps other processes from training this run within; raises UserError where one does."""
        return alone(self.folder, f"{self.folder}: another process is training this run")

    @staticmethod
    def open(folder: str | Path) -> "Run":
        """Opens an existing run."""
        run = Run(Path(folder))
        if not Run.exists(folder):
            raise UserError(f"{folder}: no run there (a run folder holds run.json, config.toml, alphabet.json)")
        check_format((run.folder / "run.json").read_text(), f"{folder}/run.json")
        return run

    def config(self) -> dict[str, Any]:
        """The run's options as nested dictionaries."""
        try:
            return tomllib.loads((self.folder / "config.toml").read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise UserError(f"{self.folder}/config.toml: not readable: {error}") from None

    @property
    def model(self) -> ModelConfig:
        """The network's configuration."""
        return self._group("model", ModelConfig)

    @property
    def features(self) -> FeatureConfig:
        """The features the network was trained on."""
        return self._group("features", FeatureConfig)

    def _group(self, name: str, cls: type) -> Any:
        try:
            return cls(**self.config()[name])
        except (KeyError, TypeError) as error:
            raise UserError(f"{self.folder}/config.toml: [{name}] is damaged: {error}") from None

    @property
    def alphabet(self) -> Alphabet:
        """The alphabet of the network's outputs."""
        path = self.folder / "alphabet.json"
        if not path.is_file():
            raise UserError(f"{path}: missing; without it the network's outputs have no meaning")
        return Alphabet.from_json(path.read_text(encoding="utf-8"))

    def pointers(self) -> dict[str, Any]:
        """What `checkpoints.json` says: `last`, `best` (steps) and `meta` (position of the last one)."""
        if not self._pointer.is_file():
            return {}
        try:
            return json.loads(self._pointer.read_text())
        except ValueError:
            raise UserError(
                f'{self._pointer}: damaged; write {{"last": <step>}} with one of the steps beside it'
            ) from None

    def position(self) -> dict[str, Any]:
        """What was stored beside the last checkpoint, at least its `step`."""
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

        Without `opt_state` (None) it can be adapted and decoded, not resumed.
        """
        with making(self.checkpoints / f"step_{step:08d}") as folder, _checkpointer() as checkpointer:
            checkpointer.save((folder / "params").absolute(), jax.device_get(params))
            if opt_state is not None:
                checkpointer.save((folder / "optimizer").absolute(), _flat(opt_state))
        best = step if best is None else best
        write_atomically(
            self._pointer, json.dumps({"last": step, "best": best, "finished": finished, "meta": meta}, indent=1)
        )
        wanted = {step, best, *keep}
        for folder in self.checkpoints.glob("step_*"):
            if int(folder.name.removeprefix("step_")) not in wanted:
                shutil.rmtree(folder, ignore_errors=True)

    def steps(self) -> list[int]:
        """The steps of all checkpoints there are."""
        return sorted(int(f.name.removeprefix("step_")) for f in self.checkpoints.glob("step_*"))

    def step_of(self, which: str) -> int:
        """The step that `which` (`last`, `best` or a number) means; raises UserError with the choices."""
        there = self.steps()
        if not there:
            raise UserError(f"{self.folder}: no checkpoint yet; train it, or resume its training")
        step = self.pointers().get(which) if which in ("last", "best") else int(which) if which.isdigit() else None
        if step not in there:
            raise UserError(
                f"{self.folder}: no checkpoint {which!r}; there are best, last and {', '.join(map(str, there))}"
            )
        return step

    def restore_params(self, which: str = "best") -> Params:
        """The parameters of a checkpoint as float32 arrays, checked against the configuration and the alphabet."""
        path = self.checkpoints / f"step_{self.step_of(which):08d}" / "params"
        params = _restore(path)
        alphabet = self.alphabet
        own = losses.own_parameters(alphabet)
        if wrong := model.misfit(params, self.model, alphabet.size, self.features.mels, own):
            raise UserError(f"{path}: {wrong} as config.toml and alphabet.json say; these files do not belong together")
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)

    def restore_optimizer(self, which: str, like: Any) -> Any:
        """The optimizer state of a checkpoint in the structure of `like`."""
        path = self.checkpoints / f"step_{self.step_of(which):08d}" / "optimizer"
        if not path.exists():
            raise UserError(f"{path}: missing, as in an exported run; adapt it (init={self.folder}) instead")
        leaves, structure = jax.tree.flatten(like)
        stored = _restore(path)
        restored = [stored.get(f"{i:05d}") for i in range(len(leaves))] if isinstance(stored, dict) else []
        if len(restored) != len(stored) or any(
            r is None or r.shape != leaf.shape for r, leaf in zip(restored, leaves, strict=True)
        ):
            raise UserError(
                f"{path}: does not fit the options of this run (frozen layers, clipping, schedule); resume with "
                "those it was started with"
            )
        return jax.tree.unflatten(structure, restored)


def _flat(tree: Any) -> dict[str, np.ndarray]:
    """Numbered leaves: optimizer states hold tuples and empty nodes that a checkpoint need not know."""
    return {f"{i:05d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _checkpointer() -> Any:
    """Orbax's, for this process by itself: it would wait for all others, of which one saves and each restores."""
    import orbax.checkpoint as ocp

    own = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _restore(path: Path) -> Any:
    jax.devices()  # where there are none, that is no fault of the checkpoint
    try:
        with _checkpointer() as checkpointer:
            return jax.tree.map(np.asarray, checkpointer.restore(path.absolute()))
    except Exception as error:  # Orbax and TensorStore raise many types for damaged files
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: damaged or incomplete checkpoint ({first}); use another one") from None
