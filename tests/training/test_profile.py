"""`--log.profile`: which updates it selects, and that the trace holds them."""

import gzip
import json

import pytest

from tests.training_options import changed, train_options
from w2l_jax import training
from w2l_jax.errors import UserError
from w2l_jax.model import ModelConfig
from w2l_jax.training.options import DataOptions
from w2l_jax.training.profile import traced_updates


def test_which_updates_are_traced():
    assert list(traced_updates("")) == []
    assert list(traced_updates("7-9")) == [7, 8, 9] == list(traced_updates("7-9", start=100))
    assert list(traced_updates("2")) == [11, 12]
    assert list(traced_updates("2", start=100)) == [111, 112]
    for wrong in ("0", "9-7", "all", "3-", "-3", "1.5"):
        with pytest.raises(UserError, match=r"log.profile=.* such as 5"):
            traced_updates(wrong)


@pytest.fixture
def options(tones, cache, tmp_path):
    data = DataOptions(train=str(tones / "train.jsonl"), cache=str(cache), buckets=1, workers=1)
    model = ModelConfig(width=8, top_width=12)
    return train_options(run=str(tmp_path / "run"), steps=4, batch_size=4, every=1, data=data, model=model)


def traced(folder):
    """Numbers of the updates in the one trace below `folder`."""
    (path,) = folder.rglob("*.trace.json.gz")
    (xplane,) = folder.rglob("*.xplane.pb")
    assert xplane.stat().st_size > 0
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return sorted(int(e["args"]["step_num"]) for e in events if e.get("name") == "update" and "step_num" in e["args"])


def test_the_trace_is_in_the_run_folder(options, tmp_path):
    reports = []
    training.train(training.create(changed(options, profile="2-3"), reports.append), reports.append)
    assert traced(tmp_path / "run" / "profile") == [2, 3]
    assert sum(f"trace for TensorBoard and Perfetto: {tmp_path}/run/profile" in line for line in reports) == 1


def test_an_interrupted_trace_is_written(options, tmp_path):
    first = changed(options, profile="2-4", max_hours=1e-9)
    training.train(training.create(changed(first, every=2), lambda line: None), lambda line: None)
    assert traced(tmp_path / "run" / "profile") == [2]


def test_updates_beyond_the_last_are_refused_before_any_work(options, tmp_path):
    with pytest.raises(UserError, match=r"log\.profile=3-5 traces up to update 5, but steps=4"):
        training.create(changed(options, profile="3-5"))
    assert not (tmp_path / "run").exists()
