"""What is decoded: a run's data, what its language model must not have seen, and logits that are kept for tuning."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from w2l_jax import model
from w2l_jax.dataset.batches import Source
from w2l_jax.dataset.prepare import PrepareConfig, custom_characters, open_or_prepare
from w2l_jax.dataset.store import Dataset
from w2l_jax.errors import UserError
from w2l_jax.inference import predict
from w2l_jax.model import Params
from w2l_jax.run import Run, write_atomically

Progress = Callable[[float, float, str], None]


def open_data(
    run: Run, data: str, unknown_characters: str, progress: Progress, report: Callable[[str], None] = lambda line: None
) -> Dataset:
    """Opens a manifest or prepared folder in the run's language and features; "" is the run's own dev data."""
    options = run.config()["data"]
    if not (data or options["dev"]):
        raise UserError(f"{run.folder} has no dev data of its own: give --data")
    prepare = PrepareConfig(
        language=options["language"],
        max_seconds=options["max_seconds"],
        unknown_characters=unknown_characters,
        features=run.features,
        alphabet=custom_characters(run.alphabet, options["language"]),
    )
    split = "dev" if data in ("", options["dev"]) else "test"
    path, cache = data or options["dev"], Path(options["cache"])
    return open_or_prepare(path, cache, prepare, split, progress=progress, report=report)


def held_out(run: Run, dataset: Dataset, progress: Progress) -> set[str]:
    """Ids that no language model of this run may learn from: its dev data and what is decoded."""
    ids = {entry.id for entry in dataset.entries}
    dev = run.config()["data"]["dev"]
    if dev and Path(dev).exists():
        ids |= {entry.id for entry in open_data(run, dev, "drop_utterance", progress).entries}
    return ids


def kept_logits(
    file: Path, run: Run, params: Params, dataset: Dataset, batch_size: int, progress: Progress
) -> tuple[str, list[np.ndarray]]:
    """The logits [S, V] of every utterance, read from `file` or computed and kept there, and the key of their content.

    The key is of parameters, network and dataset; a file of another key is replaced.
    """
    lengths = [model.output_frames(entry.frames) for entry in dataset.entries]
    key = _key(run, params, dataset)
    if file.is_file():
        with np.load(file) as kept:
            if str(kept["key"]) == key:
                return key, np.split(kept["logits_NxV"], np.cumsum(lengths)[:-1])
    source = Source.create(dataset, run.alphabet, run.config()["data"]["buckets"], batch_size)
    logits: list[np.ndarray] = [np.empty(0)] * len(dataset)
    for done, prediction in enumerate(predict(jax.device_put(params), source, run.model, batch_size=batch_size)):
        logits[prediction.index] = prediction.logits_SxV
        progress(done + 1, len(dataset), "logits")
    content = io.BytesIO()
    np.savez(content, key=key, logits_NxV=np.concatenate(logits))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content.getvalue())
    return key, logits


def _key(run: Run, params: Params, dataset: Dataset) -> str:
    digest = hashlib.sha256(json.dumps([dataset.fingerprint, dataclasses.asdict(run.model)]).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()
