"""The benchmark of the decoder on an untrained network, whose outputs are nearly uniform."""

import jax
import numpy as np
import pytest

from benchmarks import BenchmarkOptions
from benchmarks import bench_decode as decode
from benchmarks.first_search import Search
from lm_building import build as lm
from w2l_jax import model
from w2l_jax.alphabet import preset
from w2l_jax.dataset.prepare import prepare_cached
from w2l_jax.decoding.beam import BeamConfig
from w2l_jax.decoding.decoder import Decoder
from w2l_jax.errors import UserError
from w2l_jax.model import ModelConfig
from w2l_jax.run import Run
from w2l_jax.training.options import TrainOptions


@pytest.fixture
def options(tones, tmp_path):
    config = ModelConfig(width=4, top_width=5)
    run = Run.create(tmp_path / "run", TrainOptions(model=config), preset("en"))
    params = model.init(jax.random.key(0), config, run.alphabet.size)
    run.save(1, params, None, {"step": 1}, best=1, keep=())
    prepare_cached(tones / "dev.jsonl", tmp_path / "prepared", workers=1)
    lm.build([tones / "train.jsonl"], tmp_path / "lm", preset("en"))
    data = next((tmp_path / "prepared").glob("dev-*"))
    return BenchmarkOptions("decode", repetitions=1, run=str(run.folder), data=str(data), limit=3)


@pytest.mark.slow
def test_every_search_is_timed_and_scored(options, tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "_WIDTHS", (3,))
    with pytest.raises(UserError, match="--lm"):
        decode.run(options, print)
    searches, scaling = decode.run(BenchmarkOptions(**{**vars(options), "lm": str(tmp_path / "lm")}), lambda line: None)
    assert [row[0] for row in searches.rows] == ["greedy", "beam 3", "beam 3, language model"]
    for _, milliseconds, real_time, peak, ler, wer in searches.rows:
        assert milliseconds * real_time == pytest.approx(1000)
        assert 20 < peak < 1000
        assert ler.endswith("%") and wer.endswith("%")
    assert [row[0] for row in scaling.rows[:2]] == [1, 2] and scaling.rows[0][3] == 1
    for workers, seconds, real_time, gain in scaling.rows:
        assert workers and seconds * real_time == pytest.approx(scaling.rows[0][1] * scaling.rows[0][2])
        assert gain == pytest.approx(scaling.rows[0][1] / seconds)


def test_timed_decoding_equals_normal_decoding():
    logits = [np.random.default_rng(n).normal(size=(n, 29)) for n in (40, 5)]
    seconds, _, texts = Search(preset("en"), 20)((logits, 2))
    assert seconds > 0
    assert texts == [Decoder(preset("en"), None, BeamConfig(20)).decode(x_SxV).text for x_SxV in logits] != ["", ""]
