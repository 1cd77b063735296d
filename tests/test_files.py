"""Files and folders when several processes use them, or a write fails."""

import contextlib
import multiprocessing

import pytest

from w2l_jax import files
from w2l_jax.errors import UserError


def test_a_lock_excludes_others_and_leaves_nothing(tmp_path):
    folder = tmp_path / "a" / "b"
    with files.locked(folder, "busy") as held:
        assert held.name == str(folder / ".lock")
        with pytest.raises(UserError, match=r"^busy$"), files.locked(folder, "busy"):
            pass
        (folder / "file").touch()
    assert [path.name for path in folder.iterdir()] == ["file"]
    with contextlib.suppress(OSError), files.locked(tmp_path / "empty" / "runs", "busy"):
        raise OSError
    assert not (tmp_path / "empty").exists()
    with files.locked(folder, "busy"):
        pass


def hold(folder, ready, go):
    with files.locked(folder, "busy"):
        ready.set()
        go.wait(60)


def test_a_lock_ends_with_a_killed_process(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, go))
    process.start()
    assert ready.wait(60)
    with pytest.raises(UserError, match="busy"), files.locked(tmp_path, "busy"):
        pass
    process.kill()
    process.join()
    with files.locked(tmp_path, "busy"):
        pass
