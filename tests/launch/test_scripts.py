"""The launch scripts as a user runs them: from a manifest to a transcript, in processes of their own."""

import functools
import importlib
import io
import json
import os
import runpy
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

import cli
import terminal
from tests.conftest import ROOT, launch
from w2l_jax.audio import AudioWarning
from w2l_jax.errors import UserError
from w2l_jax.files import locked
from w2l_jax.run import Run

SMALL = [
    "--model.width=16", "--model.top_width=24", "--model.initializer=he_uniform", "--batch_size=8",
    "--log.eval_every=20", "--log.checkpoint_every=5", "--log.every=5", "--learning_rate=3e-3", "--data.buckets=1",
    "--data.workers=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tones, cache, tmp_path_factory):
    """A folder in which an English base, `runs/english`, has been trained for 320 updates."""
    folder = tmp_path_factory.mktemp("place")
    done = launch(
        "train.py", f"--data.train={tones}/train.jsonl", f"--data.dev={tones}/dev.jsonl", f"--data.cache={cache}",
        "--run=runs/english", "--steps=320", *SMALL, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "GFLOP" in done.stdout and "320 steps are done" in done.stdout
    return folder


@pytest.fixture(scope="module")
def german(place, tones, cache):
    """The base adapted with eight frozen layers, as the paper does."""
    done = launch(
        "train.py", f"--data.train={tones}/german.jsonl", f"--data.dev={tones}/german_dev.jsonl", "--steps=40",
        f"--data.cache={cache}", "--init=runs/english", "--frozen_layers=8", *SMALL[3:], cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "new ä (zero) ö (zero) ü (zero) ß (zero), dropped none" in done.stdout
    return place / "runs" / "german_k8"


def test_freezing_through_the_command_line(place, german):
    base, adapted = Run.open(place / "runs" / "english"), Run.open(german)
    before, after = base.restore_params("best"), adapted.restore_params("last")
    for number in range(1, 12):
        name = f"layer_{number:02d}"
        if number < 11:
            assert (before[name]["kernel"].tobytes() == after[name]["kernel"].tobytes()) == (number <= 8)
    assert (place / "runs" / "latest").resolve() == german.resolve()


def test_decode_with_the_runs_own_language_model(place, german, tones):
    done = launch("decode.py", cwd=place)  # runs/latest, its dev data, a language model of its transcripts
    assert done.returncode == 0, done.stderr
    assert "building one from" in done.stdout and "worst utterances" in done.stdout
    records = [json.loads(line) for line in (german / "decode" / "german_dev.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in (tones / "german_dev.jsonl").read_text().splitlines()]
    assert {r["id"]: r["expected"] for r in records} == {Path(e["audio_filepath"]).stem: e["text"] for e in expected}
    for record in records:
        known = len(record["predicted"].split())
        total = record["acoustic_score"] + 0.8 * record["lm_score"] + 2.3 * known
        # Every word of this language is in the vocabulary or earns no bonus.
        assert record["score"] <= total + 1e-4
    summary = json.loads((german / "decode" / "german_dev.summary.json").read_text())
    assert [row["corpus"] for row in summary] == ["corpus0", "corpus1", "all"]
    mean = np.mean([record["ler"] for record in records])
    assert summary[-1]["beam"]["ler"] == pytest.approx(mean)
    assert f"{mean:.1%} [" in done.stdout
    again = launch("decode.py", "--worst=0", "--table", cwd=place)
    assert "building one from" not in again.stdout
    table = [line.split(" | ") for line in again.stdout.splitlines() if line.startswith("| all")]
    assert [row[3] for row in table] == ["greedy", "beam, no LM", "beam, LM"]
    assert table[2][4].startswith(f"{mean:.1%} [")


def test_tuned_weights_are_what_decode_uses(place, german, tmp_path, monkeypatch, capsys):
    """In this process, which has loaded JAX already; to the scripts it makes no difference."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(ROOT / "launch"))
    tune, decode = map(importlib.import_module, ("tune_decoder", "decode"))
    options = ["--run=runs/german_k8", "--utterances=8", "--beams", "5", "10", "--workers=1"]
    tune.main([*options, "--trials=27"])
    said = capsys.readouterr().out
    assert "LER of 8" in said and "LER of 4 others" in said and "calibration, on 4" in said
    folder = german / "tune" / "german_dev"
    (trials,) = folder.glob("trials-*.jsonl")
    best = min(map(json.loads, trials.open()), key=lambda t: (t["ler"] + t["wer"], t["beam_width"], t["lm_weight"]))
    decoder = tomllib.loads((german / "decoder.toml").read_text())
    assert [decoder[name] for name in ("beam_width", "lm_weight")] == [best["beam_width"], best["lm_weight"]]
    assert (folder / "trials.png").stat().st_size > 10_000
    logits = (folder / "logits.npz").stat().st_mtime_ns
    before = trials.read_bytes()
    with locked(folder, "busy"), pytest.raises(UserError, match="another process is tuning there"):
        tune.main([*options, "--trials=30"])
    assert trials.read_bytes() == before
    tune.main([*options, "--trials=30"])
    assert len(trials.read_text().splitlines()) == 30
    assert (folder / "logits.npz").stat().st_mtime_ns == logits

    files = [f"--out={tmp_path}/d.jsonl", f"--report={tmp_path}/report.html", "--report_utterances=4"]
    decode.main(["--run=runs/german_k8", "--nbest=3", "--workers=1", *files])
    assert "tuned on: german_dev, 8 utterances, 30 trials" in capsys.readouterr().out
    records = [json.loads(line) for line in (tmp_path / "d.jsonl").open()]
    for record in records:
        assert record["nbest"][0]["text"] == record["predicted"] and 1 <= len(record["nbest"]) <= 3
        assert [word["word"] for word in record["words"]] == record["predicted"].split()
        assert all(0 <= word["confidence"] <= 1 and word["start"] < word["end"] for word in record["words"])
    text = (tmp_path / "report.html").read_text()
    assert text.count("<audio") == text.count("<article") == 4
    assert f"{np.mean([record['ler'] for record in records]):.1%} [" in text


def test_decode_greedily(place, tones):
    done = launch("decode.py", "--run=runs/english", "--lm=none", f"--data={tones}/dev.jsonl", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "greedy" in done.stdout and "beam" not in done.stdout and "\nnote: " not in done.stdout
    done = launch("decode.py", "--run=runs/english", "--lm=none", f"--data={tones}/train.jsonl", cwd=place)
    assert "note: these are the training data, so the error rates are too low\n" in done.stdout


@pytest.fixture
def transcribe(place, capsys, monkeypatch):
    """Calls launch/transcribe.py with the English run, greedily; returns exit code, standard output and error."""
    monkeypatch.chdir(place)

    def call(*arguments):
        main = runpy.run_path(str(ROOT / "launch" / "transcribe.py"))["main"]
        code = 0
        try:
            cli.run(functools.partial(main, [*map(str, arguments), "--run=runs/english", "--lm=none"]))
        except SystemExit as stopped:
            code = stopped.code
        return code, *capsys.readouterr()

    return call


def paths_and_texts(tones, name, count):
    """Paths and texts of utterances."""
    lines = [json.loads(line) for line in (tones / f"{name}.jsonl").read_text().splitlines()][:count]
    return [tones / line["audio_filepath"] for line in lines], [line["text"] for line in lines]


def test_transcribe(place, tones, tmp_path, transcribe):
    files, _ = paths_and_texts(tones, "train", 3)
    code, out, _ = transcribe(*files)
    assert code == 0
    texts = [line.removeprefix(f"{name}: ") for name, line in zip(files, out.splitlines(), strict=True)]
    # Transcribing files gives the same text as decoding the prepared data.
    launch(
        "decode.py",
        "--run=runs/english",
        "--lm=none",
        f"--data={tones}/train.jsonl",
        f"--out={tmp_path}/t.jsonl",
        cwd=place,
    )
    decoded = {r["id"]: r["greedy"] for r in map(json.loads, (tmp_path / "t.jsonl").read_text().splitlines())}
    assert texts == [decoded[name.stem] for name in files]
    one = launch("transcribe.py", files[0], "--run=runs/english", "--lm=none", cwd=place)
    assert one.stdout.strip() == texts[0]


def test_transcribe_continues_after_bad_files(tones, tmp_path, transcribe):
    (good,), _ = paths_and_texts(tones, "dev", 1)
    samples, _ = soundfile.read(good, dtype="float32")
    folder = tmp_path / "talks"
    (folder / "below").mkdir(parents=True)
    soundfile.write(folder / "a.flac", np.stack([samples, samples], 1), 16000)  # as good as the mono file
    soundfile.write(folder / "nan.wav", np.where(np.arange(len(samples)) == 99, np.nan, samples), 16000, "FLOAT")
    soundfile.write(folder / "none.wav", samples[:0], 16000)
    (folder / "cut.wav").write_bytes(good.read_bytes()[:-2000])
    (folder / "text.wav").write_text("no audio")
    (folder / "empty.mp3").touch()
    (folder / "below" / "b.wav").write_bytes(good.read_bytes())
    (folder / "notes.txt").write_text("no recording")
    code, out, errors = transcribe(folder, tmp_path / "absent.wav", "--truncated=skip")
    assert f"skipped, not recordings by their suffix: {folder}/notes.txt (name a file" in errors
    assert code == 1 and "6 of 8 recordings could not be transcribed" in errors
    heard = dict(line.split(": ") for line in out.splitlines())
    assert list(heard) == [str(folder / "a.flac"), str(folder / "below" / "b.wav")]
    assert len(set(heard.values())) == 1 and all(heard.values())
    for name, reason in {
        "nan.wav": "NaN", "none.wav": "no samples", "cut.wav": "truncated", "text.wav": "not readable",
        "empty.mp3": "0 bytes", "absent.wav": "no such audio file",
    }.items():  # fmt: skip
        assert any(name in line and reason in line for line in errors.splitlines()), name
    # Output files: for the good ones, below --out in the folder's structure.
    code, out, _ = transcribe(folder, f"--out={tmp_path}/out", "--format=json", "--truncated=skip")
    assert code == 1 and out == ""
    written = sorted((tmp_path / "out").rglob("*.*"))
    assert written == [tmp_path / "out" / "a.json", tmp_path / "out" / "below" / "b.json"]
    found = [json.loads(path.read_text()) for path in written]
    assert [record["recording"] for record in found] == list(heard) and found[0]["text"] in heard.values()


def test_transcribe_reads_a_truncated_file_and_reports_it(tones, tmp_path, transcribe):
    (good,), _ = paths_and_texts(tones, "dev", 1)
    (tmp_path / "cut.wav").write_bytes(good.read_bytes()[:-2000])
    with pytest.warns(AudioWarning, match=r"cut\.wav: truncated: .*; read up to \d+\.\d s$"):
        code, out, _ = transcribe(tmp_path / "cut.wav")
    assert code == 0 and out.strip()


def test_unsupported_options_of_transcribe(tones, tmp_path, transcribe):
    files, _ = paths_and_texts(tones, "dev", 2)
    (tmp_path / "words.txt").write_text("bad 7\n")
    for arguments, message in {
        (): "name at least one recording",
        (tmp_path,): "no recordings in this folder",
        (*files, "--format=srt"): "2 recordings as srt need a file each: give --out=<folder>",
        (*files, "--align=words.txt"): "--align takes one recording, not 2",
        (files[0], "--align=absent.txt"): "absent.txt: no such transcript",
        (files[0], f"--align={tmp_path}/words.txt"): "words.txt:1: holds '7'",
    }.items():
        code, out, errors = transcribe(*arguments)
        assert code == 1 and out == "" and message in errors, arguments


def test_transcribe_standard_input(tones, transcribe, monkeypatch):
    (good,), _ = paths_and_texts(tones, "dev", 1)
    _, expected, _ = transcribe(good)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(good.read_bytes())))
    code, out, _ = transcribe("-")
    assert code == 0 and out == expected and out.strip()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    code, out, errors = transcribe("-")
    assert code == 1 and out == "" and "standard input: the file is empty" in errors


def test_lines_are_aligned_with_a_long_recording(tones, tmp_path, transcribe, monkeypatch):
    """A recording of 96 consecutive utterances."""
    files, texts = (2 * found for found in paths_and_texts(tones, "train", 48))
    waveforms = [soundfile.read(path, dtype="float32")[0] for path in files]
    starts = np.cumsum([0, *map(len, waveforms)]) / 16000
    soundfile.write(tmp_path / "long.flac", np.concatenate(waveforms), 16000)
    (tmp_path / "long.txt").write_text("\n".join(texts))
    assert starts[-1] > 60
    monkeypatch.setattr(terminal, "_LOG_SECONDS", 0.0)
    code, out, progress = transcribe(tmp_path / "long.flac", f"--align={tmp_path}/long.txt")
    assert code == 0 and progress.splitlines()[-1].endswith("long.flac, seconds: 63 of 63")
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[2] for row in rows] == texts
    begun, ended = (np.array([float(row[i]) for row in rows]) for i in (0, 1))
    # Trained for seconds, the network is early or late by part of a word, differently in each training.
    for late in (begun - starts[:-1], ended - starts[1:]):
        # Single lines that it does not recognise may be anywhere between their neighbours.
        assert abs(np.median(late)) <= 0.4 and np.percentile(abs(late), 95) <= 1.5
        assert np.median(abs(late - np.median(late))) <= 0.2
        # It does not drift: half a minute later, the same 48 utterances are as late as before, within 3 frames.
        assert np.median(abs(late[48:] - late[:48])) <= 0.05
    code, out, _ = transcribe(tmp_path / "long.flac", "--format=json")
    record = json.loads(out)
    assert code == 0 and record["recording"].endswith("long.flac") and len(record["segments"]) > 1
    times = [(word["start"], word["end"]) for segment in record["segments"] for word in segment["words"]]
    assert (
        all(0 <= start < end for start, end in times) and times == sorted(times) and times[-1][1] <= starts[-1] + 0.016
    )
    assert len(times) == len(record["text"].split()) > 50


def test_killed_and_resumed_is_bit_identical(tones, cache, tmp_path):
    """SIGKILL at an arbitrary moment, then --resume: the parameters equal those of an uninterrupted run."""
    arguments = [
        f"--data.train={tones}/train.jsonl", f"--data.dev={tones}/dev.jsonl", f"--data.cache={cache}", "--steps=60",
        "--augment.speed=0.1", "--stop.patience=50", *SMALL,
    ]  # fmt: skip
    uninterrupted = launch("train.py", *arguments, "--run=whole", cwd=tmp_path)
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    command = [sys.executable, str(ROOT / "launch" / "train.py"), *arguments, "--run=parts"]
    killed = 0
    for attempt in range(6):
        with subprocess.Popen(
            command + (["--resume"] if attempt else []), cwd=tmp_path, stdout=subprocess.DEVNULL
        ) as process:
            log = tmp_path / "parts" / "checkpoints" / "checkpoints.json"
            before = log.read_text() if log.exists() else ""
            while process.poll() is None and attempt < 3 and (log.read_text() if log.exists() else "") == before:
                time.sleep(0.01)
            if attempt < 3 and process.poll() is None:
                time.sleep(0.03 * attempt)
                process.send_signal(signal.SIGKILL)
                killed += 1
        if Run.complete(tmp_path / "parts"):
            break
    assert killed >= 2
    runs = [Run.open(tmp_path / name) for name in ("whole", "parts")]
    for which in ("last", "best"):
        a, b = (jax.tree.leaves(run.restore_params(which)) for run in runs)
        assert all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))
    assert runs[0].pointers()["meta"]["best_step"] == runs[1].pointers()["meta"]["best_step"]
    assert runs[0].pointers()["meta"]["without_gain"] == runs[1].pointers()["meta"]["without_gain"]
    records = [
        [
            {k: v for k, v in json.loads(line).items() if k != "seconds"}
            for line in (run.folder / "metrics.jsonl").open()
        ]
        for run in runs
    ]
    assert records[0] == records[1]


def test_bad_options_stop_before_any_work(tmp_path, tones):
    cases = {
        ("--learning_rat=1",): "learning_rate",
        ("--frozen_layers=8", f"--data.train={tones}/train.jsonl"): "--init",
        ("--steps=0",): "at least 1",
        ("--config=none.toml",): "none.toml",
        (f"--data.train={tmp_path}/absent.jsonl", "--data.language=en"): "absent.jsonl",
        ("--resume", "--run=nowhere", f"--data.train={tones}/train.jsonl"): "no run to resume",
    }
    for arguments, message in cases.items():
        done = launch("train.py", *arguments, cwd=tmp_path)
        assert done.returncode != 0, arguments
        assert message in done.stderr + done.stdout, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_misspelt_toml_key(tmp_path):
    (tmp_path / "a.toml").write_text("[data]\nlangauge = 'de'\n")
    done = launch("train.py", "--config=a.toml", cwd=tmp_path)
    assert done.returncode == 1
    assert "a.toml: data: unknown option 'langauge'; did you mean 'language'?" in done.stderr


def test_out_of_device_memory_suggests_remedies(tmp_path, capsys):
    def main():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes")

    with pytest.raises(SystemExit, match="1"):
        cli.run(main)
    assert "--memory.max_microbatch_frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    "script", sorted(path.name for path in (ROOT / "launch").glob("*.py") if "__main__" in path.read_text())
)
def test_help_explains_the_options(script, tmp_path):
    done = launch(script, "--help", cwd=tmp_path, env={"COLUMNS": "200", **os.environ})
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 8


@pytest.mark.slow
def test_training_on_cached_activations(place, tones, cache):
    command = (
        f"--data.train={tones}/german.jsonl", f"--data.dev={tones}/german_dev.jsonl", f"--data.cache={cache}",
        "--init=runs/english", "--freeze.cache_activations", "--steps=20", "--run=runs/cached", *SMALL[3:],
    )  # fmt: skip
    refused = launch("train.py", *command, "--frozen_layers=0", cwd=place)
    assert refused.returncode == 1 and "does not freeze layer 1" in refused.stderr
    done = launch("train.py", *command, "--frozen_layers=9", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "activations of layer 9 for 24 utterances: 0.0" in done.stdout
    assert "layers 1 to 9 are not run: their output is cached" in done.stdout
    assert "step 20: dev loss" in done.stdout
    assert json.loads((place / "runs" / "cached" / "certificate.json").read_text())["first_layer"] == 10
    # The run is an ordinary one: complete parameters, decoded from audio.
    before, after = (Run.open(place / "runs" / name).restore_params("best") for name in ("english", "cached"))
    same = {number for number in range(1, 12) for name in [f"layer_{number:02d}"]
            if before[name]["bias"].tobytes() == after[name]["bias"].tobytes()}  # fmt: skip
    assert same == set(range(1, 10))
    done = launch("decode.py", "--run=runs/cached", "--lm=none", cwd=place)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_freeze_then_unfreeze_with_old_training_data(place, tones, cache):
    arguments = [
        f"--data.train={tones}/german.jsonl", f"--data.dev={tones}/german_dev.jsonl", f"--data.cache={cache}",
        f"--data.old_dev={tones}/dev.jsonl", f"--data.old_train={tones}/train.jsonl", "--init=runs/english",
        "--frozen_layers=1-3,9", "--freeze.unfreeze_after=10", "--freeze.verify", "--freeze.new_characters=copy",
        "--run=runs/both",
        *SMALL[3:4], "--log.eval_every=10", *SMALL[5:],
    ]  # fmt: skip
    done = launch("train.py", *arguments, "--steps=20", cwd=place)
    assert done.returncode == 0, done.stderr
    for line in (
        "new ä (copied from a) ö (copied from o) ü (copied from u) ß (copied from s), dropped none",
        "step 10: all 8 frozen arrays are bit-identical to the start of training",
        "step 10: all layers are trained from here",
        "frozen layers: none of 11",
        "step 20: old_dev loss",
    ):
        assert line in done.stdout, line
    longer = launch("train.py", "--run=runs/both", "--resume", "--steps=25", cwd=place)
    assert longer.returncode == 0 and "25 steps are done" in longer.stdout, longer.stderr
    records = [json.loads(line) for line in (place / "runs" / "both" / "metrics.jsonl").open()]
    assert [r["step"] for r in records if r["kind"] == "old_dev"] == [10, 20, 25]
    certificate = json.loads((place / "runs" / "both" / "certificate.json").read_text())
    assert certificate["frozen_layers"] == [] and certificate["before_unfreezing"]["frozen_layers"] == [1, 2, 3, 9]


def test_the_documentations_language_without_a_preset(tmp_path, cache):
    """The four commands for Polish in docs/TRAINING.md: prepare, train, language model, decode."""
    pytest.importorskip("num2words")
    rows = []
    for i, text in enumerate(["mam 12 lat", "zażółć gęślą jaźń", "dobry wieczór"] * 2):
        soundfile.write(tmp_path / f"{i}.wav", np.random.default_rng(i).uniform(-0.5, 0.5, 48000), 16000)
        rows.append(json.dumps({"audio_filepath": f"{i}.wav", "text": text, "speaker": f"s{i}"}))
    (tmp_path / "pl.jsonl").write_text("\n".join(rows))
    (tmp_path / "pl.txt").write_text("Mam 12 lat. Dobry wieczór!\n")
    page = (ROOT / "docs" / "TRAINING.md").read_text("utf-8")
    commands = page.split("Any other takes its letters from the data:")[1].split("```")[1].strip().splitlines()
    small = {
        "train.py": [*SMALL[:4], "--from_scratch", "--steps=2", f"--data.cache={cache}"],
        "prepare.py": ["--workers=1"],
    }
    said = {}
    for command in commands:
        script, *options = shlex.split(command.removeprefix("python launch/"))
        done = launch(script, *options, *small.get(script, []), cwd=tmp_path)
        assert done.returncode == 0, (command, done.stderr)
        said[script] = done.stdout
    assert list(said) == ["prepare.py", "train.py", "build_lm.py", "decode.py"]
    assert "kept 6 utterances" in said["prepare.py"]
    assert Run.open(tmp_path / "runs/pl").config()["data"]["language"] == "polish"
    assert "vocabulary           8 words" in said["build_lm.py"]
    decoded = [json.loads(line) for line in (tmp_path / "runs/pl/decode/pl.jsonl").read_text("utf-8").splitlines()]
    assert {row["expected"] for row in decoded} == {"mam dwanaście lat", "zażółć gęślą jaźń", "dobry wieczór"}
