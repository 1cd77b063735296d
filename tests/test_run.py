import asyncio
import collections
import contextlib
import errno
import gc
import json
import shutil

import jax
import numpy as np
import optax
import pytest

from w2l_jax import checkpoint, model
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
    params, optimizer = network(seed), optax.adam(1e-3)
    state = jax.device_get(optimizer.update(params, optimizer.init(params))[1])  # no two of its arrays are equal
    run.save(step, params, state, {"step": step}, best=best, keep=keep)
    return params, state


def equal(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_round_trip_is_exact(run):
    params, state = save(run, 5)
    restored = run.restore_params("last")
    assert jax.tree.all(jax.tree.map(np.array_equal, params, restored))
    again = run.restore_optimizer("last", state)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    assert jax.tree.all(jax.tree.map(np.array_equal, state, again))
    assert run.model == CONFIG and run.alphabet == preset("en") and run.features.mels == 128


def test_last_best_and_kept_steps_are_not_deleted(run):
    for step, best in ((1, 1), (2, 1), (3, 1), (4, 4), (5, 4)):
        save(run, step, seed=step, best=best, keep=[2])
    assert {f.name for f in run.checkpoints.glob("step_*")} == {"step_00000002", "step_00000004", "step_00000005"}
    assert [run.step_of(which) for which in ("last", "best", "2")] == [5, 4, 2]
    with pytest.raises(UserError, match="choose best, last or 2, 4, 5"):
        run.restore_params("3")


def test_leftovers_of_a_killed_process_are_ignored(run):
    params, _ = save(run, 1)
    shutil.copytree(run.checkpoints / "step_00000001", run.checkpoints / "step_00000002")  # killed before the pointer
    (run.checkpoints / ".step_00000003.tmp").mkdir()  # killed while writing
    assert run.step_of("last") == 1
    save(run, 2, seed=9)
    assert not jax.tree.all(jax.tree.map(np.array_equal, params, run.restore_params("last")))


def test_damaged_files_are_named(run):
    save(run, 1)
    file = next(path for path in (run.checkpoints / "step_00000001" / "params").rglob("d/*") if path.is_file())
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="damaged or incomplete checkpoint"):
        run.restore_params("last")


def test_a_flipped_bit_is_never_loaded(run):
    """Sixty positions in the files of a checkpoint: an error, or the stored values (as for a file with only a time)."""
    params, state = save(run, 1)
    files = sorted(path for path in run._folder(1).rglob("*") if path.is_file())
    sizes = np.array([path.stat().st_size for path in files])
    rng, refused = np.random.default_rng(0), 0
    for _ in range(60):
        path = files[rng.choice(len(files), p=sizes / sizes.sum())]
        content = path.read_bytes()
        flipped, place = bytearray(content), rng.integers(len(content))
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        for restore, stored in (
            (run.restore_params, params),
            (lambda which: run.restore_optimizer(which, state), state),
        ):
            try:
                found = restore("last")
            except UserError as error:
                found, refused = str(error), refused + 1
            same = isinstance(found, str) and "step_00000001" in found
            assert same or jax.tree.all(jax.tree.map(np.array_equal, stored, found)), (path, place)
        path.write_bytes(content)
    assert refused >= 30
    assert run.restore_params("last")


@pytest.mark.parametrize("size", ["64k", "300k"])
def test_a_full_disk_loses_no_checkpoint_and_leaves_nothing(small_disk, size):
    """Orbax reports it as lack of memory after a traceback on standard error; it must be reported as a system error."""
    network = ModelConfig(width=20, top_width=40)
    run = Run.create(small_disk(size) / "run", TrainOptions(model=network), preset("en"))
    params = jax.device_get(model.init(jax.random.key(0), network, 29))
    state = jax.device_get(optax.adam(1e-3).init(params))
    with contextlib.suppress(KeyError), run.locked():
        saved, failed = 0, None
        while not failed:
            try:
                run.save(saved + 1, params, state, {"step": saved + 1}, best=1, keep=range(9))
                saved += 1
            except OSError as error:
                failed = error
        assert failed.errno == errno.ENOSPC and f".step_{saved + 1:08d}" in failed.filename
        raise KeyError  # as if the process had ended
    assert {path.name for path in run.checkpoints.iterdir()} - {"checkpoints.json"} == {
        f"step_{step:08d}" for step in range(1, saved + 1)
    }
    assert saved == 0 or equal(run.restore_params("last"), params)


def test_leftovers_of_a_checkpoint_are_removed_by_training(run):
    save(run, 1)
    (run.checkpoints / ".step_00000002.partial" / "params").mkdir(parents=True)
    (run.checkpoints / ".checkpoints.json.tmp").write_text("{")
    with run.locked():
        assert {path.name for path in run.checkpoints.iterdir()} == {"step_00000001", "checkpoints.json"}


@pytest.mark.parametrize("name", ["params", "optimizer"])
def test_changed_weights_are_refused(run, name):
    """A complete, valid checkpoint in place of another: only the digest reveals it."""
    _, state = save(run, 1)
    save(run, 2, seed=2, keep=[1], best=1)
    shutil.rmtree(run._folder(1) / name)
    shutil.copytree(run._folder(2) / name, run._folder(1) / name)
    with pytest.raises(UserError, match=rf"{name}: damaged checkpoint"):
        _ = run.restore_params("1") if name == "params" else run.restore_optimizer("1", state)
    assert run.restore_params("2") and run.restore_optimizer("2", state)


def test_weights_that_are_not_finite_are_refused(run):
    params = network()
    params["layer_03"]["bias"] = np.full_like(params["layer_03"]["bias"], np.inf)
    run.save(1, params, None, {"step": 1}, best=None, keep=())
    with pytest.raises(UserError, match=r"step_00000001/params: layer_03\.bias holds values that are not finite"):
        run.restore_params("last")


def test_the_optimizer_state_is_stored_by_name(run):
    """As a named tree, so that Adam's moments are identified by name, not by position."""
    params, state = save(run, 1)
    assert set(checkpoint.named(state)) == {"0.count"} | {
        f"0.{moment}.{layer}.{leaf}" for moment in ("mu", "nu") for layer in params for leaf in ("kernel", "bias")
    }
    stored = checkpoint.restore(run._folder(1) / "optimizer")
    assert set(checkpoint.named(stored)) == set(checkpoint.named(state))
    assert np.array_equal(stored[0]["nu"]["layer_02"]["kernel"], state[0].nu["layer_02"]["kernel"])
    swapped = collections.namedtuple("Other", ["count", "nu", "mu"])  # the same shapes in the same order
    other = run.restore_optimizer("last", (swapped(*state[0]), *state[1:]))
    assert np.array_equal(other[0].mu["layer_02"]["kernel"], state[0].mu["layer_02"]["kernel"])
    renamed = collections.namedtuple("Renamed", ["count", "first", "second"])
    with pytest.raises(UserError, match=r"optimizer: 0\.first\.layer_01\.bias does not fit the options"):
        run.restore_optimizer("last", (renamed(*state[0]), *state[1:]))


def test_an_alphabet_of_another_run(run):
    save(run, 1)
    (run.folder / "alphabet.json").write_text(preset("de").to_json())
    with pytest.raises(UserError, match=r"layer_11.*are of different runs"):
        run.restore_params("last")


def test_an_architecture_of_another_run(run):
    save(run, 1)
    path = run.folder / "config.toml"
    path.write_text(path.read_text().replace("width = 4\n", "width = 6\n", 1))
    with pytest.raises(UserError, match="are of different runs"):
        run.restore_params("last")


def test_an_optimizer_state_of_other_options(run):
    params, _ = save(run, 1)
    with pytest.raises(UserError, match="does not fit the options"):
        run.restore_optimizer("last", optax.sgd(1.0).init(params))


def test_missing_runs_and_checkpoints_and_other_versions(run, tmp_path):
    with pytest.raises(UserError, match="not a run"):
        Run.open(tmp_path / "nothing")
    with pytest.raises(UserError, match="no checkpoint yet"):
        run.restore_params("best")
    with pytest.raises(UserError, match="a run exists"):
        Run.create(run.folder, TrainOptions(), preset("en"))
    for version, remedy in ((99, "upgrade"), (1, "older version")):
        (run.folder / "run.json").write_text(json.dumps({"format": version}))
        with pytest.raises(UserError, match=rf"run\.json: run format {version}, but this version reads 2; .*{remedy}"):
            Run.open(run.folder)
    (run.folder / "run.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Run.open(run.folder)


@pytest.mark.parametrize("name", ["checkpoints/checkpoints.json", "alphabet.json"])
def test_a_flipped_bit_in_the_pointers_or_the_alphabet(run, name):
    """A changed step or a changed letter would otherwise be read as valid."""
    save(run, 3)
    path, content = run.folder / name, (run.folder / name).read_bytes()

    def found():
        return run.position(), run.step_of("best"), run.alphabet

    expected = found()
    for place in range(len(content)):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            with contextlib.suppress(UserError):
                assert found() == expected, (place, bit)


@pytest.mark.parametrize(("reason", "printed"), [("full [tensorstore_spec='{}']", False), ("of another program", True)])
def test_errors_after_the_first_failed_array_are_not_printed(caplog, tmp_path, reason, printed):
    """Orbax raises its first error; asyncio would print those of its other tasks, in a third of full disks."""
    checkpoint.write(tmp_path, {"params": {"layer": np.zeros(1)}})

    async def fails():
        raise ValueError(reason)

    loop = asyncio.new_event_loop()
    task = loop.create_task(fails())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    del task
    gc.collect()
    assert ("exception was never retrieved" in caplog.text) == printed
