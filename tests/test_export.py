import json

import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import ROOT, launch
from w2l_jax import model
from w2l_jax.checkpoint import SHIPPED, Run
from w2l_jax.errors import UserError
from w2l_jax.export import export
from w2l_jax.training import create, train
from w2l_jax.training.options import DataOptions, TrainOptions


@pytest.fixture(scope="module")
def trained(tones, cache, tmp_path_factory):
    """A run of twelve updates."""
    data = DataOptions(str(tones / "train.jsonl"), str(tones / "dev.jsonl"), cache=str(cache), buckets=1, workers=1)
    size = model.ModelConfig(width=16, top_width=24)
    folder = tmp_path_factory.mktemp("runs") / "small"
    options = TrainOptions(run=str(folder), steps=12, batch_size=8, eval_every=12, data=data, model=size)
    train(create(options, lambda _: None), lambda _: None)
    return Run.open(folder)


def test_an_exported_run_has_the_rounded_weights_and_no_paths(trained, tmp_path):
    out = export(trained, tmp_path / "small")
    before, after = trained.restore_params("best"), out.restore_params("best")
    for name in before:
        for leaf in before[name]:
            rounded = np.asarray(before[name][leaf], jnp.bfloat16).astype(np.float32)
            np.testing.assert_array_equal(after[name][leaf], rounded)
    assert (out.model, out.features, out.alphabet) == (trained.model, trained.features, trained.alphabet)
    assert out.config()["data"]["train"] == "train.jsonl" and out.config()["data"]["dev"] == ""
    for path in out.folder.rglob("*"):
        assert path.is_dir() or str(trained.folder.parent).encode() not in path.read_bytes(), path
    kept = [json.loads(line) for line in (out.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(record["kind"], record["step"]) for record in kept] == [("train", 10), ("dev", 12)]


def test_exporting_elsewhere_only(trained, tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(UserError, match="holds files already"):
        export(trained, tmp_path)


def test_an_exported_run_cannot_be_resumed_and_says_what_to_do(trained, tmp_path):
    out = export(trained, tmp_path / "small", dtype="float32")
    np.testing.assert_array_equal(
        out.restore_params()["layer_09"]["kernel"], trained.restore_params("best")["layer_09"]["kernel"]
    )
    with pytest.raises(UserError, match=r"as in an exported run; adapt it with --init"):
        out.restore_optimizer("last", {})


def test_the_script_and_adapting_what_it_wrote(trained, tones, cache, tmp_path):
    done = launch("export.py", f"--run={trained.folder}", "--out=given", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "step 12" in done.stdout and "bfloat16" in done.stdout
    done = launch(
        "train.py", "--init=given", "--frozen_layers=8", f"--data.train={tones}/german.jsonl", "--steps=2",
        "--batch_size=8", f"--data.cache={cache}", "--data.workers=1", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 steps are done: runs/german_k8" in done.stdout


@pytest.mark.skipif(not Run.exists(SHIPPED), reason="no network comes along")
class TestShipped:
    def test_it_is_small_and_says_what_it_is(self):
        weights = [path for path in (SHIPPED / "checkpoints").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in weights) <= 12e6
        card = (SHIPPED / "README.md").read_text()
        for word in ("Licence", "en_dev", "seed", "LER", "not good for"):
            assert word in card
        assert "/tmp" not in (SHIPPED / "config.toml").read_text()

    def test_it_is_used_where_there_is_no_run(self, tones, tmp_path):
        line = json.loads((tones / "dev.jsonl").read_text().splitlines()[0])
        done = launch("transcribe.py", str(tones / line["audio_filepath"]), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "models/english" in done.stderr and str(ROOT) in done.stderr
        done = launch("decode.py", f"--data={tones}/dev.jsonl", "--worst=1", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "runs" / "english" / "decode" / "dev.jsonl").is_file()
        assert not (SHIPPED / "decode").exists()

    def test_its_language_can_be_changed(self, tones, cache, tmp_path):
        done = launch(
            "train.py", "--init=models/english", "--frozen_layers=8", f"--data.train={tones}/german.jsonl",
            "--steps=1", "--batch_size=4", f"--run={tmp_path}/run", f"--data.cache={cache}", cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "new ä (zero)" in done.stdout
