from pathlib import Path

import pytest
from hypothesis import given, settings

from deliveries import catalog, mls
from tests.launch.deliveries.deliveries import damages, listed, read_damaged, record, write
from w2l_jax.corpora import Utterance
from w2l_jax.errors import UserError

TRANSCRIPTS = {
    "train": "4536_4322_000000\tund nun will ich erzählen\n4536_4322_000001\t\n4536_4322_000002\tohne aufnahme\n",
    "dev": "\ufeff1844_931_000000\tdes menschen  seele\r\n\r\n1844_931_000001\tgleicht dem\u2028wasser\r\n",
    "test": "2037_3427_000000\tkein umbruch am ende",
}
EXPECTED = [
    ("1844_931_000000", "des menschen  seele", "1844", "dev"),
    ("1844_931_000001", "gleicht dem\u2028wasser", "1844", "dev"),
    ("2037_3427_000000", "kein umbruch am ende", "2037", "test"),
    ("4536_4322_000000", "und nun will ich erzählen", "4536", "train"),
    ("4536_4322_000001", "", "4536", "train"),
]


def deliver(folder: Path, name: str = "mls_german", ending: str = "flac") -> Path:
    root = folder / name
    write(root / "metainfo.txt", "SPEAKER | GENDER | PARTITION\n4536 | F | train\n")
    write(root / "train/limited_supervision/9hr/handles.txt", "4536_4322_000000\n")
    for split, text in TRANSCRIPTS.items():
        write(root / split / "transcripts.txt", text)
    for id, _, speaker, split in EXPECTED:
        record(root / split / "audio" / speaker / id.split("_")[1] / f"{id}.{ending}")
    record(root / "train/audio/4536/4322" / f"4536_4322_000003.{ending}")
    return root


def essence(utterances):
    return [(u.id, u.text, u.speaker, u.split) for u in utterances]


@pytest.mark.parametrize(("name", "ending"), [("mls_german", "flac"), ("mls_german_opus", "opus")])
def test_every_file_is_used_or_listed(tmp_path, name, ending):
    root = deliver(tmp_path / "deep", name, ending)
    reading = catalog.read("mls", tmp_path)
    assert essence(reading.utterances) == EXPECTED
    audio = root / f"dev/audio/1844/931/1844_931_000000.{ending}"
    assert reading.utterances[0] == Utterance(
        "1844_931_000000", audio, "des menschen  seele", "1844", "german", "dev", "MLS"
    )
    assert listed(reading) == {
        ("4536_4322_000002", "missing audio", "transcripts.txt"),
        ("4536_4322_000003", "no transcript", f"4536_4322_000003.{ending}"),
    }


def test_a_part_of_the_folder_and_other_names(tmp_path, monkeypatch):
    root = deliver(tmp_path)
    monkeypatch.chdir(root / "test")
    (utterance,) = mls.read(Path()).utterances
    assert (utterance.split, utterance.language) == ("test", "german")
    other = root.rename(tmp_path / "german")
    assert {u.language for u in mls.read(other).utterances} == {""}
    (other / "train").rename(other / "all")
    assert {u.speaker: u.split for u in mls.read(other).utterances} == {"1844": "dev", "2037": "test", "4536": ""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("4536_4322_000000\tx\n4536_4322_000001 no tab\n", r"train/transcripts\.txt:2: not an id"),
        ("4536_4322\tx\n", r"train/transcripts\.txt:1: not an id such as"),
        ("4536_4322_000000\tx\n\n4536_4322_000000\tx", r"txt:3: the id '4536_4322_000000' is already that of .*txt:1;"),
        ("2037_3427_000000\tx", r"train/.*:1: the id '2037_3427_000000' is already that of .*test/transcripts\.txt:1;"),
        (b"4536_4322_000000\t\xe4", r"transcripts\.txt:1: not UTF-8"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    write(deliver(tmp_path) / "train/transcripts.txt", content)
    with pytest.raises(UserError, match=message):
        mls.read(tmp_path).check(tmp_path, max_skipped=0)


def test_bad_deliveries(tmp_path):
    with pytest.raises(UserError, match=r"holds no transcripts\.txt; give a folder such as mls_german"):
        mls.read(tmp_path)
    utterances = mls.read(deliver(tmp_path)).utterances
    record(tmp_path / "copy/4536_4322_000000.wav")  # farther from the transcript than the other one
    assert mls.read(tmp_path).utterances == utterances


@pytest.fixture(scope="module")
def delivery(tmp_path_factory):
    return deliver(tmp_path_factory.mktemp("mls"))


def fuzz(delivery, changes):
    read_damaged(sorted(delivery.rglob("transcripts.txt")), changes, lambda: mls.read(delivery))


@settings(max_examples=50)
@given(damages)
def test_damaged_transcripts_are_read_or_refused(delivery, changes):
    fuzz(delivery, changes)


@pytest.mark.slow
@settings(max_examples=2000)
@given(damages)
def test_many_damaged_transcripts_are_read_or_refused(delivery, changes):
    fuzz(delivery, changes)
