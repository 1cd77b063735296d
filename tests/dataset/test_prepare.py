import dataclasses
import errno
import functools
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from array_record.python import array_record_module

from tests.dataset.conftest import make_corpus, write_manifest
from w2l_jax import features
from w2l_jax.alphabet import preset
from w2l_jax.corpora import Utterance, manifest, weighted_sources
from w2l_jax.dataset import filters
from w2l_jax.dataset import prepare as module
from w2l_jax.dataset.identity import digest, stamp
from w2l_jax.dataset.order import Order
from w2l_jax.dataset.prepare import PrepareConfig, open_or_prepare, prepare, prepare_cached, repeated
from w2l_jax.dataset.store import Dataset, open_dataset
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig

ROOT = Path(__file__).parents[2]
DROP = PrepareConfig(unknown_characters="drop_utterance")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory, utterances):
    """The result of an uninterrupted preparation in this process."""
    out = tmp_path_factory.mktemp("reference") / "p"
    prepare(utterances, out, workers=1, shard_size=5)
    return out


def test_files_of_a_prepared_folder(reference, utterances):
    names = {path.name for path in reference.iterdir()}
    shards = {f"shard-0000{i}-of-00005.array_record" for i in range(5)}
    assert names == shards | {"index.jsonl", "excluded.jsonl", "prepared.json", "inputs.sha256", ".lock"}
    rows = [json.loads(line) for line in (reference / "index.jsonl").read_text().splitlines()]
    assert [(row["shard"], row["position"]) for row in rows] == [(i // 5, i % 5) for i in range(24)]
    assert set(rows[0]) == {
        *("id", "transcript", "text", "speaker", "source", "language", "split"),
        *("frames", "duration", "sha256", "shard", "position"),
    }
    meta = json.loads((reference / "prepared.json").read_text())
    assert (meta["utterances"], meta["excluded"], meta["below_16_khz"]) == (24, {}, 0)
    assert meta["config"]["features"] == {"mels": 128, "order": "mel_of_db"}


def test_result_does_not_depend_on_order_paths_or_workers(reference, utterances, corpus, tmp_path):
    prepare(utterances[::-1], tmp_path / "two", workers=2, shard_size=5)
    assert content(tmp_path / "two") == content(reference)
    # Copied to another folder, with other modification times and shard sizes: the same content.
    moved = shutil.copytree(corpus.parent, tmp_path / "moved", copy_function=shutil.copyfile)
    dataset = prepare(manifest.read(moved / "corpus.jsonl"), tmp_path / "three", workers=1)
    assert dataset.fingerprint == open_dataset(reference).fingerprint
    assert dataset.entries == open_dataset(reference).entries


def test_the_fingerprint_depends_on_every_input(reference, utterances, corpus, tmp_path):
    sample = shutil.copytree(corpus.parent, tmp_path / "corpus")
    samples, rate = soundfile.read(sample / "u007.wav", dtype="int16")
    samples[100] += 1
    soundfile.write(sample / "u007.wav", samples, rate)

    def changed(**fields):
        return [dataclasses.replace(utterances[0], **fields), *utterances[1:]]

    variants = {
        "sample": (manifest.read(sample / "corpus.jsonl"), PrepareConfig()),
        "id": (changed(id="other"), PrepareConfig()),
        "text": (changed(text="One, one."), PrepareConfig()),
        "speaker": (changed(speaker="nobody"), PrepareConfig()),
        "fewer": (utterances[1:], PrepareConfig()),
        "seconds": (utterances, PrepareConfig(max_seconds=34)),
        "language": (utterances, PrepareConfig(language="german")),
        "order": (utterances, PrepareConfig(features=FeatureConfig(order="db_of_mel"))),
        "mels": (utterances, PrepareConfig(features=FeatureConfig(mels=64))),
    }
    found = {name: prepare(us, tmp_path / name, c, workers=1).fingerprint for name, (us, c) in variants.items()}
    assert len({*found.values(), open_dataset(reference).fingerprint}) == len(found) + 1


def test_every_line_is_in_the_index_or_excluded_with_a_reason(tmp_path):
    folder = make_corpus(tmp_path / "c", 8).parent
    good = folder / "u000.wav"
    soundfile.write(folder / "low.wav", np.random.default_rng(0).uniform(-1, 1, 8000), 8000)
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    soundfile.write(folder / "long.flac", np.zeros(36 * 16000, np.int16), 16000)
    soundfile.write(folder / "silent.wav", np.zeros(8000, np.int16), 16000)
    (folder / "cut.wav").write_bytes(good.read_bytes()[:5000])
    (folder / "zero.wav").write_bytes(b"")
    (folder / "noise.mp3").write_bytes(b"no audio")
    shutil.copy(good, folder / "wav.flac")
    expected = {
        "low.wav": ("ok", ""),
        "wav.flac": ("ok", ""),
        "silent.wav": ("ok", ""),
        "nan.wav": ("ok", "non-finite audio"),
        "long.flac": ("ok", "too long"),
        "cut.wav": ("ok", "truncated audio"),
        "zero.wav": ("ok", "empty audio"),
        "noise.mp3": ("ok", "unreadable audio"),
        "absent.wav": ("ok", "missing audio"),
        "u000.wav": ("", "empty text"),
        "u001.wav": ("?!", "empty text"),
        "u002.wav": ("number 9", "unknown characters"),
        "u003.wav": ("much too long " * 20, "label too long"),
    }
    lines = [{"audio_filepath": name, "text": text} for name, (text, _) in expected.items()]
    path = write_manifest(folder / "all.jsonl", lines)
    with pytest.warns(UserWarning, match=r"1 of 3 recordings are sampled below 16 kHz") as caught:
        dataset = prepare(manifest.read(path), tmp_path / "p", DROP, workers=1, shard_size=4, max_skipped=1)
    assert len(caught) == 1
    rows = [json.loads(line) for line in (tmp_path / "p/excluded.jsonl").read_text().splitlines()]
    found = {e.id: "" for e in dataset.entries} | {row["id"]: row["reason"] for row in rows}
    assert found == {Path(name).stem: reason for name, (_, reason) in expected.items()}
    assert all(set(row) == {"id", "audio", "source", "reason", "message"} and row["message"] for row in rows)
    assert sum(dataset.excluded.values()) == len(rows) == 10
    assert dataset.excluded["empty text"] == 2
    assert [features_TxM.shape[1] for features_TxM in dataset.features_of(range(3))] == [128] * 3


def test_unknown_characters_stop_before_any_work(tmp_path, utterances):
    strange = [*(dataclasses.replace(u, text="№ 9") for u in utterances[:2]), *utterances[2:]]
    with pytest.raises(UserError, match=r"2 of 24 texts(.|\n)*9 in 2 texts, such as u000(.|\n)*drop_utterance"):
        prepare(strange, tmp_path / "p")
    with pytest.raises(UserError, match=r"1 of 23 texts"):
        prepare(strange[1:], tmp_path / "p", max_skipped=0)
    assert not (tmp_path / "p").exists()
    assert prepare(strange[1:], tmp_path / "p", workers=1).excluded == {"unknown characters": 1}


def test_nothing_left(tmp_path, utterances):
    silent = [dataclasses.replace(utterance, text="...") for utterance in utterances]
    with pytest.raises(UserError, match=r"all 24 utterances were excluded:\n +24  empty text"):
        prepare(silent, tmp_path / "p")
    absent = [dataclasses.replace(u, audio=Path("absent") / u.audio.name) for u in utterances]
    with pytest.raises(UserError, match=r"24 of 24 recordings are missing, .*; the first: u000: absent/u000\.wav"):
        prepare(absent, tmp_path / "p", workers=1)
    assert not (tmp_path / "p").exists()
    with pytest.raises(UserError, match=r"24  missing audio\nthe first: u000: absent/u000\.wav: no such.*lists them"):
        prepare(absent, tmp_path / "p", workers=1, max_skipped=1)
    assert len((tmp_path / "p/excluded.jsonl").read_text().splitlines()) == 24
    # The corpus is moved into place, and the same folder is reused.
    assert len(prepare(utterances, tmp_path / "p", workers=1)) == 24
    with pytest.raises(UserError, match="no utterances"):
        prepare([], tmp_path / "q")


def test_duplicate_ids(tmp_path, utterances):
    with pytest.raises(UserError, match=r"two utterances have the id 'u003': .*u003\.wav and .*u003\.wav"):
        prepare([*utterances, utterances[3]], tmp_path / "p")


def test_new_options_at_their_defaults_keep_old_keys():
    """Unused options do not change the key, and pieces have other keys than whole files."""
    assert set(PrepareConfig().as_dict) == {"language", "max_seconds", "unknown_characters", "features"}
    assert set(PrepareConfig(spell_numbers=True).as_dict) - set(PrepareConfig().as_dict) == {"spell_numbers"}
    config = {"language": "english", "max_seconds": 35.0, "unknown_characters": "error"}
    config["features"] = {"mels": 128, "order": "mel_of_db"}
    utterance = Utterance("a", Path("absent.wav"), "Ä", "s", "en", "", "c", words=(("ä", 0.0, 1.0),))
    row = ["a", "Ä", "s", "c", "en", "", -1, -1]
    key = hashlib.sha256(json.dumps([1.2, config, [row, row]], sort_keys=True).encode()).hexdigest()
    assert digest(PrepareConfig(), [stamp(utterance)] * 2) == key
    piece = dataclasses.replace(utterance, start=1.5, end=2.0)
    assert stamp(piece) == [*row, 1.5, 2.0]
    assert stamp(dataclasses.replace(utterance, start=1.5)) == [*row, 1.5, None]


def test_pieces_of_one_recording(tmp_path):
    """A piece has its own features, duration and fingerprint; the audio's hash is that of the whole file."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 48000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    spans = {"a-001": (0.0, 1.25), "a-002": (1.25, 3.0), "b": (0.5, None), "c": (2.5, 4.0)}
    pieces = [Utterance(name, tmp_path / "a.wav", "hello", start=s, end=e) for name, (s, e) in spans.items()]
    dataset = prepare(pieces, tmp_path / "p", workers=1)
    assert [(entry.id, entry.duration) for entry in dataset.entries] == [("a-001", 1.25), ("a-002", 1.75), ("b", 2.5)]
    assert dataset.excluded == {"outside the recording": 1}
    found = dataset.features_of(range(3))
    for features_TxM, (first, stop) in zip(found, [(0, 20000), (20000, 48000), (8000, 48000)], strict=True):
        np.testing.assert_array_equal(features_TxM, features.compute(samples[first:stop]))
    rows = [json.loads(line) for line in (tmp_path / "p/index.jsonl").read_text().splitlines()]
    assert {row["sha256"] for row in rows} == {hashlib.sha256((tmp_path / "a.wav").read_bytes()).hexdigest()}
    assert [(row["start"], row["end"]) for row in rows] == [(0.0, 1.25), (1.25, 3.0), (0.5, None)]
    moved = [dataclasses.replace(piece, start=piece.start + 1e-9) for piece in pieces]
    assert prepare(moved, tmp_path / "q", workers=1).fingerprint != dataset.fingerprint


def test_numbers_and_other_alphabets(tmp_path, utterances):
    """Both are stored with the dataset, so that training can use its alphabet."""
    texts = ["3 Löwen", "Żółw", "two"]
    replaced = [dataclasses.replace(u, text=text) for u, text in zip(utterances, texts, strict=False)]
    with pytest.raises(UserError, match="2 of 3 texts"):
        prepare(replaced, tmp_path / "p")
    config = PrepareConfig(spell_numbers=True).with_alphabet_of(texts)
    assert config.alphabet == preset("en").characters + "óöłż"
    dataset = prepare(replaced, tmp_path / "p", config, workers=1)
    assert [entry.transcript for entry in dataset.entries] == ["three löwen", "żółw", "two"]
    assert (dataset.alphabet.characters, dataset.language) == (config.alphabet, "english")
    polish = PrepareConfig(language="Polish").with_alphabet_of(texts)
    assert polish.alphabet == " '3elnotwóöłż"
    dataset = prepare(replaced, tmp_path / "q", polish, workers=1)
    assert (dataset.language, dataset.alphabet.characters) == ("polish", polish.alphabet)
    again = open_or_prepare(tmp_path / "q", tmp_path, PrepareConfig(language="polish"))
    assert again.fingerprint == dataset.fingerprint
    assert PrepareConfig().with_alphabet_of(["only ascii"]) == PrepareConfig()


def test_options_are_checked():
    assert PrepareConfig(language="de") == PrepareConfig(language="German")
    with pytest.raises(UserError, match=r"'klingon' has no preset alphabet .*english.* the data"):
        _ = PrepareConfig(language="klingon").labels
    with pytest.raises(UserError, match="max_seconds must be positive"):
        PrepareConfig(max_seconds=0)


class Interruption(BaseException):
    pass


def test_an_interruption_at_any_write_can_be_resumed(reference, utterances, tmp_path, monkeypatch):
    """Stops before and after every file is renamed into place, then resumes: the final bytes are the same."""
    replace = os.replace
    for after in (False, True):
        for stop in range(14):
            out, calls = tmp_path / f"{after}{stop}", []

            def stopping(source, target, stop=stop, after=after, calls=calls):
                calls.append(target)
                if len(calls) - 1 == stop:
                    if after:
                        replace(source, target)
                    raise Interruption
                replace(source, target)

            monkeypatch.setattr(os, "replace", stopping)
            with pytest.raises(Interruption):
                prepare(utterances, out, workers=1, shard_size=5)
            monkeypatch.setattr(os, "replace", replace)
            if not (out / "prepared.json").exists():
                begun = any(out.glob("shard-*"))
                with pytest.raises(UserError, match="was interrupted" if begun else "not a prepared dataset"):
                    open_dataset(out)
                assert begun or not stop
            prepare(utterances, out, workers=1, shard_size=5)
            left = {name: data for name, data in content(out).items() if not name.endswith(".array_record.jsonl")}
            assert left == content(reference), (after, stop)
    assert str(calls[-1]).endswith("prepared.json")


KILLED = """
import os, signal, sys
from w2l_jax.corpora import manifest
from w2l_jax.dataset.prepare import prepare

def progress(done, total, description):
    if done == int(sys.argv[3]):
        print(*[p.pid for p in __import__("multiprocessing").active_children()], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

prepare(manifest.read(sys.argv[1]), sys.argv[2], workers=2, shard_size=5, progress=progress)
"""


def test_a_killed_process_can_be_resumed(reference, utterances, corpus, tmp_path):
    """SIGKILL during the third shard: finished shards are kept, workers end, the result is the same."""
    out = tmp_path / "p"
    command = [sys.executable, "-c", KILLED, str(corpus), str(out), "13"]
    killed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    first = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.array_record")}
    assert len(first) == 2
    counts = []
    prepare(utterances, out, workers=1, shard_size=5, progress=lambda done, total, _: counts.append((done, total)))
    assert counts == [(done, 24) for done in range(10, 25)]
    assert {name: (out / name).stat().st_mtime_ns for name in first} == first
    assert content(out) == content(reference)
    pids = [int(pid) for pid in killed.stdout.split()]
    assert len(pids) == 2
    for _ in range(100):
        if not any(Path(f"/proc/{pid}/cmdline").exists() and is_worker(pid) for pid in pids):
            break
        time.sleep(0.1)
    else:
        pytest.fail("workers outlive their killed parent")


def is_worker(pid):
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_interrupted_shards_of_other_input_are_not_reused(utterances, reference, tmp_path, monkeypatch):
    out = tmp_path / "p"
    monkeypatch.setattr(module, "finish", lambda *_: (_ for _ in ()).throw(Interruption))
    with pytest.raises(Interruption):
        prepare(utterances, out, PrepareConfig(max_seconds=30), workers=1, shard_size=5)
    monkeypatch.undo()
    with pytest.raises(UserError, match="other input or options"):
        prepare(utterances, out, workers=1, shard_size=5)
    prepare(utterances, out, workers=1, shard_size=5, replace=True)
    assert content(out) == content(reference)


def test_a_finished_folder_is_not_rewritten(utterances, tmp_path):
    out, counts = tmp_path / "p", []
    first = prepare(utterances, out, workers=1)
    again = prepare(utterances[::-1], out, workers=1, progress=lambda *count: counts.append(count))
    assert again.fingerprint == first.fingerprint
    assert not counts
    before = content(out)
    for other in (utterances[1:], [dataclasses.replace(u, speaker="") for u in utterances]):
        with pytest.raises(UserError, match=r"other input or options .*choose another folder"):
            prepare(other, out)
    assert content(out) == before


def test_foreign_folders_are_left_alone(utterances, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with pytest.raises(UserError, match="holds other files; give a new out"):
        prepare(utterances, tmp_path / "mine")
    with pytest.raises(UserError, match="cannot be written"):
        prepare(utterances, tmp_path / "mine/thesis.tex")
    assert content(tmp_path / "mine") == {"thesis.tex": b"x"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), "array_record"])
def test_a_full_disk(utterances, reference, tmp_path, monkeypatch, error):
    out = tmp_path / "p"
    writer = array_record_module.ArrayRecordWriter

    class Full:
        """The writer's error (seen on a full tmpfs), or the system's."""

        def __init__(self, path, options):
            self.real, self.third = writer(path, options), "00002" in path

        def write(self, record):
            self.real.write(record)

        def close(self):
            self.real.close()
            if self.third:
                raise error if isinstance(error, OSError) else RuntimeError("write() failed: No space left on device")

    monkeypatch.setattr(array_record_module, "ArrayRecordWriter", Full)
    with pytest.raises(UserError) as caught:
        prepare(utterances, out, workers=1, shard_size=5)
    assert str(caught.value).startswith(f"{out}: no space left on the device; about 1 MB more are needed (of 1 MB)")
    assert "2 of 5 shards are finished)" in str(caught.value)
    assert not list(out.glob("*.tmp"))
    monkeypatch.undo()
    prepare(utterances, out, workers=1, shard_size=5)
    assert content(out) == content(reference)


def test_other_write_errors_are_not_reported_as_a_full_disk(utterances, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "write_shards", lambda *_: (_ for _ in ()).throw(RuntimeError("bug")))
    with pytest.raises(RuntimeError, match="bug"):
        prepare(utterances, tmp_path / "p")


def test_cached(tmp_path):
    path, cache, counts = make_corpus(tmp_path / "c", 6), tmp_path / "cache", []

    def cached(config=PrepareConfig()):
        counts.clear()
        dataset = prepare_cached(path, cache, config, workers=1, progress=lambda *count: counts.append(count))
        return dataset, bool(counts)

    first, worked = cached()
    assert worked
    assert first.folder.name.startswith("corpus-")
    again, worked = cached()
    assert not worked
    assert again.fingerprint == first.fingerprint
    other, worked = cached(PrepareConfig(language="de"))
    assert worked
    assert other.folder != first.folder
    # An audio file changes: the folder of that name is rewritten.
    soundfile.write(path.parent / "u002.wav", np.random.default_rng(9).uniform(-1, 1, 9000), 16000)
    changed, worked = cached()
    assert worked
    assert changed.folder == first.folder
    assert changed.entries[2].frames == 71
    assert changed.fingerprint != first.fingerprint
    os.utime(path.parent / "u002.wav", (1, 1))
    assert cached()[1]
    # The manifest changes: a new folder is written, the old one is kept.
    path.write_text(path.read_text().replace("One", "Two"))
    edited, worked = cached()
    assert worked
    assert edited.folder != first.folder
    assert len(list(cache.iterdir())) == 3


MARKED = {"a": "train", "b": "test", "c": "", "d": "dev"}


@pytest.mark.parametrize(
    ("marks", "split", "taken", "others"),
    [
        (MARKED, "train", "ac", "1 of 4 are marked test, 1 of 4 are marked dev"),
        (MARKED, "dev", "d", "1 of 4 are marked train, 1 of 4 are marked test, 1 of 4 are marked "),
        (MARKED, "test", "b", "1 of 4 are marked train"),
        (MARKED, "", "abcd", ""),
        ({"a": "train", "b": "test"}, "dev", "b", "1 of 2 are marked train"),
        ({"a": "", "b": ""}, "train", "ab", ""),
        ({"a": "", "b": ""}, "test", "ab", ""),
        ({"a": "train", "b": "train"}, "test", "ab", ""),  # decoding the training data
        ({"a": "test", "b": "test"}, "train", "", "2 of 2 are marked test, so nothing is left for training"),
    ],
)
def test_marked_utterances_are_only_used_for_their_split(corpus, tmp_path, marks, split, taken, others):
    rows = [
        {"audio_filepath": str(corpus.parent / "u000.wav"), "text": "x", "id": i, "split": s} for i, s in marks.items()
    ]
    path = write_manifest(tmp_path / "all.jsonl", rows)
    reports = []
    if not taken:
        with pytest.raises(UserError, match=others):
            open_or_prepare(path, tmp_path, split=split, workers=1)
        return
    dataset = open_or_prepare(path, tmp_path, split=split, workers=1, report=reports.append)
    assert "".join(entry.id for entry in dataset.entries) == taken
    assert reports == [] if not others else others in reports[0] and reports[0].startswith(f"{path}: ")
    folder = next(tmp_path.glob("all-*"))  # a prepared folder is treated alike
    assert open_or_prepare(folder, tmp_path, split=split).fingerprint == dataset.fingerprint


def test_skipped_rows_of_a_manifest_are_reported(corpus, tmp_path):
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    rows = [dict(row, audio_filepath=str(corpus.parent / row["audio_filepath"])) for row in rows]
    path = write_manifest(tmp_path / "m.jsonl", rows)
    with path.open("a") as file:
        file.write("no JSON\n")
    reports = []
    assert len(open_or_prepare(path, tmp_path, workers=1, report=reports.append)) == 24
    assert reports[0] == f"{path}: skipped 1 of 25 utterances (malformed row: 1)"
    assert reports[1].startswith(f"  the first: {path}:25: not valid JSON")
    row = json.loads(Path(reports[1].split("; all: ")[1]).read_text())
    assert row["message"] in reports[1]


def test_comma_separated_sources_with_weights(tmp_path):
    assert weighted_sources("a.jsonl") == [("a.jsonl", 1.0)]
    assert weighted_sources("a.jsonl, data/b=2,c=0.5") == [("a.jsonl", 1.0), ("data/b", 2.0), ("c", 0.5)]
    for name in ("a,b.jsonl", "c=3"):
        (tmp_path / name).write_text("")
        assert weighted_sources(f"{tmp_path / name}") == [(f"{tmp_path / name}", 1.0)]
    for wrong in ("a=x", "a=0", "a=-1"):
        with pytest.raises(UserError, match="weight"):
            weighted_sources(wrong)


def test_a_weight_repeats_a_dataset(reference):
    dataset = open_dataset(reference)
    assert repeated(dataset, 1) is dataset
    doubled = repeated(dataset, 2)
    assert doubled.entries == dataset.entries * 2
    np.testing.assert_array_equal(*doubled.features_of([3, 27]))
    half = repeated(dataset, 1.5).entries[24:]
    assert set(half) < set(dataset.entries)
    assert 0.4 * dataset.hours < sum(entry.duration for entry in half) / 3600 <= 0.5 * dataset.hours


def test_each_source_occurs_as_often_as_its_weight(reference):
    """With `a,b=2,c=1.5`, of 24 utterances each."""
    dataset = open_dataset(reference)
    parts = [repeated(dataset, weight) for weight in (1, 2, 1.5)]
    mixed = functools.reduce(Dataset.followed_by, parts)
    order = Order(tuple(entry.frames for entry in mixed.entries), len(mixed), seed=0, sorted_first=True)
    drawn = Counter(order.batch(0).tolist())  # an epoch
    assert set(drawn.values()) == {1} and len(drawn) == len(mixed)
    edges = np.cumsum([0, *map(len, parts)])
    counts = [Counter(mixed.entries[i].id for i in drawn if a <= i < b) for a, b in itertools.pairwise(edges)]
    assert [set(count.values()) for count in counts] == [{1}, {2}, {1, 2}] and all(len(count) == 24 for count in counts)
    twice = {id for id, n in counts[2].items() if n == 2}
    assert twice == {entry.id for entry in repeated(dataset, 0.5).entries}
    assert len(repeated(dataset, 0.001)) == 1


def test_open_or_prepare(reference, corpus, tmp_path):
    assert open_or_prepare(reference, tmp_path).fingerprint == open_dataset(reference).fingerprint
    assert open_or_prepare(corpus, tmp_path, workers=1).fingerprint == open_dataset(reference).fingerprint
    wrong = {
        r"language=english, but german is needed here; prepare it again with language=german": PrepareConfig("de"),
        r"features\.mels=128, but 64 is needed here": PrepareConfig(features=FeatureConfig(mels=64)),
    }
    for message, config in wrong.items():
        with pytest.raises(UserError, match=message):
            open_or_prepare(reference, tmp_path, config)
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "half").mkdir()
    (tmp_path / "half/shard-00000-of-00002.array_record").write_bytes(b"")
    for name, message in {
        "absent.jsonl": "no such file or folder",
        "a.wav": "neither a manifest nor a prepared folder",
        "half": "its preparation was interrupted",
        ".": "not a prepared dataset",
    }.items():
        with pytest.raises(UserError, match=message):
            open_or_prepare(tmp_path / name, tmp_path)


def test_two_processes_prepare_it_only_once(corpus, reference, tmp_path):
    """The second process waits for the first, then finds the work done."""
    code = (
        "import sys; from w2l_jax.corpora import manifest; from w2l_jax.dataset.prepare import prepare\n"
        "seen = []\n"
        f"d = prepare(manifest.read({str(corpus)!r}), sys.argv[1], workers=1, shard_size=5, "
        "progress=lambda *count: seen.append(count))\n"
        "print(len(d), bool(seen))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "p")]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(process.communicate()[0] for process in both) == ["24 False\n", "24 True\n"]
    assert content(tmp_path / "p") == content(reference)


def script(*options):
    command = [sys.executable, "launch/prepare.py", *map(str, options)]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )


def test_the_script(tmp_path):
    folder = make_corpus(tmp_path / "c", 8, lang="de").parent
    (folder / "u003.wav").write_bytes(b"broken")
    soundfile.write(folder / "u004.wav", np.random.default_rng(0).uniform(-1, 1, 8000), 8000)
    options = f"--manifest={folder / 'corpus.jsonl'}", f"--out={tmp_path / 'p'}", "--workers=1"
    done = script(*options, "--language=en")
    assert done.returncode == 1
    assert done.stderr.startswith("error: u000: its language is 'de', not english")
    done = script(*options, "--language=de")
    assert (done.returncode, done.stderr) == (0, "")
    assert "kept 7 utterances, 0.00 h, speakers known: 4" in done.stdout
    assert "skipped 1, listed in" in done.stdout
    assert "u003: unreadable audio:" in done.stdout
    assert "1 of 7 recordings are sampled below 16 kHz" in done.stdout
    assert f"fingerprint {open_dataset(tmp_path / 'p').fingerprint}" in done.stdout
    assert "× real time" in done.stdout
    done = script(*options, "--language=de", "--examples=0")
    assert done.returncode == 0
    assert "already prepared" in done.stdout
    assert "u003" not in done.stdout
    done = script(*options, "--language=de", "--max_second=30")
    assert (done.returncode, done.stderr) == (1, "error: unknown option --max_second; did you mean --max_seconds?\n")
    done = script("--manifest=absent.jsonl", f"--out={tmp_path / 'q'}")
    assert (done.returncode, done.stderr) == (1, "error: absent.jsonl: no such manifest; check the path\n")


def test_warnings_about_single_files_are_summarised(tmp_path):
    folder = make_corpus(tmp_path / "c", 3).parent
    for name in ("u000", "u001"):
        soundfile.write(folder / f"{name}.wav", np.random.default_rng(0).uniform(-1, 1, 8000), 8000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare(manifest.read(folder / "corpus.jsonl"), tmp_path / "p", workers=1)
    assert ["2 of 3 recordings are sampled below 16 kHz" in str(w.message) for w in caught] == [True]
    assert filters.TOO_LONG not in open_dataset(tmp_path / "p").excluded


@pytest.mark.slow
def test_speed(tmp_path):
    """At least 500 × real time on two idle cores for 16 kHz FLAC; half of that here, as cores are seldom idle."""
    folder = tmp_path / "c"
    folder.mkdir()
    lines = []
    for i in range(600):
        rng = np.random.default_rng(i)
        noise = np.convolve(rng.normal(0, 0.05, 16000 * 12), np.ones(8) / 8)
        soundfile.write(folder / f"{i}.flac", noise, 16000)
        lines.append({"audio_filepath": f"{i}.flac", "text": "hello"})
    utterances = manifest.read(write_manifest(folder / "m.jsonl", lines))
    start = time.perf_counter()
    dataset = prepare(utterances, tmp_path / "p")
    assert dataset.hours * 3600 / (time.perf_counter() - start) > 250
