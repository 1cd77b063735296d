"""Stored files with a flipped bit or a missing end are refused, or read with their original content."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

import w2l_jax
from lm_building.build import LanguageModelConfig, build
from tests.chaos.faults import Findings, damaged
from tests.conftest import write_corpus
from tests.training_options import train_options
from w2l_jax import training
from w2l_jax.dataset.prepare import PrepareConfig, prepare_cached
from w2l_jax.dataset.store import open_dataset
from w2l_jax.decoding import decoder_config
from w2l_jax.files import digest
from w2l_jax.lm.language_model import LanguageModel
from w2l_jax.model import ModelConfig
from w2l_jax.run import Run

TINY = ModelConfig(width=4, top_width=6, initializer="he_uniform")
Subject = tuple[str, Path, Callable[[], object]]


def _network(path: Path) -> object:
    found = w2l_jax.load(path)
    return digest(found.params), found.alphabet, found.model, found.features, found.decoder, found.language, found.step


def _run(folder: Path, like: object) -> object:
    run = Run.open(folder)
    optimizer = [leaf.tobytes() for leaf in jax.tree.leaves(run.restore_optimizer("last", like))]
    return _network(folder), digest(run.restore_params("last")), run.position(), run.steps(), optimizer


def _language_model(folder: Path) -> object:
    model = LanguageModel(folder)
    return model.words, model.unigrams_W.tobytes(), [model.score(f"{a} {b}") for a in model.words for b in model.words]


def _dataset(folder: Path) -> object:
    data = open_dataset(folder)
    arrays = [array.tobytes() for array in data.features_of(range(len(data)))]
    return arrays, data.entries, data.alphabet, data.features, data.language


def subjects(folder: Path) -> Iterator[Subject]:
    """Writes a small example of every stored format; yields its name, place and reader."""
    train, dev = write_corpus(folder, "train", 12, 3), write_corpus(folder, "dev", 4, 2, seed=1)
    cache, said = folder / "cache", lambda line: None
    prepared = prepare_cached(train, cache, PrepareConfig(language="english"), workers=1).folder
    yield "prepared data", prepared, lambda: _dataset(prepared)

    data = {"train": str(train), "dev": str(dev), "cache": str(cache), "buckets": 1, "workers": 1}
    common = {"batch_size": 4, "eval_every": 2, "checkpoint_every": 2, "model": TINY, **data}
    options = train_options(run=str(folder / "run"), steps=4, **common)
    job = training.create(options, said)
    like = jax.device_get(job.state.opt_state)
    training.train(job, said)
    run = Run.open(folder / "run")
    texts = [json.loads(line)["text"] for line in train.read_text().splitlines()]
    (folder / "text.txt").write_text("\n".join(texts))
    lm = run.folder / "lm"
    build([folder / "text.txt"], lm, run.alphabet, LanguageModelConfig(order=2))
    yield "language model", lm, lambda: _language_model(lm)

    tuned = decoder_config.DecoderConfig(str(lm), beam_width=20, lm_weight=0.625, tuned="dev, 4 utterances")
    decoder_config.save(run, tuned)
    for name, part in (
        ("checkpoints", "checkpoints"),
        ("decoder.toml", decoder_config.FILE),
        ("other files of a run", ""),
    ):
        yield name, run.folder / part, lambda: _run(run.folder, like)
    w2l_jax.load(run.folder).save(folder / "a.safetensors", "float32")
    yield ".safetensors", folder / "a.safetensors", lambda: _network(folder / "a.safetensors")

    frozen = train_options(
        run=str(folder / "frozen"), init=str(run.folder), frozen_layers="9", steps=4, cache_activations=True, **common
    )

    def activations() -> object:
        shutil.rmtree(frozen.run, ignore_errors=True)
        job = training.create(frozen, said)
        data = job.train.dataset, job.dev.dataset
        return [[array.tobytes() for array in part.features_of(range(len(part)))] for part in data]

    activations()
    yield "activation cache", cache / "activations", activations


def corrupt(folder: Path, seed: int, count: int) -> Iterator[Findings]:
    """Damages one file of each subject at a time, `count` times, and restores it."""
    for name, place, read in subjects(folder):
        findings, rng, expected = Findings(f"damaged {name}"), np.random.default_rng(seed), read()
        files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
        if name.startswith("other"):
            files = [path for path in files if path.parent == place and path.name != decoder_config.FILE]
        files = [path for path in files if path.stat().st_size]
        for _ in range(count if name != "activation cache" else -(-count // 4)):
            path = files[int(rng.integers(len(files)))]
            content = path.read_bytes()
            path.write_bytes(broken := damaged(content, rng))
            at = next((i for i, (a, b) in enumerate(zip(content, broken, strict=False)) if a != b), len(broken))
            detail = f"{path.relative_to(folder)}, {len(broken)} of {len(content)} bytes, at {at}"
            findings.attempt(read, expected, detail)
            path.write_bytes(content)
        yield findings
