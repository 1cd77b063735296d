import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

import prepare
from preparing.collect import CorpusSource
from reproduction.grid import Scale
from tests.conftest import ROOT
from w2l_jax import config
from w2l_jax.errors import UserError
from w2l_jax.training.options import DataOptions, TrainOptions
from w2l_jax.training.resolve import complete


def test_the_papers_values_are_the_defaults():
    options = TrainOptions()
    adam = options.optimizer
    assert (adam.name, options.learning_rate, adam.beta1, adam.beta2, adam.epsilon) == ("adam", 1e-4, 0.9, 0.999, 1e-8)
    assert (options.batch_size, options.compute_dtype, options.data.max_seconds) == (64, "float32", 35.0)
    completed = complete(options, None)
    network, features = completed.model, completed.features
    assert (network.width, network.top_width, network.initializer) == (250, 2000, "xavier_uniform")
    assert (features.mels, features.order) == (128, "mel_of_db")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.name)
def test_every_preset_is_valid(path):
    options = {"reproduce": Scale, "prepare": prepare.Options}.get(path.name.split("_")[0], TrainOptions)
    assert config.load(options, path) != options()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 1", "unknown option 'stepz'; did you mean 'steps'"),
        ("steps = 'many'", "steps must be of type int"),
        ("steps = true", "steps must be of type int"),
        ("[optimizer]\ndecay = 'slow'", "one of none, linear, cosine"),
        ("data = 3", "data is a table"),
        ("eval_every = 3", "'eval_every' is called 'log.eval_every'"),
        ("optimizer = 'muon'", "'optimizer' is called 'optimizer.name'"),
        ("keep_old_language = 'a,0.1'", "'keep_old_language' is called 'data.old_train'"),
        ("steps = ", "not valid TOML"),
        ("[model]\nwidth = 0", "at least 1"),
    ],
)
def test_bad_toml(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        config.load(TrainOptions, path)


def test_missing_configuration(tmp_path):
    (tmp_path / "prepare_german.toml").touch()
    with pytest.raises(UserError, match=r"no such configuration; did you mean .*/prepare_german.toml\?"):
        config.load(TrainOptions, tmp_path / "german.toml")
    with pytest.raises(UserError, match=r"no such configuration$"):
        config.load(TrainOptions, "absent.toml")


@given(st.text(), st.floats(1e-9, 1e9), st.booleans(), st.integers(1, 10**9))
def test_toml_round_trip(tmp_path_factory, text, number, flag, steps):
    corpora = (CorpusSource(corpus="alc", source=text, include_dev=flag), CorpusSource(corpus="kaldi"))
    data = DataOptions(train=text)
    for options in (
        TrainOptions(run=text, learning_rate=number, resume=flag, steps=steps, data=data),
        prepare.Options(corpora=corpora, config=text, dev_fraction=number),
    ):
        path = tmp_path_factory.mktemp("toml") / "o.toml"
        path.write_text(config.to_toml(options), encoding="utf-8")
        assert config.load(type(options), path) == options


def test_one_option_changed_by_its_dotted_name():
    options = config.changed(TrainOptions(), {"seed": 3, "log.every": 5, "log.eval_every": 7})
    assert (options.seed, options.log.every, options.log.eval_every) == (3, 5, 7)
    found = [(name, was, now) for name, was, now, _ in config.differences(TrainOptions(), options)]
    assert sorted(found) == [("log.eval_every", 500, 7), ("log.every", 10, 5), ("seed", 0, 3)]


def test_options_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainOptions().steps = 3
