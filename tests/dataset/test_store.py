import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax import audio, features
from w2l_jax.alphabet import preset
from w2l_jax.dataset import shards as stored
from w2l_jax.dataset.prepare import prepare
from w2l_jax.dataset.store import Dataset, Entry, check_speakers, open_dataset
from w2l_jax.errors import UserError
from w2l_jax.features import FeatureConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory, utterances):
    out = tmp_path_factory.mktemp("prepared") / "p"
    prepare(utterances, out, workers=1, shard_size=10)
    return out


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def fake(durations, speakers=None, prefix="u"):
    entries = tuple(
        Entry(f"{prefix}{i}", "a", "a", speakers[i] if speakers else "", "", "", "", 10, duration)
        for i, duration in enumerate(durations)
    )
    shards = stored.ShardReader(Path("."), [], stored.Record(128))
    places = tuple((0, i) for i in range(len(entries)))
    return Dataset(Path("x"), entries, preset("en"), FeatureConfig(), "english", "f0", {}, places, shards)


def test_entries_and_features(folder, utterances):
    dataset = open_dataset(folder)
    assert [entry.id for entry in dataset.entries] == [u.id for u in utterances]
    assert dataset.entries[12].transcript == "three two"
    assert dataset.entries[12].text == "Three, two!"
    assert dataset.speakers == {"s0", "s1", "s2", "s3", "s4"}
    assert (dataset.language, dataset.alphabet, dataset.excluded) == ("english", preset("en"), {})
    assert dataset.hours == pytest.approx(sum(len(audio.load(u.audio)) for u in utterances) / 16000 / 3600)
    asked = [23, 0, 11, 11, 9, 10]
    for index, features_TxM in zip(asked, dataset.features_of(asked), strict=True):
        assert features_TxM.dtype == np.float16
        assert features_TxM.shape == (dataset.entries[index].frames, 128)
        np.testing.assert_array_equal(features_TxM, features.compute(audio.load(utterances[index].audio)))
    assert dataset.features_of([]) == []


def test_selections_share_the_files(folder):
    dataset = open_dataset(folder)
    part = dataset.select([20, 3])
    assert [entry.id for entry in part.entries] == ["u020", "u003"]
    for a, b in zip(part.features_of([1, 0]), dataset.features_of([3, 20]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({dataset.fingerprint, part.fingerprint, dataset.select([3, 20]).fingerprint}) == 3
    assert dataset.select(range(24)) is dataset
    assert part.select([0]).features_of([0])[0].shape[0] == dataset.entries[20].frames


def test_a_pickled_dataset_can_be_read(folder):
    dataset = open_dataset(folder)
    before = dataset.features_of([5])
    again = pickle.loads(pickle.dumps(dataset))
    assert again.entries == dataset.entries
    np.testing.assert_array_equal(again.features_of([5])[0], before[0])


def test_threads_share_few_open_files(folder, monkeypatch):
    monkeypatch.setattr(stored, "_OPEN_SHARDS", 1)
    dataset = open_dataset(folder)
    expected = [x.sum(dtype=np.float64) for x in dataset.features_of(range(24))]
    wrong = []

    def read(seed):
        for index in np.random.default_rng(seed).integers(0, 24, 200):
            if dataset.features_of([index])[0].sum(dtype=np.float64) != expected[index]:
                wrong.append(index)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(dataset._shards._open) == 1


def test_reads_without_audio_libraries(folder):
    """On a training machine this needs only NumPy and array_record."""
    code = (
        "import sys\n"
        "for name in ('librosa', 'soundfile', 'soxr', 'tyro', 'rich', 'scipy', 'numba', 'jax', 'tensorflow'):\n"
        "    sys.modules[name] = None\n"
        "from w2l_jax.dataset.store import open_dataset, check_speakers\n"
        f"d = open_dataset({str(folder)!r})\n"
        "print(len(d), len(d.features_of([7, 23])), len(d.subset(0.001)), check_speakers(d, d, True)[0])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("24 2 "), done.stderr


SECONDS = st.lists(st.floats(0.1, 35), min_size=1, max_size=40)


@given(SECONDS, st.floats(1e-4, 0.5), st.floats(1e-4, 0.5), st.integers(0, 5))
def test_subsets_are_nested_and_have_the_requested_hours(durations, a, b, seed):
    dataset = fake(durations)
    small, large = dataset.subset(min(a, b), seed), dataset.subset(max(a, b), seed)
    assert {e.id for e in small.entries} <= {e.id for e in large.entries}
    for part, hours in ((small, min(a, b)), (large, max(a, b))):
        assert part.hours <= hours * (1 + 1e-9) + 1e-9 or len(part) == 1
        # The next utterance does not fit.
        assert len(part) == len(dataset) or part.hours + 35 / 3600 >= hours
        assert list(part.entries) == [e for e in dataset.entries if e in set(part.entries)]


@given(SECONDS, SECONDS, st.floats(1e-4, 0.5))
def test_subsets_do_not_depend_on_order(durations, more, hours):
    dataset = fake(durations)
    ids = {e.id for e in dataset.subset(hours).entries}
    assert ids == {e.id for e in dataset.select(range(len(dataset) - 1, -1, -1)).subset(hours).entries}
    added = fake(more, prefix="new")
    places = dataset._places + added._places
    both = dataclasses.replace(dataset, entries=dataset.entries + added.entries, _places=places)
    kept = {e.id for e in both.subset(hours).entries if e.id.startswith("u")}
    assert kept <= ids


def test_subsets_differ_by_seed_and_can_hold_everything():
    dataset = fake([10.0] * 360)
    assert len(dataset.subset(0.5, 1)) == 180
    assert dataset.subset(0.5, 1).fingerprint == dataset.subset(0.5, 1).fingerprint
    assert dataset.subset(0.5, 1).fingerprint != dataset.subset(0.5, 2).fingerprint
    assert len({e.id for e in dataset.subset(0.5, 1).entries} & {e.id for e in dataset.subset(0.5, 2).entries}) < 130
    assert dataset.subset(1.0) is dataset
    assert dataset.subset(99) is dataset
    for hours in (0, -1, float("nan")):
        with pytest.raises(UserError, match="positive number of hours"):
            dataset.subset(hours)


def test_speakers_on_both_sides():
    train, dev = fake([1] * 5, ["", "a", "b", "c", "c"]), fake([1] * 4, ["", "c", "b", "d"])
    with pytest.raises(UserError, match=r"2 speaker\(s\) in both .*: b, c; .*allow_speaker_overlap"):
        check_speakers(train, dev, allow_overlap=False)
    assert check_speakers(train, dev, allow_overlap=True) == ("b", "c")
    assert check_speakers(train, fake([1, 1], ["", "z"]), allow_overlap=False) == ()
    assert check_speakers(fake([1], [""]), fake([1], [""]), allow_overlap=False) == ()


def read_all(folder):
    dataset = open_dataset(folder)
    return dataset.features_of(range(len(dataset)))


def refused(folder, message):
    with pytest.raises(UserError, match=message) as caught:
        read_all(folder)
    return str(caught.value)


SECOND = "shard-00001-of-00003.array_record"


def test_damaged_files_are_named(copy):
    shard = copy / SECOND
    content = shard.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    shard.write_bytes(flipped)
    assert SECOND in refused(copy, "damaged .*delete the folder and prepare it again")
    shard.write_bytes(bytes(len(content)))
    assert SECOND in refused(copy, "damaged")
    shard.write_bytes((copy / "shard-00000-of-00003.array_record").read_bytes()[: len(content)].ljust(len(content)))
    assert SECOND in refused(copy, "damaged")
    shard.write_bytes(content[:-1])
    assert SECOND in refused(copy, f"has {len(content) - 1} bytes, not the {len(content)} written")
    shard.unlink()
    assert SECOND in refused(copy, "this shard is missing")


def test_swapped_shards_are_detected(copy):
    names = [f"shard-0000{i}-of-00003.array_record" for i in (0, 1)]
    meta = json.loads((copy / "prepared.json").read_text())
    del meta["sha256"]
    meta["shards"][0], meta["shards"][1] = meta["shards"][1], meta["shards"][0]
    (copy / "prepared.json").write_text(json.dumps(meta))
    assert names[1] in refused(copy, "not of the sizes the index states")


@pytest.mark.parametrize(("old", "new"), [('"characters": "ab', '"characters": "ba'), ('"mels": 128', '"mels": 129')])
def test_a_changed_value_in_the_metadata_is_refused(copy, old, new):
    meta = copy / "prepared.json"
    assert old in meta.read_text()
    meta.write_text(meta.read_text().replace(old, new))
    refused(copy, r"prepared\.json: damaged: not what was written")


def test_a_changed_index_is_refused(copy):
    index = copy / "index.jsonl"
    content = index.read_bytes()
    for changed in (content[:-40], content.replace(b"three two", b"three twe"), b""):
        index.write_bytes(changed)
        refused(copy, r"index\.jsonl: was changed or truncated")
    index.unlink()
    refused(copy, r"index\.jsonl: cannot be read")


@pytest.mark.parametrize("key", ["format", "shards", "config", "alphabet", "fingerprint", "excluded", "index_sha256"])
def test_incomplete_metadata_are_refused(copy, key):
    meta = json.loads((copy / "prepared.json").read_text())
    (copy / "prepared.json").write_text(json.dumps({k: v for k, v in meta.items() if k != key}))
    refused(copy, "damaged|changed")


def test_other_formats_and_broken_metadata(copy):
    meta = copy / "prepared.json"
    content = json.loads(meta.read_text())
    del content["sha256"]
    meta.write_text(json.dumps(content | {"format": 99}))
    refused(copy, r"prepared\.json: written in format 99, but this version reads 1")
    for text in ("", "{", "[]", "null", json.dumps(content | {"shards": [1]}), json.dumps(content | {"config": 1})):
        meta.write_text(text)
        refused(copy, r"prepared\.json: damaged")


def test_folders_that_are_not_prepared_datasets(copy, tmp_path):
    refused(tmp_path / "absent", "no such prepared dataset")
    refused(tmp_path, "not a prepared dataset")
    (copy / "prepared.json").unlink()
    refused(copy, "preparation was interrupted; prepare it again with the same options")
