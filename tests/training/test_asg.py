"""Training with ASG end to end: it learns, it resumes, and other alphabets inherit its letters and transitions."""

import dataclasses
import json
import os
import runpy
import signal
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from lm_building import of_run
from tests.conftest import ROOT
from tests.training.test_job import equal, german, keeping_english, lines, run, small
from tests.training_options import changed
from w2l_jax import inference, training
from w2l_jax.decoding import decoder_config
from w2l_jax.decoding.decoder import Decoder
from w2l_jax.decoding.greedy import greedy
from w2l_jax.errors import UserError
from w2l_jax.losses import asg
from w2l_jax.recognizer import load
from w2l_jax.run import Run
from w2l_jax.training.evaluation import evaluate
from w2l_jax.training.feed import stream


@pytest.fixture(scope="module")
def base(tones, cache, tmp_path_factory):
    """The options of a run of six updates with ASG."""
    options = dataclasses.replace(small(tones, cache, tmp_path_factory.mktemp("asg") / "run"), loss="asg")
    run(options)
    return options


def create(options):
    return training.create(options, lambda line: None)


def scores(params):
    return np.asarray(params["transitions"]["scores"])


@pytest.mark.slow
def test_it_learns(base, tmp_path):
    options = changed(base, run=str(tmp_path / "run"), steps=250, warmup_steps=20, decay="linear")
    _, result = run(changed(options, eval_every=250))
    assert result.evaluation["ler"] < 0.15


def test_every_decoder_gives_the_best_path(base, tmp_path):
    trained = Run.open(base.run)
    params = trained.restore_params("last")
    # Large enough to matter: the likeliest label of each frame gives another path.
    params["transitions"]["scores"] = np.random.default_rng(0).standard_normal((30, 30), np.float32)
    dev = create(dataclasses.replace(base, run=str(tmp_path / "other"))).dev
    found = evaluate(params, dev, trained.alphabet, trained.model, batch_size=5, dtype=jnp.float32)
    predicted = {sample["id"]: sample["predicted"] for sample in found.samples}
    differ = 0
    for prediction in inference.predict(params, dev, trained.model, batch_size=5):
        logits_SxV = inference.logits(params, dev.dataset.features_of([prediction.index])[0], trained.model)
        path_SxV, _ = asg.asg_viterbi(logits_SxV[None], scores(params), jnp.array([len(logits_SxV)]))
        np.testing.assert_array_equal(prediction.path_S, path_SxV[0])
        np.testing.assert_array_equal(inference.best_path(params, logits_SxV), path_SxV[0])
        differ += not np.array_equal(prediction.path_S, prediction.logits_SxV.argmax(axis=1))
        text = greedy(prediction.path_S, trained.alphabet)
        assert predicted.get(dev.dataset.entries[prediction.index].id, text) == text
    assert differ


def test_it_survives_a_round_trip_through_files(base, tmp_path):
    trained = Run.open(base.run)
    params = trained.restore_params("last")
    assert trained.alphabet.size == 30 and scores(params).shape == (30, 30) and scores(params).any()
    held = load(base.run, "last")
    held.save(tmp_path / "a.safetensors", "float32")
    held.save(tmp_path / "small.safetensors")
    again, rounded = load(tmp_path / "a.safetensors"), load(tmp_path / "small.safetensors")
    assert equal(again.params, params) and again.alphabet == trained.alphabet
    np.testing.assert_allclose(scores(rounded.params), scores(params), rtol=2**-8)
    with pytest.raises(UserError, match="as model, alphabet and features say"):
        dataclasses.replace(again, alphabet=dataclasses.replace(again.alphabet, repetitions=1))


def test_interrupted_and_resumed_is_bit_identical(base, tmp_path):
    changes = {"clip_norm": 50.0, "average_decay": 0.9, "max_microbatch_frames": 2000}
    full = changed(base, run=str(tmp_path / "whole"), **changes)
    job, _ = run(full)
    parts = dataclasses.replace(full, run=str(tmp_path / "parts"))
    run(parts, lambda line: line.startswith("step 4: dev") and os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(UserError, match="loss was 'asg' when the run began and is 'ctc' now"):
        create(dataclasses.replace(parts, resume=True, loss="ctc"))
    run(dataclasses.replace(parts, resume=True))
    assert equal(job.run.restore_params("last"), Run.open(parts.run).restore_params("last"))


def test_letters_and_transitions_are_inherited_and_trained_above_frozen_layers(base, tmp_path):
    options = dataclasses.replace(base, run=str(tmp_path / "run"))
    adapted = german(options, base.run, frozen_layers="8", verify=True, new_characters="copy")
    job = create(adapted)
    before, start = Run.open(base.run).restore_params("best"), job.state.params
    old, new = scores(before), scores(start)
    np.testing.assert_array_equal(new[:30, :30], old)
    a, e, ae = (job.alphabet.ids[c] for c in "aeä")
    np.testing.assert_array_equal([new[ae, e], new[e, ae], new[ae, ae]], [old[a, e], old[e, a], old[a, a]])
    training.train(job, lambda line: None)
    after = job.run.restore_params("last")
    assert (scores(after) != new).mean() > 0.9
    assert all(equal(after[f"layer_{n:02d}"], before[f"layer_{n:02d}"]) for n in range(1, 9))
    fresh = create(changed(adapted, run=str(tmp_path / "fresh"), new_characters="zero", reinitialize=True))
    np.testing.assert_allclose(scores(fresh.state.params), np.log(99) * np.eye(34), rtol=1e-6)


@pytest.mark.parametrize(("first", "then"), [("ctc", "asg"), ("asg", "ctc")])
def test_a_network_can_change_its_criterion(base, tmp_path, first, then):
    options, reports = dataclasses.replace(base, run=str(tmp_path / "run"), loss=first), []
    trained, params = (job := create(options)).run, job.state.params
    params["layer_11"]["bias"] = jnp.arange(1.0, trained.alphabet.size + 1)
    trained.save(1, params, None, {}, best=1, keep=(), finished=True)
    adapted = german(dataclasses.replace(options, loss=then), options.run)
    with pytest.raises(UserError, match="has to learn"):
        create(dataclasses.replace(adapted, frozen_layers="9,11"))
    job = training.create(adapted, reports.append)
    change = f"from {first.upper()} to {then.upper()}: "
    assert change in "".join(reports) and change in (job.run.folder / "remap.json").read_text()
    old, new_params = trained.restore_params("best")["layer_11"], job.state.params
    index = [trained.alphabet.ids.get(c) for c in job.alphabet.characters]
    expected = [0 if i is None else old["bias"][i] for i in index]
    assert new_params["layer_11"]["bias"][job.alphabet.first :].tolist() == expected
    assert not new_params["layer_11"]["kernel"][..., : job.alphabet.first].any()
    assert ("transitions" in new_params) == (then == "asg")


@pytest.mark.slow
def test_it_trains_on_cached_activations_with_old_data(base, tmp_path):
    options = dataclasses.replace(base, run=base.run)
    kept = keeping_english(options, cache_activations=True, activation_dtype="float32")
    job, _ = run(dataclasses.replace(kept, run=str(tmp_path / "run")))
    batch, entries = next(stream(job, 0)), job.train.dataset.entries
    texts = [job.alphabet.decode(ids[:n]) for ids, n in zip(batch.labels_BxL, batch.label_lengths_B, strict=True)]
    assert texts == [entries[i].transcript for i in job.order.batch(0)] and any("add" in text for text in texts)
    plain = create(changed(kept, run=str(tmp_path / "plain"), cache_activations=False, activation_dtype="float16"))
    params = job.run.restore_params("last")
    from_features = evaluate(params, plain.old_dev, job.alphabet, job.options.model, batch_size=3, dtype=jnp.float32)
    assert from_features.loss == pytest.approx(lines(job.run.folder, "old_dev")[-1]["loss"], rel=1e-4)


def test_the_beam_search_is_refused(base):
    trained = Run.open(base.run)
    assert of_run.resolve(trained, "", {}, set()).lm == ""
    for search in (lambda: Decoder(trained.alphabet, None), lambda: of_run.resolve(trained, "some/lm", {}, set())):
        with pytest.raises(UserError, match="network trained with CTC"):
            search()
    assert not (trained.folder / "lm").exists() and not (trained.folder / decoder_config.FILE).exists()


def test_decode_and_transcribe_work_without_a_language_model(base, tones, tmp_path, monkeypatch, capsys):
    decode, transcribe = (
        runpy.run_path(str(ROOT / "launch" / f"{name}.py"))["main"] for name in ("decode", "transcribe")
    )
    monkeypatch.chdir(tmp_path)
    decode([f"--run={base.run}", f"--out={tmp_path}/dev.jsonl", "--checkpoint=last"])
    records = [json.loads(line) for line in (tmp_path / "dev.jsonl").read_text().splitlines()]
    assert len(records) == 12 and not any("predicted" in record for record in records)
    assert "beam" not in capsys.readouterr().out
    files = [str(path) for path in sorted((tones / "dev").iterdir())]
    transcribe([f"--run={base.run}", "--checkpoint=last", *files])
    texts = [
        line.removeprefix(f"{name}: ") for name, line in zip(files, capsys.readouterr().out.splitlines(), strict=True)
    ]
    by_id = {record["id"]: record["greedy"] for record in records}
    assert texts == [by_id[Path(name).stem] for name in files]
    with pytest.raises(UserError, match="network trained with CTC"):
        decode([f"--run={base.run}", "--lm=some/lm", f"--data={tones}/dev.jsonl"])
