"""launch/train.py before training: which configuration it uses, and what the demonstration needs."""

from types import SimpleNamespace

import pytest

import decode
import demo_corpus
import train
from tests.training_options import train_options
from w2l_jax import config
from w2l_jax.errors import UserError
from w2l_jax.training.options import TrainOptions


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Records what would be trained, with its options, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    found = []
    monkeypatch.setattr(train, "train", lambda options: found.append(options))
    return found


def test_the_demonstration_runs_without_data_and_configuration(calls, capsys):
    train.main(["--frozen_layers=8", "--steps=7"])
    output = capsys.readouterr().out
    assert output.count("\n") == 1 and "this is the demonstration" in output
    demonstration = config.load(TrainOptions, train.CONFIGS / "demo.toml")
    assert calls[0].data == demonstration.data and calls[0].init == train.ENGLISH
    assert (calls[0].frozen_layers, calls[0].steps, calls[0].batch_size) == ("8", 7, 16)
    train.main(["--data.train=x"])
    train.main([f"--config={train.CONFIGS}/adapt.toml"])
    assert capsys.readouterr().out == ""
    assert calls[1] == train_options(train="x") and calls[2].init == "english" and not calls[2].data.train


def test_a_resumed_run_takes_its_own_configuration(calls, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.toml").write_text("steps = 9\n[data]\ntrain = 'x'\n")
    train.main(["--run=r", "--resume", "--seed=3"])
    assert (calls[0].steps, calls[0].seed, calls[0].data.train, calls[0].resume) == (9, 3, "x", True)
    with pytest.raises(UserError, match="no run to resume"):
        train.main(["--run=nowhere", "--resume"])


def test_from_scratch_drops_a_configurations_adapting_options(calls, tmp_path):
    (tmp_path / "a.toml").write_text("init = 'x'\nfrozen_layers = '8'\nseed = 3\n[freeze]\nverify = true\n")
    train.main(["--config=a.toml", "--from_scratch"])
    assert calls[0] == train_options(config="a.toml", from_scratch=True, seed=3)


def test_missing_parts_of_the_demonstration_are_made_first(monkeypatch, tmp_path, capsys):
    """In any working directory, and only once."""
    monkeypatch.chdir(tmp_path)
    trained = []
    monkeypatch.setattr(demo_corpus, "make_corpus", lambda folder, progress: folder.mkdir(parents=True))
    monkeypatch.setattr(train.training, "check", lambda options: trained.append(options) or len(trained) < 2 or stop())

    def stop():
        raise UserError("enough")

    with pytest.raises(UserError, match="enough"):
        train.main(["--frozen_layers=8"])
    assert demo_corpus.FOLDER.is_dir() and "runs/demo_english is missing: training it first" in capsys.readouterr().out
    assert [options.run for options in trained] == ["", train.ENGLISH] and trained[1].data.language == "english"


@pytest.mark.parametrize("main", ["train", "decode"])
def test_a_stopped_base_is_not_used(monkeypatch, tmp_path, capsys, main):
    """A signal ends training after a checkpoint; what would use the network must not run."""
    monkeypatch.chdir(tmp_path)
    trained = []
    monkeypatch.setattr(demo_corpus, "make_corpus", lambda folder, progress: folder.mkdir(parents=True, exist_ok=True))
    monkeypatch.setattr(train.training, "check", lambda options: None)
    monkeypatch.setattr(train.training, "create", lambda options, *_: trained.append(options.run) or _job(options.run))
    monkeypatch.setattr(train.training, "train", lambda *_: SimpleNamespace(reason="stopped", signal="SIGTERM"))
    with pytest.raises(SystemExit) as stopped:
        train.main(["--frozen_layers=8"]) if main == "train" else decode.main([])
    assert stopped.value.code == 143 and trained == [train.ENGLISH]
    assert "resume it: python launch/train.py --run=runs/demo_english --resume" in capsys.readouterr().out


def _job(folder):
    return SimpleNamespace(devices=SimpleNamespace(first=False), run=SimpleNamespace(folder=folder))
