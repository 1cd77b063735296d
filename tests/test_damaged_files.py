"""Truncated, wrongly encoded or hostile text files of a run or a cache raise errors that name them."""

import json
import shutil
from pathlib import Path

import pytest

from tests.training_options import train_options
from w2l_jax import config, training
from w2l_jax.dataset.store import open_dataset
from w2l_jax.decoding import decoder_config
from w2l_jax.decoding.decoder_config import DecoderConfig
from w2l_jax.errors import UserError
from w2l_jax.model import ModelConfig
from w2l_jax.run import Run
from w2l_jax.training import log
from w2l_jax.training.options import DataOptions, TrainOptions

DAMAGE = {
    "Latin-1": lambda content: "größer".encode("latin-1") + content,
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "cut within a character": lambda content: content[:-1] + "ü".encode()[:1],
    "nested JSON": lambda content: b"[" * 100_000 + b"]" * 100_000 + b"\n",
    "nested TOML": lambda content: b"a = " + b"[" * 100_000 + b"]" * 100_000 + b"\n",
    "a number": lambda content: b"1\n",
}


@pytest.fixture(scope="module")
def trained(tones, cache, tmp_path_factory):
    """A run of two updates, and options to resume it."""
    data = DataOptions(
        train=str(tones / "train.jsonl"), dev=str(tones / "dev.jsonl"), cache=str(cache), buckets=1, workers=1
    )
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = train_options(
        run=str(folder), steps=2, batch_size=8, model=ModelConfig(width=4, top_width=5), data=data, eval_every=100
    )
    training.train(training.create(options, lambda line: None), lambda line: None)
    decoder_config.save(Run.open(folder), DecoderConfig(beam_width=3))
    return folder, options


READERS = {
    "run.json": lambda run, options: Run.open(run),
    "config.toml": lambda run, options: (config.load(TrainOptions, run / "config.toml"), Run.open(run).model),
    "alphabet.json": lambda run, options: Run.open(run).alphabet,
    "decoder.toml": lambda run, options: decoder_config.load(Run.open(run)),
    "metrics.jsonl": lambda run, options: log.read(run),
    "checkpoints/checkpoints.json": lambda run, options: Run.open(run).position(),
    "checkpoints/step_00000002/digests.json": lambda run, options: Run.open(run).restore_params("last"),
    "data.json": lambda run, options: training.create(options, lambda line: None),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_of_a_run_is_named(trained, tmp_path, name, damage):
    source, options = trained
    run = shutil.copytree(source, tmp_path / "run")
    path = run / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    options = config.changed(options, {"run": str(run), "resume": True, "steps": 3})
    if name == "metrics.jsonl" and damage == "cut within a character":
        assert len(log.read(run)) >= 1  # the line was being written
        return
    with pytest.raises(UserError, match=Path(name).name):
        READERS[name](run, options)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_log_does_not_prevent_resuming(trained, tmp_path, damage):
    source, options = trained
    run = shutil.copytree(source, tmp_path / "run")
    path = run / "metrics.jsonl"
    first = path.read_bytes().splitlines()[0]
    path.write_bytes(first + b"\n" + DAMAGE[damage](path.read_bytes()))
    options = config.changed(options, {"run": str(run), "resume": True, "steps": 3})
    training.train(training.create(options, lambda line: None), lambda line: None)
    records = log.read(run)
    assert records[0]["step"] == json.loads(first)["step"] and records[-1]["step"] == 3


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["prepared.json", "index.jsonl"])
def test_a_damaged_file_of_a_prepared_dataset_is_named(trained, cache, tmp_path, name, damage):
    folder = shutil.copytree(next(cache.glob("train-*")), tmp_path / "data")
    (folder / name).write_bytes(DAMAGE[damage]((folder / name).read_bytes()))
    with pytest.raises(UserError, match=name):
        open_dataset(folder)
