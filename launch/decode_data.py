"""Data to decode, utterances to exclude from language models, and stored logits for tuning."""

import contextlib
import dataclasses
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from w2l_jax import model
from w2l_jax.config import from_table
from w2l_jax.dataset.batches import Source
from w2l_jax.dataset.prepare import PrepareConfig, custom_characters, open_or_prepare
from w2l_jax.dataset.store import Dataset
from w2l_jax.files import digest, text_digest, write_atomically
from w2l_jax.inference import predict
from w2l_jax.recognizer import Recognizer
from w2l_jax.reporting import Progress
from w2l_jax.run import Run
from w2l_jax.training.options import DataOptions


def options_of(run: Run | None) -> dict[str, Any]:
    """The options of the data that a run was trained on, the defaults without a run."""
    table = run.data if run else {}
    return dataclasses.asdict(from_table(DataOptions, table, f"{run.folder}/config.toml: data" if run else ""))


def open_data(
    recognizer: Recognizer,
    options: Mapping[str, Any],
    data: str,
    unknown_characters: str,
    progress: Progress,
    report: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """Opens a manifest or prepared folder in the language and features of `recognizer`; `options` are its data
    options.
    """
    prepare = PrepareConfig(
        language=recognizer.language,
        max_seconds=options["max_seconds"],
        unknown_characters=unknown_characters,
        features=recognizer.features,
        alphabet=custom_characters(recognizer.alphabet, recognizer.language),
    )
    split = "dev" if data == options["dev"] else "test"
    return open_or_prepare(data, Path(options["cache"]), prepare, split, progress=progress, report=report)


def held_out(recognizer: Recognizer, options: Mapping[str, Any], dataset: Dataset, progress: Progress) -> set[str]:
    """Ids to exclude from this run's language models: dev data and `dataset`; `options` are its data options."""
    ids = {entry.id for entry in dataset.entries}
    dev = options["dev"]
    if dev and Path(dev).exists():
        ids |= {entry.id for entry in open_data(recognizer, options, dev, "drop_utterance", progress).entries}
    return ids


def kept_logits(
    file: Path, recognizer: Recognizer, dataset: Dataset, batch_size: int, progress: Progress
) -> tuple[str, list[np.ndarray]]:
    """The logits [S, V] of every utterance, read from `file` or computed and stored there, and their key.

    The key hashes parameters, network and dataset; a file with another key is replaced.
    """
    lengths = [model.output_frames(entry.frames) for entry in dataset.entries]
    key = _key(recognizer, dataset)
    damaged = (OSError, ValueError, KeyError, zipfile.BadZipFile)  # or missing: computed again
    with contextlib.suppress(*damaged), np.load(file) as kept:
        if str(kept["key"]) == key:
            return key, np.split(kept["logits_NxV"], np.cumsum(lengths)[:-1])
    source = Source.create(dataset, recognizer.alphabet, 6, batch_size)
    params = jax.device_put(recognizer.params)
    logits: list[np.ndarray] = [np.empty(0)] * len(dataset)
    for done, prediction in enumerate(predict(params, source, recognizer.model, batch_size=batch_size)):
        logits[prediction.index] = prediction.logits_SxV
        progress(done + 1, len(dataset), "logits")
    content = io.BytesIO()
    np.savez(content, key=key, logits_NxV=np.concatenate(logits))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content.getvalue())
    return key, logits


def _key(recognizer: Recognizer, dataset: Dataset) -> str:
    return text_digest(
        json.dumps([dataset.fingerprint, dataclasses.asdict(recognizer.model), digest(recognizer.params)])
    )
