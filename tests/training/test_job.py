"""Training jobs: valid combinations of options, learning, and stopping without losses."""

import collections
import contextlib
import dataclasses
import json
import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.training_options import changed, train_options
from w2l_jax import config, model, training
from w2l_jax.alphabet import Alphabet
from w2l_jax.corpora import manifest
from w2l_jax.dataset.prepare import PrepareConfig, prepare
from w2l_jax.errors import UserError
from w2l_jax.model import ModelConfig
from w2l_jax.run import Run
from w2l_jax.training import feed, loop
from w2l_jax.training import job as job_module
from w2l_jax.training.evaluation import evaluate
from w2l_jax.training.old_language import representable
from w2l_jax.training.options import AugmentOptions, DataOptions, FeatureOptions, ModelOptions, TrainOptions

TINY = ModelConfig(width=16, top_width=24, initializer="he_uniform", activation="elu")


def small(tones, cache, folder):
    data = DataOptions(
        train=str(tones / "train.jsonl"), dev=str(tones / "dev.jsonl"), cache=str(cache), buckets=1, workers=1
    )
    return train_options(
        run=str(folder), steps=6, batch_size=8, learning_rate=3e-3, eval_every=4, checkpoint_every=4,
        every=2, model=TINY, data=data,
    )  # fmt: skip


@pytest.fixture
def options(tones, cache, tmp_path):
    return small(tones, cache, tmp_path / "run")


def run(options, report=lambda line: None):
    job = training.create(options, report)
    return job, training.train(job, report)


def german(options, base, **changes):
    folder = Path(options.data.train).parent
    data = dataclasses.replace(options.data, train=str(folder / "german.jsonl"), dev=str(folder / "german_dev.jsonl"))
    return changed(options, init=base, run=options.run + "_de", data=data, model=ModelOptions(), **changes)


def equal(a, b):
    return all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    )


def orbax(folder):
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(folder.absolute())


def lines(folder, kind):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def test_run_folder_is_complete(options):
    reports = []
    job, result = run(changed(options, keep_steps="3"), reports.append)
    folder = job.run.folder
    assert result.position.step == 6 and "6 steps" in result.reason
    assert [r["step"] for r in lines(folder, "train")] == [1, 2, 3, 4, 5, 6]
    assert [r["step"] for r in lines(folder, "dev")] == [4, 6]
    assert {"loss", "gradient_norm", "learning_rate", "seconds", "epoch", "infeasible"} <= set(
        lines(folder, "train")[0]
    )
    assert lines(folder, "dev")[0]["samples"][0].keys() == {"id", "expected", "predicted"}
    kept = {f.name for f in (folder / "checkpoints").glob("step_*")}
    assert {"step_00000003", "step_00000006"} <= kept
    certificate = json.loads((folder / "certificate.json").read_text())
    assert certificate["trained_parameters"] == sum(x.size for x in jax.tree.leaves(job.run.restore_params("last")))
    assert any("GFLOP" in line for line in reports)
    assert config.load(TrainOptions, folder / "config.toml").model == ModelOptions(**dataclasses.asdict(TINY))
    assert Run.open(folder).alphabet.size == 29 and Run.complete(folder)
    assert list((folder / "tensorboard").iterdir())
    with pytest.raises(UserError, match="a run exists"):
        run(options)


def test_it_learns(options):
    _, result = run(changed(options, steps=250, eval_every=250, warmup_steps=20, decay="linear"))
    assert result.evaluation["ler"] < 0.3
    losses = [r["loss"] for r in lines(Run.open(options.run).folder, "train")]
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:10])


def test_best_checkpoint_and_patience(options):
    # With a learning rate near zero, LER never improves on the first evaluation; the loss may.
    stuck = changed(options, steps=100, eval_every=2, patience=2, learning_rate=1e-12)
    _, result = run(stuck)
    assert result.reason.startswith("no better dev LER in 2")
    assert result.position.step < 100
    pointers = Run.open(stuck.run).pointers()
    assert pointers["best"] <= pointers["last"] == result.position.step


def test_time_limit(options):
    _, result = run(changed(options, steps=1000, max_hours=1e-9))
    assert "hours" in result.reason and result.position.step == 2


def test_adapting_freezes_and_inherits(options):
    _, _ = run(options)
    job, _ = run(german(options, options.run, frozen_layers="8"))
    base, adapted = Run.open(options.run), Run.open(job.run.folder)
    before, after = base.restore_params("best"), adapted.restore_params("last")
    for number in range(1, 12):
        name = model.layer_name(number)
        assert equal(before[name], after[name]) == (number <= 8) or number == 11
    assert adapted.alphabet.size == 33
    assert json.loads((adapted.folder / "remap.json").read_text()) == {
        "kept": base.alphabet.characters, "new": "äöüß", "dropped": "", "copied": {},
        "criterion": "",
    }  # fmt: skip
    assert job.options.model == TINY  # the base's architecture


def test_reinitialize(options):
    run(options)
    job = training.create(german(options, options.run, frozen_layers="8", reinitialize=True))
    base = Run.open(options.run).restore_params("best")
    assert equal(job.state.params["layer_08"], base["layer_08"])
    assert not equal(job.state.params["layer_09"], base["layer_09"])
    # A new output layer has nothing of the old alphabet, so no characters are reported.
    assert not (job.run.folder / "remap.json").exists()


def test_new_characters_can_start_as_similar_ones(options):
    run(options)
    reports = []
    job = training.create(german(options, options.run, frozen_layers="8", new_characters="copy"), reports.append)
    bias, kernel = (np.asarray(job.state.params["layer_11"][name]) for name in ("bias", "kernel"))
    base = Run.open(options.run).restore_params("best")["layer_11"]
    for char, source in {"ä": "a", "ö": "o", "ü": "u", "ß": "s"}.items():
        old, new = Run.open(options.run).alphabet.encode(source)[0], job.alphabet.encode(char)[0]
        assert bias[new] == base["bias"][old] and (kernel[..., new] == base["kernel"][..., old]).all()
    assert "alphabet: kept abcdefghijklmnopqrstuvwxyz␣', new ä (copied from a) ö (copied from o)" in "".join(reports)
    stored = json.loads((job.run.folder / "remap.json").read_text())
    assert stored["copied"] == {"ä": "a", "ö": "o", "ü": "u", "ß": "s"}


def test_a_frozen_output_layer_cannot_learn_new_characters(options):
    run(options)
    with pytest.raises(UserError, match="has to learn 'äöüß': omit layer 11"):
        training.create(german(options, options.run, frozen_layers="1-3,11"))


@pytest.mark.parametrize(("average", "optimizer"), [(0.0, "adam"), (0.9, "adam"), (0.0, "muon")])
def test_interrupted_and_resumed_is_bit_identical(options, tmp_path, average, optimizer):
    augment = AugmentOptions(time_masks=1, speed=0.1)
    full = changed(
        options,
        steps=12,
        augment=augment,
        decay="cosine",
        clip_norm=5.0,
        average_decay=average,
        **{"optimizer.name": optimizer},
    )
    _, uninterrupted = run(full)

    parts = dataclasses.replace(full, run=str(tmp_path / "parts"))

    def interrupt(line):  # after the evaluation at step 4, as a user's Ctrl-C or a scheduler's SIGTERM would
        if line.startswith("step 4"):
            os.kill(os.getpid(), signal.SIGTERM)

    _, first = run(parts, interrupt)
    assert first.signal == "SIGTERM" in first.reason and 4 <= first.position.step < 12
    notes = []
    training.create(german(parts, parts.run), notes.append)
    assert any("is unfinished: its checkpoint of step 4 is adapted" in note for note in notes)
    _, second = run(dataclasses.replace(parts, resume=True))
    assert second.position.step == 12
    a, b = Run.open(full.run), Run.open(parts.run)
    assert equal(a.restore_params("last"), b.restore_params("last"))
    assert a.pointers()["best"] == b.pointers()["best"]
    strip = {"seconds"}
    for kind in ("train", "dev"):
        left, right = ([{k: v for k, v in r.items() if k not in strip} for r in lines(x.folder, kind)] for x in (a, b))
        assert left == right
    assert second.position.seconds > first.position.seconds
    assert uninterrupted.position.best_ler == second.position.best_ler


@pytest.mark.slow
def test_unfreezing_interrupted_anywhere_is_bit_identical(options, tmp_path):
    """Stopped before, at, right after and long after the update at which layers are unfrozen."""
    run(options)
    full = german(
        options, options.run, frozen_layers="1-3,9", unfreeze_after=4, reinitialize=True, decay="cosine",
        clip_norm=5.0, average_decay=0.9,
    )  # fmt: skip
    full = changed(full, steps=8, eval_every=2, checkpoint_every=2, keep_steps="4,6")
    reports = []
    run(full, reports.append)
    parts = dataclasses.replace(full, run=str(tmp_path / "parts"))
    stops = ["step 2: dev", "step 4: dev", "step 4: all layers are trained", "step 6: dev"]

    def interrupt(line):
        if stops and line.startswith(stops[0]):
            stops.pop(0)
            os.kill(os.getpid(), signal.SIGTERM)

    reached = []
    while not Run.complete(parts.run):
        resume = Run.exists(parts.run)
        with contextlib.suppress(KeyboardInterrupt):  # stopped at once: resumed at the fourth update, it made none
            reached.append(run(dataclasses.replace(parts, resume=resume), interrupt)[1].position.step)
    assert reached == [2, 4, 6, 8] and not stops
    a, b = Run.open(full.run), Run.open(parts.run)
    for which in ("4", "6", "last", "best"):
        assert equal(a.restore_params(which), b.restore_params(which)), which
    strip = {"seconds"}
    for kind in ("train", "dev"):
        left, right = ([{k: v for k, v in r.items() if k not in strip} for r in lines(x.folder, kind)] for x in (a, b))
        assert left == right
    base, at, after = Run.open(options.run).restore_params("best"), a.restore_params("4"), a.restore_params("last")
    for number in range(1, 12):
        name = model.layer_name(number)
        assert equal(base[name], at[name]) == (number in (1, 2, 3, 9))
        assert not equal(at[name], after[name])
    # Until the fourth update, only the seven trained layers have moments: two per leaf.
    for folder in (a, b):
        stored = {step: orbax(folder.checkpoints / f"step_{step:08d}" / "optimizer") for step in (4, 6)}
        # Two counts, moments, and the last weights beside their averages; then a third count and all layers.
        assert [len(jax.tree.leaves(stored[step])) for step in (4, 6)] == [2 + 3 * 14, 3 + 3 * 22]
        certificate = json.loads((folder.folder / "certificate.json").read_text())
        before = certificate["before_unfreezing"]
        assert before["frozen_layers"] == [1, 2, 3, 9] and certificate["frozen_layers"] == []
        assert before["flops"] < certificate["flops"] and before["optimizer_bytes"] < certificate["optimizer_bytes"]
    assert sum("GFLOP" in line for line in reports) == 2


def test_frozen_layers_are_verified_at_every_evaluation_and_until_they_are_unfrozen(options):
    run(options)
    reports = []
    adapted = german(options, options.run, frozen_layers="1-3,9", unfreeze_after=5, verify=True)
    run(changed(adapted, steps=7, eval_every=3), reports.append)
    expected = {"layers": [1, 2, 3, 9], "arrays": 8, "unchanged": True}
    assert lines(Path(adapted.run), "frozen") == [{"kind": "frozen", "step": step, **expected} for step in (3, 4, 5)]
    assert sum("all 8 frozen arrays are bit-identical to the start of training" in line for line in reports) == 3


@pytest.mark.parametrize("leaf", ["kernel", "bias"])
def test_a_frozen_layer_that_moved_stops_the_run(options, monkeypatch, leaf):
    run(options)
    adapted = german(options, options.run, frozen_layers="8", verify=True)
    make_step = loop.make_step

    def tampering(*arguments):
        step = make_step(*arguments)

        def tampered(state, batch):
            state, metrics = step(state, batch)
            layer = state.params["layer_07"]
            one = (-1,) * layer[leaf].ndim
            changed = layer[leaf].at[one].set(jnp.nextafter(layer[leaf][one], 1))  # the last bit of one weight
            now = {**layer, leaf: jnp.where(state.step == 2, changed, layer[leaf])}
            return state.replace(params={**state.params, "layer_07": now}), metrics

        return jax.jit(tampered)

    monkeypatch.setattr(loop, "make_step", tampering)
    with pytest.raises(UserError, match=f"frozen arrays changed since training began: layer_07/{leaf};"):
        run(changed(adapted, eval_every=4, checkpoint_every=1))
    assert Run.open(adapted.run).pointers()["last"] == 1
    assert [record["step"] for record in lines(Path(adapted.run), "frozen")] == [1]


def keeping_english(options, **changes):
    """German, adapted from the English run, with English as a quarter of every batch."""
    folder = Path(options.data.train).parent
    german_only = german(options, options.run, frozen_layers="8", **changes)
    english = {"old_train": str(folder / "train.jsonl"), "old_dev": str(folder / "dev.jsonl")}
    return changed(german_only, **english, buckets=2)


def test_old_training_data_are_mixed_in_and_old_dev_data_evaluated(options):
    run(options)
    reports = []
    job, result = run(keeping_english(options), reports.append)
    entries = job.train.dataset.entries
    for step, batch in enumerate(map(jax.device_get, feed.stream(job, 0))):
        drawn = [entries[i] for i in job.order.batch(step)]
        assert [entry.language for entry in drawn].count("en") == 2 and len(drawn) == 8
        texts = [job.alphabet.decode(ids[:n]) for ids, n in zip(batch.labels_BxL, batch.label_lengths_B, strict=True)]
        assert texts == [entry.transcript for entry in drawn]
        assert batch.features_BxTxM.shape[1] in {bucket.frames for bucket in job.train.buckets}
    assert step == 5 and len(job.train.buckets) <= 2
    dev, old = lines(job.run.folder, "dev"), lines(job.run.folder, "old_dev")
    assert [r["step"] for r in dev] == [r["step"] for r in old] == [4, 6]
    assert dev[-1]["ler"] == result.evaluation["ler"]
    assert job.run.pointers()["meta"]["best_loss"] in [r["loss"] for r in dev]
    # The logged rate on the English data equals that of evaluating the stored weights.
    params = job.run.restore_params("last")
    alone = evaluate(params, job.old_dev, job.alphabet, TINY, batch_size=3, dtype=jnp.float32)
    assert old[-1]["loss"] == pytest.approx(alone.loss, rel=1e-5) and old[-1]["ler"] == alone.rates.ler
    assert {entry.language for entry in job.old_dev.dataset.entries} == {"en"}
    assert any(line.startswith("step 6: old_dev loss") for line in reports)


def test_forgetting_is_measured_without_old_training_or_dev_data(options):
    run(options)
    kept = changed(keeping_english(options), old_train="")
    kept = dataclasses.replace(kept, data=dataclasses.replace(kept.data, dev=""))
    job, result = run(kept)
    assert len(job.train.dataset) == 24 and result.evaluation is None
    assert [r["step"] for r in lines(job.run.folder, "old_dev")] == [4, 6]
    assert job.run.pointers()["best"] == job.run.pointers()["last"]


def test_mixed_training_resumes_bit_identically_and_only_with_the_same_old_data(options, tmp_path):
    run(options)
    full = keeping_english(options)
    run(full)
    parts = dataclasses.replace(full, run=str(tmp_path / "parts"))
    run(parts, lambda line: line.startswith("step 4: dev") and os.kill(os.getpid(), signal.SIGTERM))
    path = Path(parts.run) / "data.json"
    stored = json.loads(path.read_text())
    for name in ("old_train", "old_dev"):
        path.write_text(json.dumps({**stored, name: "other"}))
        with pytest.raises(UserError, match=f"the {name} data changed"):
            run(dataclasses.replace(parts, resume=True))
    path.write_text(json.dumps(stored))
    run(dataclasses.replace(parts, resume=True))
    assert equal(Run.open(full.run).restore_params("last"), Run.open(parts.run).restore_params("last"))


def test_a_speaker_in_old_training_and_old_dev_data(options):
    run(options)
    kept = keeping_english(options)
    kept = dataclasses.replace(kept, data=dataclasses.replace(kept.data, old_dev=options.data.train))
    with pytest.raises(UserError, match="train-0"):
        training.create(kept)


def test_old_transcripts_outside_the_new_alphabet(options):
    data = training.create(options).train.dataset
    reports = []
    with pytest.raises(UserError, match=r"first one train_0\d\d: 'd' in '.*drop_utterance omits them"):
        representable(data, Alphabet("abc '"), False, reports.append)
    left = representable(data, Alphabet("abc '"), True, reports.append)
    assert {entry.id for entry in left.entries} == {e.id for e in data.entries if "d" not in e.transcript}
    assert 0 < len(left) < len(data) and f"skipped {len(data) - len(left)} utterances" in reports[0]
    with pytest.raises(UserError, match="48 of 48 transcripts"):
        representable(data, Alphabet("xyz"), True, reports.append)
    assert representable(data, data.alphabet, False, reports.append) is data and len(reports) == 1


@pytest.mark.parametrize("share", [1.0, 0.0, -0.1])
def test_invalid_shares(share):
    with pytest.raises(UserError, match=r"data.old_share .*between 0 and 1"):
        DataOptions(old_share=share)


def test_a_finished_run_can_be_trained_further(options):
    run(options)
    _, result = run(dataclasses.replace(options, resume=True))
    assert "raise steps" in result.reason
    notes = []
    _, result = run(dataclasses.replace(options, resume=True, steps=8), notes.append)
    assert result.position.step == 8 and not any("learning rate" in note for note in notes)
    assert Run.open(options.run).config()["steps"] == 8 and not Run.open(options.run).config()["resume"]


def test_a_decaying_rate_that_jumps_on_resuming_is_reported(options):
    options = changed(options, decay="linear")
    run(options)
    notes = []
    run(dataclasses.replace(options, resume=True, steps=8), notes.append)
    assert "note: the learning rate decays over 8 steps now, not 6, so it jumps" in notes


def test_a_language_without_a_preset(options, tmp_path):
    """Its alphabet is that of the prepared folder, at the start and when resuming."""
    utterances = [dataclasses.replace(u, language="Klingon") for u in manifest.read(options.data.train)]
    config_ = PrepareConfig(language="Klingon").with_alphabet_of(u.text for u in utterances)
    prepare(utterances, tmp_path / "klingon", config_, workers=1)
    folder = str(tmp_path / "klingon")
    options = dataclasses.replace(options, data=dataclasses.replace(options.data, train=folder, dev=folder))
    options = changed(options, allow_speaker_overlap=True)
    job, _ = run(options)
    assert (
        job.alphabet.characters == config_.alphabet and Run.open(options.run).config()["data"]["language"] == "klingon"
    )
    stored = config.load(TrainOptions, Path(options.run) / "config.toml")
    _, result = run(dataclasses.replace(stored, resume=True, steps=8))
    assert result.position.step == 8
    data = dataclasses.replace(options.data, language="Romulan")
    with pytest.raises(UserError, match="prepared with language=klingon, but romulan is needed here"):
        run(dataclasses.replace(options, run=str(tmp_path / "other"), data=data))


def test_several_sources_with_weights(options, tmp_path):
    """The utterances of each source are seen as often as its weight says, in one alphabet."""
    rows = [json.loads(line) for line in Path(options.data.train).read_text().splitlines()]
    folder = Path(options.data.train).parent
    rows = [row | {"audio_filepath": str(folder / row["audio_filepath"])} for row in rows]
    for name, part in (("a", rows[:4]), ("b", rows[4:6])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    data = dataclasses.replace(options.data, train=f"{tmp_path}/a.jsonl,{tmp_path}/b.jsonl=3", dev="")
    job, _ = run(dataclasses.replace(options, data=data))
    counts = collections.Counter(entry.transcript for entry in job.train.dataset.entries)
    assert sum(counts.values()) == 4 + 3 * 2
    assert sorted(collections.Counter(e.id for e in job.train.dataset.entries).values()) == [1, 1, 1, 1, 3, 3]


def test_a_manifest_in_a_language_without_a_preset(options, tmp_path):
    """Its alphabet is that of the training texts, whether the language is named or given by its code."""
    rows = [json.loads(line) for line in Path(options.data.train).read_text().splitlines()]
    folder = Path(options.data.train).parent
    changes = [{"audio_filepath": str(folder / row["audio_filepath"]), "text": f"żółw {row['text']}"} for row in rows]
    rows = [row | change | {"lang": "pl"} for row, change in zip(rows, changes, strict=True)]
    path = tmp_path / "pl.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for language in ("pl", "Polish"):
        data = dataclasses.replace(options.data, train=str(path), dev="", language=language)
        job, _ = run(dataclasses.replace(options, run=str(tmp_path / language), data=data))
        assert set("żółw") < set(job.alphabet.characters) < set("żółw 'abcdefghijklmnopqrstuvwxyz")
        assert Run.open(tmp_path / language).config()["data"]["language"] == "polish"


def content(folder):
    """Everything in a folder, byte by byte."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize("trained", [True, False])
def test_a_refused_resume_changes_nothing(options, trained):
    """Whether the run has a checkpoint or was stopped before the first."""
    if trained:
        run(options)
    else:
        training.create(options, lambda line: None)
    further = dataclasses.replace(options, resume=True, steps=8)
    before = content(options.run)
    with Run.open(options.run).locked(), pytest.raises(UserError, match="another process is training this run"):
        run(further)
    assert content(options.run) == before
    _, result = run(further)
    assert result.position.step == 8


def test_one_of_two_concurrent_starts_is_refused(options, monkeypatch):
    """Before the first process has written anything, and if it has done so since the second process checked."""
    with Run(Path(options.run)).locked(), pytest.raises(UserError, match="another process is training this run"):
        training.create(options, lambda line: None)
    resolve = job_module.resolve
    monkeypatch.setattr(job_module, "resolve", lambda *x: (resolve(*x), run_of_another(options))[0])

    def run_of_another(options):
        monkeypatch.undo()
        run(options)

    with pytest.raises(UserError, match="a run exists"):
        training.create(dataclasses.replace(options, seed=7), lambda line: None)
    assert config.load(TrainOptions, Path(options.run) / "config.toml").seed == options.seed


def test_a_start_that_fails_leaves_no_folder(options):
    data = dataclasses.replace(options.data, dev=options.data.train)
    with pytest.raises(UserError, match="allow_speaker_overlap"):
        training.create(dataclasses.replace(options, data=data))
    assert not Path(options.run).exists()


def test_a_run_older_than_an_option_can_be_resumed(options):
    run(options)
    path = Path(options.run) / "config.toml"
    path.write_text(path.read_text().replace("average_decay = 0.0\n", ""))
    _, result = run(dataclasses.replace(options, resume=True, steps=options.steps + 4))
    assert result.position.step == options.steps + 4


def test_a_run_stopped_before_its_first_checkpoint_starts_again(options, tmp_path):
    training.create(options, lambda line: None)  # and killed
    reports = []
    again, _ = run(dataclasses.replace(options, resume=True), reports.append)
    assert any("starts again" in line for line in reports)
    plain, _ = run(dataclasses.replace(options, run=str(tmp_path / "plain")))
    assert equal(again.run.restore_params("last"), plain.run.restore_params("last"))


def test_a_resumed_run_may_use_other_microbatches(options):
    run(options)
    frames = 4 * training.create(dataclasses.replace(options, resume=True, steps=8)).train.buckets[-1].frames
    pieces = {"max_microbatch_frames": frames, "remat": True}
    _, result = run(changed(options, resume=True, steps=8, **pieces))
    assert result.position.step == 8


def test_evaluations_are_limited_to_a_microbatch(options, monkeypatch):
    """The result is the same; a single utterance above the limit is evaluated alone."""
    rows = []
    monkeypatch.setattr(loop, "evaluate", lambda *x, **named: rows.append(named["batch_size"]) or evaluate(*x, **named))
    job, _ = run(options)
    longest = job.dev.buckets[-1].frames
    for name, frames in {"two": 3 * longest - 1, "one": longest - 1}.items():
        run(changed(options, run=options.run + name, max_microbatch_frames=frames))
    assert sorted(set(rows)) == [1, 2, 8] and rows == sorted(rows, reverse=True)
    full, two, one = (lines(Path(options.run + name), "dev") for name in ("", "two", "one"))
    for left, right in zip(full * 2, two + one, strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-4) and left["ler"] == right["ler"]


def test_resume_with_other_options_is_refused(options):
    run(options)
    with pytest.raises(UserError, match=r"learning_rate was 0\.003"):
        run(dataclasses.replace(options, resume=True, learning_rate=1.0, steps=8))
    with pytest.raises(UserError, match="no run to resume"):
        run(dataclasses.replace(options, resume=True, run=options.run + "x"))


def test_a_config_edited_between_start_and_resume_is_refused(options):
    """Its values are those of the resumed command, so they had nothing to differ from."""
    run(options)
    path = Path(options.run) / "config.toml"
    text = path.read_text()
    path.write_text(text.replace("learning_rate = 0.003", "learning_rate = 0.009"))
    edited = dataclasses.replace(config.load(TrainOptions, path), resume=True, run=options.run, steps=8)
    with pytest.raises(UserError, match=r"learning_rate was 0\.003 when the run began and is 0\.009 now"):
        run(edited)
    path.write_text(text)
    # A run begun by an older version does not hold its first options twice.
    about = Path(options.run) / "data.json"
    about.write_text(
        json.dumps({key: value for key, value in json.loads(about.read_text()).items() if key != "options"})
    )
    _, result = run(dataclasses.replace(options, resume=True, steps=8))
    assert result.position.step == 8


def test_diverging_training_stops_with_advice(options):
    with pytest.raises(UserError, match=r"10 updates in a row, up to step \d+, .*learning_rate"):
        run(dataclasses.replace(options, learning_rate=1e30, steps=40))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"from_scratch": True, "init": "x"}, "from_scratch and init"),
        ({"frozen_layers": "8"}, "needs init"),
        ({"from_scratch": True, "frozen_layers": "8"}, "every layer"),
        ({"reinitialize": True}, "frozen_layers"),
        ({"frozen_layers": "eight", "init": "x"}, "frozen.layers"),
        ({"init": "nowhere"}, "nowhere: no such file, run folder"),
        ({"data": DataOptions()}, "data.train"),
        ({"old_share": 0.5}, "give both or neither"),
        ({"verify": True}, "to check"),
        (
            {"optimizer.name": "muon", "init": "x", "frozen_layers": "10"},
            "layers 1 to 10, but frozen_layers freezes them",
        ),
        ({"unfreeze_after": 3}, "needs frozen_layers"),
        ({"unfreeze_after": 6, "init": "x", "frozen_layers": "8"}, "never reached with steps=6"),
        ({"new_characters": "copy"}, "freeze.new_characters=copy copies"),
        ({"new_characters": "copy", "init": "x", "frozen_layers": "8", "reinitialize": True}, "reinitialised"),
    ],
)
def test_contradictions_stop_before_any_work(options, changes, message):
    with pytest.raises(UserError, match=message):
        training.create(changed(options, **changes))
    assert not Run.exists(options.run)


def test_a_different_architecture_from_the_base(options):
    run(options)
    # The paper's own values, too: explicit options must hold.
    for architecture, message in {
        ModelOptions(width=99): "model.width=99 contradicts init=.*, which has 16",
        ModelOptions(width=250): "model.width=250 contradicts init=.*, which has 16",
        ModelOptions(activation="relu"): "model.activation=relu contradicts",
        ModelConfig(): "model.width=250 contradicts",
    }.items():
        with pytest.raises(UserError, match=message):
            training.create(changed(german(options, options.run), model=architecture))
    with pytest.raises(UserError, match=r"features\.mels=40 contradicts init=.*, which has 128"):
        training.create(changed(german(options, options.run), features=FeatureOptions(mels=40)))


def test_a_speaker_in_training_and_dev_data(options):
    data = dataclasses.replace(options.data, dev=options.data.train)
    with pytest.raises(UserError, match="allow_speaker_overlap"):
        training.create(dataclasses.replace(options, data=data))
    reports = []
    training.create(changed(options, data=data, allow_speaker_overlap=True), reports.append)
    assert any("train-0" in line for line in reports)


def test_train_hours_is_a_nested_subset(options):
    hours = [0.003, 0.006]
    picked = []
    for i, h in enumerate(hours):
        data = dataclasses.replace(options.data, train_hours=h)
        job = training.create(dataclasses.replace(options, data=data, run=options.run + str(i)))
        picked.append({entry.id for entry in job.train.dataset.entries})
    assert picked[0] < picked[1]
