import dataclasses
import json
import sys
import types
from pathlib import Path

import pytest

from deliveries import catalog
from preparing.collect import Collection, CorpusSource, check_out, collect, write_excluded
from preparing.splits import assign
from w2l_jax.corpora import Reading, Skipped, Utterance
from w2l_jax.errors import UserError


def make_utterance(name, speaker, split="", source="", **fields):
    return Utterance(name, Path(f"{name}.wav"), name, speaker, "de", split, source, **fields)


OPEN = [make_utterance(f"o{i}", f"s{i % 20}") for i in range(60)]
OFFICIAL = [
    make_utterance("o1", "s1", "train", "TUDA"),
    make_utterance("x", "s2", "dev", "TUDA"),
    make_utterance("y", "s3", "test", "TUDA"),
]


def read_open(source, include_dev=False):
    skipped = (Skipped(Path("lost.wav"), "no transcript", "lost.wav: nobody says what is in it", "lost"),)
    return Reading(tuple(OPEN), skipped, (f"include_dev={include_dev}", str(source)))


@pytest.fixture(autouse=True)
def corpora(monkeypatch):
    module = types.SimpleNamespace(
        open=read_open,
        official=lambda source: Reading(tuple(OFFICIAL)),
        broken=lambda source: len(source),
        torn=lambda source: Reading((make_utterance("a", "s", "train"), make_utterance("b", "s", "test"))),
        long=lambda source: Reading(
            (make_utterance("l", "s", words=(("a", 0.0, 3.0), ("b", 4.0, 7.0))), make_utterance("m", "t"))
        ),
    )
    monkeypatch.setitem(sys.modules, "deliveries.fake", module)
    for name in vars(module):
        monkeypatch.setitem(catalog.CORPORA, name, catalog.Corpus(f"deliveries.fake:{name}", "german", ""))


def one(name, **options):
    return CorpusSource(corpus=name, source="folder", **options)


def by_id(collection):
    return {u.id: split for split, part in collection.splits.items() for u in part}


def test_one_corpus_keeps_its_names():
    collection = collect([one("open")])
    assert by_id(collection) == {u.id: u.split for u in assign(OPEN)}
    assert all(u.split == split and u.source == "open" for split, part in collection.splits.items() for u in part)
    assert {u.speaker for u in collection.utterances} == {u.speaker for u in OPEN}
    assert collection.notes == ["include_dev=False", "folder"]
    assert collection.language == "german"
    message = "lost.wav: nobody says what is in it"
    row = {"id": "lost", "audio": "lost.wav", "source": "open", "reason": "no transcript", "message": message}
    assert collection.skipped == [row]


def test_a_mixture_splits_each_corpus_separately_and_prefixes_names():
    mixed = by_id(collect([one("open"), one("official")]))
    alone = {f"open-{name}": split for name, split in by_id(collect([one("open")])).items()}
    assert mixed == alone | {"TUDA-o1": "train", "TUDA-x": "dev", "TUDA-y": "test"}
    found = {u.id: u for u in collect([one("official"), one("open")]).utterances}
    assert (found["TUDA-o1"].speaker, found["open-o1"].speaker) == ("TUDA-s1", "open-s1")
    assert found["TUDA-o1"].audio == Path("o1.wav")


def test_a_dev_fraction_of_zero():
    assert not collect([one("open")], dev_fraction=0).splits["dev"]
    assert len(collect([one("official")], dev_fraction=0).splits["dev"]) == 1


def test_options_reach_the_reader_or_are_refused():
    assert collect([one("open", include_dev=True)]).notes[0] == "include_dev=True"
    with pytest.raises(UserError, match="official does not take include_dev: omit it"):
        collect([one("official", include_dev=True)])
    with pytest.raises(UserError, match=r"unknown corpus 'alk'; known: .*alc"):
        collect([one("alk")])
    with pytest.raises(TypeError, match="len"):  # a reader's bug is not reported as the user's mistake
        collect([one("broken")])


def test_speakers_in_two_splits():
    with pytest.raises(UserError, match=r"1 speaker\(s\) in both train and test: s; .*set allow_speaker_overlap"):
        collect([one("torn")])
    collection = collect([one("torn")], allow_speaker_overlap=True)
    assert collection.notes == ["speakers in both train and test, as allowed: s"]


def test_long_recordings_are_cut_after_splitting():
    uncut = by_id(collect([one("long")]))
    found = collect([one("long")], max_seconds=5.0, seconds=lambda u: 8.0)
    assert by_id(found) == {"l-001": uncut["l"], "l-002": uncut["l"], "m": uncut["m"]}
    assert found.notes == ["long: 1 recordings over 5 s were cut into 2 pieces"]
    assert not collect([one("long")], max_seconds=9.0, seconds=lambda u: 8.0).notes


def test_an_ambiguous_language():
    mixed = [make_utterance("a", "s"), dataclasses.replace(make_utterance("b", "s"), language="en")]
    for utterances in (mixed, [dataclasses.replace(make_utterance("a", "s"), language="")]):
        with pytest.raises(UserError, match=r"a single language .*give language"):
            _ = Collection({"train": utterances}).language
    assert Collection({"": [dataclasses.replace(make_utterance("a", "s"), language="PL")]}).language == "polish"


def test_everything_skipped_is_listed_once(tmp_path):
    row = {"id": "a", "audio": "a.wav", "source": "c", "reason": "too long", "message": "a.wav: 40 s"}
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "excluded.jsonl").write_text(json.dumps(row | {"id": split}) + "\n")
    path = write_excluded(tmp_path, collect([one("open")]), ["train", "test"])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(r["id"], r["reason"], r.get("split")) for r in rows] == [
        ("lost", "no transcript", None),
        ("train", "too long", "train"),
        ("test", "too long", "test"),
    ]


def test_a_prepared_dataset_is_not_a_folder_of_datasets(tmp_path):
    check_out(tmp_path)
    (tmp_path / "prepared.json").touch()
    with pytest.raises(UserError, match="is one prepared dataset, not a folder of train, dev and test"):
        check_out(tmp_path)


def test_names_that_are_not_utf8_are_listed_and_read_back(tmp_path):
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    listed = write_excluded(tmp_path, Collection({}, [{"id": "x", "audio": name, "reason": "no transcript"}]), [])
    assert json.loads(listed.read_text("utf-8"))["audio"] == name
