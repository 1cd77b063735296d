"""A finished run made small enough to give away: weights in bfloat16, no optimizer, no paths of its machine."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from w2l_jax import network
from w2l_jax.errors import UserError
from w2l_jax.model import Params
from w2l_jax.run import Run, to_toml, write_atomically
from w2l_jax.training.options import TrainOptions

Dtype = Literal["bfloat16", "float32"]
_NEEDED = ("run.json", "config.toml", "alphabet.json", "data.json", "metrics.jsonl", "decoder.toml")
_OPTIONAL = ("certificate.json", "remap.json", "README.md")


def export(run: Run, folder: str | Path, which: str = "best", dtype: Dtype = "bfloat16") -> Run:
    """Writes checkpoint `which` of `run` as a run folder that `--init`, decode.py and transcribe.py take.

    Weights are rounded to `dtype` (bfloat16 halves them) and read back as float32. Data are named without their
    folders; of the metrics all evaluations and each tenth update are kept. The optimizer state, TensorBoard events and
    the language model stay behind, so decoding is greedy until --lm names a model. Raises UserError where `folder`
    holds something already.
    """
    meta = {**run.pointers().get("meta", {}), "step": run.step_of(which)}
    return _write(Path(folder), _texts(run), _rounded(run, which, dtype), meta)


def to_safetensors(run: Run, path: str | Path, which: str = "best", dtype: Dtype = "bfloat16") -> None:
    """Writes what `export` writes as one file that `w2l_jax.load` reads; raises UserError where `path` exists."""
    network.save(path, _rounded(run, which, dtype), {**_texts(run), "step": str(run.step_of(which))})


def import_safetensors(path: str | Path, folder: str | Path) -> Run:
    """Makes a run folder of what `to_safetensors` wrote, with the very weights of the file.

    Raises UserError for a file that is damaged, foreign or lacks a part of a run, and where `folder` holds something.
    """
    loaded = network.load(path)
    if missing := [name for name in _NEEDED if name not in loaded.metadata]:
        raise UserError(f"{path}: its metadata lack {', '.join(missing)}; write it with launch/export.py")
    return _write(Path(folder), loaded.metadata, loaded.params, {"step": loaded.step})


def _rounded(run: Run, which: str, dtype: Dtype) -> Params:
    return jax.tree.map(lambda leaf: np.asarray(leaf, jnp.dtype(dtype)), run.restore_params(which))


def _write(folder: Path, texts: Mapping[str, str], params: Params, meta: dict[str, Any]) -> Run:
    run = Run(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds files already; give another --out, or remove it")
    run.checkpoints.mkdir(parents=True)
    for name in _NEEDED + _OPTIONAL:  # and no other name: a file from elsewhere may hold any
        if name in texts:
            write_atomically(folder / name, texts[name])
    run.save(meta["step"], params, None, meta, best=meta["step"], keep=(), finished=True)
    for note in run.checkpoints.rglob("commit_success.txt"):  # in which Orbax says where this machine wrote it
        write_atomically(note, "Checkpoint commit was successful")
    return Run.open(folder)


def _texts(run: Run) -> dict[str, str]:
    """The text files of a run folder that go with the weights, by name."""
    there = (path for name in _NEEDED + _OPTIONAL if (path := run.folder / name).is_file())
    return {
        **{path.name: path.read_text(encoding="utf-8") for path in there},
        "config.toml": _public(run.config()),
        "metrics.jsonl": _thinned(run.folder / "metrics.jsonl"),
        "decoder.toml": 'lm = ""\n',
    }


def _thinned(metrics: Path) -> str:
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    records = [(json.loads(line), line) for line in lines]
    return "".join(line for record, line in records if record["kind"] != "train" or record["step"] % 10 == 0)


def _public(config: dict[str, Any]) -> str:
    """The configuration with files and folders by name only: where they lay says nothing elsewhere."""
    from w2l_jax.config import from_table

    options = from_table(TrainOptions, config, "config.toml")
    data = dataclasses.replace(
        options.data,
        train=Path(options.data.train).name,
        old_train=Path(options.data.old_train).name,
        dev="",
        old_dev="",
        cache=type(options.data).cache,
        synthesize="",
        lm_text="",
    )
    paths = ("config", "run", "init", "init_config")
    names = {name: Path(getattr(options, name)).name for name in paths}
    return to_toml(dataclasses.replace(options, data=data, **names))
