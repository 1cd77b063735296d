"""A finished run made small enough to give away: weights in bfloat16, no optimizer, no paths of its machine."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from w2l_jax.checkpoint import Run, to_toml, write_atomically
from w2l_jax.errors import UserError
from w2l_jax.training.options import TrainOptions

Dtype = Literal["bfloat16", "float32"]
_COPIED = ("alphabet.json", "run.json", "certificate.json", "remap.json")


def export(run: Run, folder: str | Path, which: str = "best", dtype: Dtype = "bfloat16") -> Run:
    """Writes checkpoint `which` of `run` as a run folder that `--init`, decode.py and transcribe.py take.

    Weights are rounded to `dtype` (bfloat16 halves them) and read back as float32. Data are named without their
    folders; of the metrics all evaluations and each tenth update are kept. The optimizer state, TensorBoard events and
    the language model stay behind, so decoding is greedy until --lm names a model. Raises UserError where `folder`
    holds something already.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds files already; give another --out, or remove it")
    step, params = run.step_of(which), run.restore_params(which)
    rounded = jax.tree.map(lambda leaf: np.asarray(leaf, jnp.dtype(dtype)), params)
    folder.mkdir(parents=True, exist_ok=True)
    for name in _COPIED:
        if (run.folder / name).is_file():
            shutil.copyfile(run.folder / name, folder / name)
    write_atomically(folder / "config.toml", _public(run.config()))
    write_atomically(folder / "metrics.jsonl", _thinned(run.folder / "metrics.jsonl"))
    data = json.loads((run.folder / "data.json").read_text(encoding="utf-8"))
    write_atomically(folder / "data.json", json.dumps(data))
    write_atomically(folder / "decoder.toml", 'lm = ""\n')
    out = Run(folder)
    out.checkpoints.mkdir()
    meta = {**run.pointers().get("meta", {}), "step": step}
    out.save(step, rounded, None, meta, best=step, keep=(), finished=True)
    return Run.open(folder)


def _thinned(metrics: Path) -> str:
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    records = [(json.loads(line), line) for line in lines]
    return "".join(line for record, line in records if record["kind"] == "dev" or record["step"] % 10 == 0)


def _public(config: dict[str, Any]) -> str:
    """The configuration with files and folders by name only: where they lay says nothing elsewhere."""
    from w2l_jax.config import from_table

    options = from_table(TrainOptions, config, "config.toml")
    data = dataclasses.replace(
        options.data,
        train=Path(options.data.train).name,
        dev="",
        cache=type(options.data).cache,
        synthesize="",
        lm_text="",
    )
    names = {name: Path(getattr(options, name)).name for name in ("config", "run", "init", "init_config")}
    return to_toml(dataclasses.replace(options, data=data, **names))
