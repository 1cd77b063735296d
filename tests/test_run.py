import json
import shutil

import jax
import numpy as np
import optax
import pytest

from w2l_jax import model
from w2l_jax.alphabet import preset
from w2l_jax.errors import UserError
from w2l_jax.model import ModelConfig
from w2l_jax.run import Run
from w2l_jax.training.options import TrainOptions

CONFIG = ModelConfig(width=4, top_width=5)


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", TrainOptions(model=CONFIG), preset("en"))


def network(seed=0, outputs=29):
    return jax.device_get(model.init(jax.random.key(seed), CONFIG, outputs))


def save(run, step, seed=0, best=None, keep=()):
    params = network(seed)
    state = optax.adam(1e-3).init(params)
    run.save(step, params, state, {"step": step}, best=best, keep=keep)
    return params, state


def test_round_trip_is_exact(run):
    params, state = save(run, 5)
    restored = run.restore_params("last")
    assert jax.tree.all(jax.tree.map(np.array_equal, params, restored))
    again = run.restore_optimizer("last", state)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    assert jax.tree.all(jax.tree.map(np.array_equal, state, again))
    assert run.model == CONFIG and run.alphabet == preset("en") and run.features.mels == 128


def test_last_best_and_kept_steps_stay(run):
    for step, best in ((1, 1), (2, 1), (3, 1), (4, 4), (5, 4)):
        save(run, step, seed=step, best=best, keep=[2])
    assert {f.name for f in run.checkpoints.glob("step_*")} == {"step_00000002", "step_00000004", "step_00000005"}
    assert [run.step_of(which) for which in ("last", "best", "2")] == [5, 4, 2]
    with pytest.raises(UserError, match="there are best, last and 2, 4, 5"):
        run.restore_params("3")


def test_leftovers_of_a_kill_do_not_matter(run):
    params, _ = save(run, 1)
    shutil.copytree(run.checkpoints / "step_00000001", run.checkpoints / "step_00000002")  # killed before the pointer
    (run.checkpoints / ".step_00000003.tmp").mkdir()  # killed while writing
    assert run.step_of("last") == 1
    save(run, 2, seed=9)
    assert not jax.tree.all(jax.tree.map(np.array_equal, params, run.restore_params("last")))


def test_damage_is_told(run):
    save(run, 1)
    file = next(path for path in (run.checkpoints / "step_00000001" / "params").rglob("d/*") if path.is_file())
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="damaged or incomplete checkpoint"):
        run.restore_params("last")


def test_alphabet_that_does_not_belong(run):
    save(run, 1)
    (run.folder / "alphabet.json").write_text(preset("de").to_json())
    with pytest.raises(UserError, match=r"layer_11.*do not belong together"):
        run.restore_params("last")


def test_architecture_that_does_not_belong(run):
    save(run, 1)
    path = run.folder / "config.toml"
    path.write_text(path.read_text().replace("width = 4\n", "width = 6\n", 1))
    with pytest.raises(UserError, match="do not belong together"):
        run.restore_params("last")


def test_optimizer_of_other_options(run):
    params, _ = save(run, 1)
    with pytest.raises(UserError, match="does not fit the options"):
        run.restore_optimizer("last", optax.sgd(1.0).init(params))


def test_no_run_no_checkpoint_other_version(run, tmp_path):
    with pytest.raises(UserError, match="no run there"):
        Run.open(tmp_path / "nothing")
    with pytest.raises(UserError, match="no checkpoint yet"):
        run.restore_params("best")
    with pytest.raises(UserError, match="a run exists already"):
        Run.create(run.folder, TrainOptions(), preset("en"))
    (run.folder / "run.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(UserError, match="format 99"):
        Run.open(run.folder)
    (run.folder / "run.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Run.open(run.folder)
