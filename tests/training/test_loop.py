"""The training loop waits only for numbers that decide something."""

import contextlib
import dataclasses
import json
import os
import signal
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training_options import changed
from w2l_jax import inference, training
from w2l_jax.model import ModelConfig
from w2l_jax.run import Run
from w2l_jax.training import log, loop, saving
from w2l_jax.training.certificate import CompiledStep
from w2l_jax.training.options import (
    AugmentOptions,
    DataOptions,
    LogOptions,
    MemoryOptions,
    TrainOptions,
)


@pytest.fixture
def options(tones, cache, tmp_path):
    data = DataOptions(
        train=str(tones / "train.jsonl"), dev=str(tones / "dev.jsonl"), cache=str(cache), buckets=1, workers=1
    )
    model = ModelConfig(width=8, top_width=12, initializer="he_uniform", activation="elu")
    return TrainOptions(
        run=str(tmp_path / "run"), steps=12, batch_size=4, data=data, model=model,
        log=LogOptions(every=2, eval_every=8, checkpoint_every=8),
    )  # fmt: skip


def train(options, report=lambda line: None):
    return training.train(training.create(options, lambda line: None), report)


def lines(options, kind):
    return [line for line in log.read(Path(options.run)) if line["kind"] == kind]


@pytest.mark.parametrize("resident", ["off", "on"])
def test_there_are_no_implicit_transfers(options, resident):
    changes = {"augment": AugmentOptions(speed=0.1, time_masks=1), "memory": MemoryOptions(resident=resident)}
    job = training.create(dataclasses.replace(options, **changes), lambda line: None)
    with jax.transfer_guard("disallow"):
        training.train(job, lambda line: None)
        with pytest.raises(Exception, match=r"[Dd]isallowed"):  # the guard itself makes one
            jnp.ones(3) + np.ones(3)
    assert [line["step"] for line in lines(options, "train")] == list(range(1, 13))


def test_logged_numbers_are_fetched_after_the_next_dispatch(options, monkeypatch):
    """`events` holds updates as they are dispatched and, negative, the newest one whose numbers are fetched."""
    events, made_by = [], {}
    device_get, call = jax.device_get, CompiledStep.__call__

    def dispatched(self, state, batch):
        state, scalars = call(self, state, batch)
        events.append(len(made_by) + 1)
        made_by[id(scalars["loss"])] = scalars["loss"], events[-1]
        return state, scalars

    def fetched(tree):
        if isinstance(tree, list) and tree and "loss" in tree[0]:
            events.append(-made_by[id(tree[-1]["loss"])][1])
        return device_get(tree)

    monkeypatch.setattr(CompiledStep, "__call__", dispatched)
    monkeypatch.setattr(jax, "device_get", fetched)
    train(options)
    # Lines are written after every second update; weights are evaluated and stored after 8 and 12.
    assert events == [1, 2, -1, 3, 4, -3, 5, 6, -5, 7, 8, -7, -8, 9, 10, -9, 11, 12, -11, -12]


def test_at_most_two_updates_are_queued(options, monkeypatch):
    dispatched, awaited, most = [], [], []
    call, wait = CompiledStep.__call__, jax.block_until_ready

    def dispatch(self, state, batch):
        dispatched.append(batch)
        most.append(len(dispatched) - len(awaited))
        return call(self, state, batch)

    def waiting(tree):
        if isinstance(tree, dict) and "loss" in tree:
            awaited.append(tree)
        return wait(tree)

    monkeypatch.setattr(CompiledStep, "__call__", dispatch)
    monkeypatch.setattr(jax, "block_until_ready", waiting)
    train(dataclasses.replace(options, log=LogOptions(100, 100, every=100)))
    assert len(dispatched) == 12 and len(awaited) == 10 and max(most) == 2


def test_a_checkpoint_is_written_while_training_continues(options, monkeypatch):
    """It holds the weights of its own step, even if the writer is delayed by two updates."""
    call, save = CompiledStep.__call__, Run.save
    further, updates, kept = threading.Event(), [], {}

    def update(self, state, batch):
        updates.append(None)
        if len(updates) == 11:
            further.set()
        return call(self, state, batch)

    def slow_save(self, step, *arguments, **settings):
        kept[step] = threading.current_thread() is threading.main_thread(), further.wait(60)
        save(self, step, *arguments, **settings)

    options = changed(options, keep_steps="8")
    train(options)
    monkeypatch.setattr(CompiledStep, "__call__", update)
    monkeypatch.setattr(Run, "save", slow_save)
    slow = dataclasses.replace(options, run=options.run + "_slow")
    train(slow)
    assert kept == {8: (False, True), 12: (False, True)}
    for which in ("8", "last"):
        a, b = (jax.tree.leaves(Run.open(each.run).restore_params(which)) for each in (options, slow))
        assert all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))
    assert Run.complete(slow.run)


def test_a_checkpoint_that_cannot_be_written_stops_training(options, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving.Run, "save", full)
    with pytest.raises(OSError, match="No space left"):
        train(options)
    with pytest.raises(OSError, match="No space left"):  # at the next logged update, not at the end
        train(dataclasses.replace(options, run=options.run + "_long", steps=10**6))


def test_the_logged_learning_rate_is_the_applied_one(options, monkeypatch):
    """A skipped update does not advance the schedule; its loss is not finite and null in the file."""
    updates = []
    call = CompiledStep.__call__

    def spoilt(self, state, batch):
        updates.append(None)
        if len(updates) in (3, 4):
            batch = batch._replace(features_BxTxM=batch.features_BxTxM.at[0, 5, 3].set(jnp.nan))
        return call(self, state, batch)

    monkeypatch.setattr(CompiledStep, "__call__", spoilt)
    reports = []
    train(
        changed(options, learning_rate=0.12, decay="linear", steps=8),
        reports.append,
    )
    found = lines(options, "train")
    assert [line["skipped"] for line in found] == [0, 0, 1, 1, 0, 0, 0, 0]
    applied = [0, 1, 2, 2, 2, 3, 4, 5]
    np.testing.assert_allclose(
        [line["learning_rate"] for line in found], [0.12 * (1 - n / 8) for n in applied], rtol=1e-5
    )
    text = (Path(options.run) / "metrics.jsonl").read_text()
    raw = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert [line["loss"] is None for line in raw if line["kind"] == "train"] == [False, False, True, True] + 4 * [False]
    assert np.isnan(found[2]["loss"]) and sum("gradient is not finite" in line for line in reports) == 1


def test_evaluation_leaves_logits_on_the_device(options, monkeypatch):
    job, brought = training.create(options, lambda line: None), []
    device_get = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: brought.append(tree) or device_get(tree))
    settings = {"batch_size": 4, "place": job.devices.place}
    predictions = list(inference.predict(job.state.params, job.dev, job.options.model, **settings))
    paths = list(inference.predict(job.state.params, job.dev, job.options.model, with_logits=False, **settings))
    assert [len(tree) for tree in brought] == [4, 4, 4, 3, 3, 3] and len(predictions) == len(paths) == 12
    for a, b in zip(predictions, paths, strict=True):
        assert b.logits_SxV is None and (a.index, a.loss, a.feasible) == (b.index, b.loss, b.feasible)
        np.testing.assert_array_equal(a.logits_SxV.argmax(1), b.path_S)


def test_every_padded_shape_is_compiled_before_the_first_update(options, monkeypatch):
    compiled_by = set()
    make_step = loop.make_step

    class Lowered:
        def __init__(self, lowered):
            self.lowered = lowered

        def compile(self):
            compiled_by.add(threading.current_thread().name.split("_")[0])
            return self.lowered.compile()

    class Step:
        def __init__(self, step):
            self.step = step

        def lower(self, *arguments):
            return Lowered(self.step.lower(*arguments))

    monkeypatch.setattr(loop, "make_step", lambda *arguments: Step(make_step(*arguments)))
    reports = []
    train(dataclasses.replace(options, data=dataclasses.replace(options.data, buckets=3), steps=4), reports.append)
    reports = [line for line in reports if line.startswith(("compil", "frozen"))]
    assert reports[0].startswith("compiling the update for 3 padded shapes, longest first")
    assert [line.split(" after")[0] for line in reports if line.startswith("compiled")] == [
        f"compiled {i} of 3 shapes" for i in (1, 2, 3)
    ]
    assert reports[2].startswith("frozen layers: none") and compiled_by == {"compile"}
    frames = json.loads((Path(options.run) / "certificate.json").read_text())["frames"]
    assert reports[1].endswith(f"up to {frames} frames")


def test_a_signal_during_compilation_stops_at_once(options, monkeypatch):
    compiled, released = threading.Event(), threading.Event()

    class Slow:
        def lower(self, *_):
            return self

        def compile(self):
            released.wait(60)
            compiled.set()

    monkeypatch.setattr(loop, "update_of", lambda job: CompiledStep(Slow()))
    hit = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        train(options, lambda line: line.startswith("compiling") and hit.start())
    assert not compiled.is_set()
    released.set()
    monkeypatch.undo()

    def swallowed(self):  # as by JAX's callback of the garbage collector, in which the handler may run
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Trainer, "_begin_phase", swallowed)
        with pytest.raises(KeyboardInterrupt):
            train(dataclasses.replace(options, resume=True))
    assert train(dataclasses.replace(options, resume=True)).position.step == 12
