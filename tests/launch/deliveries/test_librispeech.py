import gzip
import io
import itertools
import re
import tarfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deliveries import catalog, librispeech
from tests.launch.deliveries.deliveries import damage, damages, listed, read_damaged, record, write
from w2l_jax.corpora import Utterance
from w2l_jax.errors import UserError

# Subset, speaker, chapter → lines; `deliver` adds the recordings.
TRANSCRIPTS = {
    (
        "train-clean-100",
        "19",
        "198",
    ): "19-198-0000 NORTHANGER ABBEY\n19-198-0001 IT'S A LITTLE WORK\n19-198-0002 NO AUDIO\n",
    ("train-clean-100", "19", "227"): "\ufeff19-227-0000 TWO  BLANKS\r\n\r\n19-227-0001\tA TAB\r\n",
    ("train-clean-360", "14", "208"): "14-208-0000 FÊTES\n",
    ("train-other-500", "20", "205"): "20-205-0000 A WAV FILE\n20-205-0001",
    ("dev-clean", "84", "121123"): "84-121123-0000 GO DO YOU HEAR\n",
    ("dev-other", "116", "288044"): "116-288044-0000 OTHER\n",
    ("test-clean", "61", "70968"): "61-70968-0000 HE BEGAN A CONFUSED COMPLAINT\n",
    ("test-other", "367", "130732"): "367-130732-0000 LOBSTERS AND LOBSTERS\n367-130732-0001 WHEN IS A LOBSTER\n",
}
NO_AUDIO, WAV = "19-198-0002", "20-205-0000"
# id, text, speaker, split
EXPECTED = [
    ("84-121123-0000", "GO DO YOU HEAR", "84", "dev"),
    ("116-288044-0000", "OTHER", "116", "dev"),
    ("61-70968-0000", "HE BEGAN A CONFUSED COMPLAINT", "61", "test"),
    ("19-198-0000", "NORTHANGER ABBEY", "19", "train"),
    ("19-198-0001", "IT'S A LITTLE WORK", "19", "train"),
    ("19-227-0000", "TWO  BLANKS", "19", "train"),
    ("19-227-0001", "A TAB", "19", "train"),
    ("14-208-0000", "FÊTES", "14", "train"),
    ("20-205-0000", "A WAV FILE", "20", "train"),
    ("20-205-0001", "", "20", "train"),
]


def deliver(folder: Path) -> Path:
    """Writes the miniature `LibriSpeech` into `folder`, and returns its path."""
    root = folder / "LibriSpeech"
    write(
        root / "SPEAKERS.TXT",
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n19   | F | train-clean-100  | 25.19 | Kara\n",
    )
    write(root / "CHAPTERS.TXT", ";ID\n198 | 19 | 14.2 | train-clean-100 | 12 | 121 | Chapter 01 | Northanger Abbey\n")
    for (subset, speaker, chapter), text in TRANSCRIPTS.items():
        path = root / subset / speaker / chapter
        write(path / f"{speaker}-{chapter}.trans.txt", text)
        for id in re.findall(r"\d+-\d+-\d+", text):
            if id != NO_AUDIO:
                record(path / f"{id}{'.wav' if id == WAV else '.flac'}")
    record(root / "train-clean-100/19/198/19-198-0003.flac")
    return root


def pack(root: Path, folder: Path) -> Path:
    """Packs each subset of `root` into `folder` as published, with the common text files."""
    folder.mkdir(exist_ok=True)
    for subset in {subset for subset, _, _ in TRANSCRIPTS}:
        with tarfile.open(folder / f"{subset}.tar.gz", "w:gz") as tar:
            for name in ("SPEAKERS.TXT", "CHAPTERS.TXT", subset):
                tar.add(root / name, f"LibriSpeech/{name}")
    return folder


def essence(utterances):
    return [(u.id, u.text, u.speaker, u.split) for u in utterances]


def test_every_file_is_used_or_listed(tmp_path):
    root = deliver(tmp_path / "deep" / "er")
    reading = catalog.read("librispeech", tmp_path)
    assert essence(reading.utterances) == EXPECTED
    audio = root / "train-clean-100/19/198/19-198-0000.flac"
    assert reading.utterances[3] == Utterance(
        "19-198-0000", audio, "NORTHANGER ABBEY", "19", "english", "train", "LibriSpeech"
    )
    assert all(u.source == "LibriSpeech" and u.language == "english" for u in reading.utterances)
    assert listed(reading) == {
        (NO_AUDIO, "missing audio", "19-198.trans.txt"),
        ("19-198-0003", "no transcript", "19-198-0003.flac"),
        ("367-130732-0000", "test-other", "367-130732-0000.flac"),
        ("367-130732-0001", "test-other", "367-130732-0001.flac"),
    }
    assert len(reading.skipped) == 4
    by_id = {skipped.id: skipped.message for skipped in reading.skipped}
    assert re.search(r"19-198\.trans\.txt:3: there is no recording '19-198-0002'", by_id[NO_AUDIO])
    assert "include_test_other" in by_id["367-130732-0000"]


def test_the_options_of_the_authors(tmp_path):
    root = deliver(tmp_path)
    reading = librispeech.read(root, include_dev=True, include_test_other=True)
    dev_and_train = [(*row[:3], "train" if row[3] == "dev" else row[3]) for row in EXPECTED]
    others = [u for u in reading.utterances if u.source != "LibriSpeech"]
    assert essence(u for u in reading.utterances if u not in others) == dev_and_train
    assert [(u.id, u.split, u.source) for u in others] == [
        ("367-130732-0000", "test", "LibriSpeech test-other"),
        ("367-130732-0001", "test", "LibriSpeech test-other"),
    ]


@pytest.mark.parametrize(
    ("below", "splits"), [("train-clean-100/19/198", {"train"}), ("dev-clean", {"dev"}), ("test-clean/61", {"test"})]
)
def test_a_part_of_the_folder_knows_its_split(tmp_path, monkeypatch, below, splits):
    root = deliver(tmp_path)
    assert {u.split for u in librispeech.read(root / below).utterances} == splits
    monkeypatch.chdir(root / below)
    assert {u.split for u in librispeech.read(Path()).utterances} == splits


def test_other_folders_leave_the_split_open(tmp_path):
    record(tmp_path / "mine/1-2-3.flac")
    write(tmp_path / "mine/1-2.trans.txt", "1-2-3 HELLO")
    assert essence(librispeech.read(tmp_path).utterances) == [("1-2-3", "HELLO", "1", "")]


def test_links_are_followed_once(tmp_path):
    root = deliver(tmp_path / "disk")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "here").symlink_to(root)
    (root / "dev-clean" / "round").symlink_to(root)
    assert len(librispeech.read(tmp_path / "corpus").utterances) == len(EXPECTED)


# Archives


def test_archives_as_downloaded(tmp_path):
    archives = pack(deliver(tmp_path / "plain"), tmp_path / "archives")
    write(archives / "intro-disclaimers.tar.gz", b"left alone")
    for _ in range(2):
        reading = librispeech.read(archives)
        assert sorted(essence(reading.utterances)) == sorted(EXPECTED)
        assert ("", "no subset", "intro-disclaimers.tar.gz") in listed(reading)
        # The second time, the archives are not opened.
        for archive in archives.glob("t*.tar.gz"):
            archive.write_bytes(b"gone")
    assert (archives / "dev-clean/LibriSpeech/dev-clean/84/121123/84-121123-0000.flac").is_file()
    assert not list(archives.glob("*.partial"))


def test_one_archive_unpacked_to_another_folder(tmp_path):
    archives = pack(deliver(tmp_path / "plain"), tmp_path / "archives")
    before = sorted(archives.iterdir())
    for source in (archives / "test-clean.tar.gz", archives):
        reading = librispeech.read(source, extract_to=str(tmp_path / "new" / "place"))
        assert ("61-70968-0000", "HE BEGAN A CONFUSED COMPLAINT", "61", "test") in essence(reading.utterances)
    assert len(reading.utterances) == len(EXPECTED)
    assert sorted(archives.iterdir()) == before
    assert len(librispeech.read(tmp_path / "new").utterances) == len(EXPECTED)


def test_manually_unpacked_archives_are_not_unpacked_again(tmp_path):
    pack(deliver(tmp_path), tmp_path)
    reading = librispeech.read(tmp_path)
    assert essence(reading.utterances) == EXPECTED
    assert not (tmp_path / "dev-clean").exists()


def test_two_processes_at_once(tmp_path):
    archives = pack(deliver(tmp_path / "plain"), tmp_path / "archives")
    with ThreadPoolExecutor(4) as pool:
        readings = list(pool.map(librispeech.read, [archives] * 4))
    assert all(sorted(essence(reading.utterances)) == sorted(EXPECTED) for reading in readings)


def test_a_truncated_archive_is_named_and_can_be_replaced(tmp_path):
    archives = pack(deliver(tmp_path / "plain"), tmp_path / "archives")
    archive = archives / "train-clean-100.tar.gz"
    packed = archive.read_bytes()
    for length in [0, 5, 100, len(packed) // 2, len(packed) - 9, len(packed) - 1]:
        archive.write_bytes(packed[:length])
        with pytest.raises(UserError, match=r"train-clean-100\.tar\.gz: truncated or damaged .*download it again"):
            librispeech.read(archive)
        assert not (archives / "train-clean-100").exists()
    # Cut between two files and compressed again, or with a damaged header: tarfile alone would see an ordinary end.
    content = gzip.decompress(packed)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        ends = [member.offset for member in tar.getmembers()[3:]]
    for damaged in [content[:end] for end in ends] + [content[:end] + b"x" + content[end + 1 :] for end in ends]:
        archive.write_bytes(gzip.compress(damaged, 1))
        with pytest.raises(UserError, match="truncated"):
            librispeech.read(archive)
    write(
        archives / "train-clean-100.partial/LibriSpeech/train-clean-100/19/1/19-1.trans.txt", "left by a killed process"
    )
    archive.write_bytes(packed)
    assert sorted(essence(librispeech.read(archives).utterances)) == sorted(EXPECTED)


@pytest.mark.parametrize("name", ["../outside.flac", "/tmp/outside.flac", "LibriSpeech/../../outside.flac"])
def test_an_archive_cannot_write_outside_its_folder(tmp_path, name):
    with tarfile.open(tmp_path / "dev-clean.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(UserError, match=r"dev-clean\.tar\.gz: holds .*outside"):
        librispeech.read(tmp_path)
    assert not list(tmp_path.parent.glob("outside*"))


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_decompression_bomb_is_refused(tmp_path, kind):
    member = tarfile.TarInfo("LibriSpeech/dev-clean/a.flac")
    member.size, member.type = 2**26, kind
    (tmp_path / "dev-clean.tar.gz").write_bytes(gzip.compress(member.tobuf() + bytes(2**26 + 1024), 9))
    tracemalloc.start()
    with pytest.raises(
        UserError, match=r"dev-clean\.tar\.gz: (unpacks to more than 20 times|.*a header of 67,108,864)"
    ):
        librispeech.read(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["dev-clean.tar.gz"]


def test_a_folder_that_cannot_be_written(tmp_path):
    archives = pack(deliver(tmp_path / "plain"), tmp_path / "archives")
    write(tmp_path / "file", "in the way")
    with pytest.raises(UserError, match=r"cannot be written .*extract_to"):
        librispeech.read(archives, extract_to=tmp_path / "file")


# Unusable deliveries


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("19-198-0000 OK\nNO ID HERE\n", r"19-198\.trans\.txt:2: does not begin with an id"),
        ("19-198-0000 OK\n\n19-198 SHORT\n", r"19-198\.trans\.txt:3: does not begin with an id"),
        (b"19-198-0000 F\xcaTES\n", r"19-198\.trans\.txt:1: not UTF-8"),
        ("19-198-0000 A\n19-198-0000 B", r"trans\.txt:2: the id '19-198-0000' is already that of .*trans\.txt:1;"),
        (
            "19-198-0000 A\n19-227-0000 ELSEWHERE",
            r"19-227\.trans\.txt:1: the id '19-227-0000' is already that of .*19-198\.trans\.txt:2;",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    write(deliver(tmp_path) / "train-clean-100/19/198/19-198.trans.txt", content)
    with pytest.raises(UserError, match=message):
        librispeech.read(tmp_path).check(tmp_path, max_skipped=0)


def test_bad_deliveries(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        librispeech.read(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds neither \*\.trans\.txt files nor archives"):
        librispeech.read(tmp_path)
    with pytest.raises(UserError, match=r"notes: neither a folder nor a \.tar\.gz archive"):
        librispeech.read(write(tmp_path / "notes", "x"))
    write(tmp_path / "1-2.trans.txt", "1-2-3 HELLO")
    with pytest.raises(UserError, match=r"no utterance can be used; 1 skipped, such as .*no recording '1-2-3'"):
        librispeech.read(tmp_path)
    record(tmp_path / "1-2-3.flac", tmp_path / "again" / "1-2-3.wav")
    reading = librispeech.read(tmp_path)  # the nearest one is used
    assert [u.audio.name for u in reading.utterances] == ["1-2-3.flac"]
    assert listed(reading) == {("1-2-3", "no transcript", "1-2-3.wav")}
    record(tmp_path / "1-2-3.wav")
    with pytest.raises(UserError, match=r"1-2-3\.flac and .*1-2-3\.wav are both recordings of '1-2-3'"):
        librispeech.read(tmp_path)


# Properties

WORDS = st.text("ABCÉ'\u2028\x85 ", max_size=12).map(str.strip)


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.tuples(
            st.sampled_from(["train-clean-100", "dev-other", "test-clean"]), st.integers(1, 3), st.integers(1, 3)
        ),
        st.lists(st.tuples(WORDS, st.booleans(), st.booleans()), min_size=1, max_size=4),
        min_size=1,
    )
)
def test_nothing_is_lost_or_invented(tmp_path_factory, corpus):
    """Any texts with or without recordings, and recordings with or without text, are returned or listed."""
    root = tmp_path_factory.mktemp("property")
    numbers = itertools.count()
    used, without_audio, without_text = {}, set(), set()
    for (subset, speaker, chapter), items in corpus.items():
        text = []
        for words, has_audio, has_text in items:
            id = f"{speaker}-{chapter}-{next(numbers):04d}"
            if has_audio:
                write(root / subset / str(speaker) / f"{id}.flac", b"not opened here")
            if has_text:
                text.append(f"{id} {words}".strip() + "\n")
            if has_audio and has_text:
                used[id] = (words, str(speaker), subset.split("-")[0])
            elif has_text:
                without_audio.add(id)
            elif has_audio:
                without_text.add(id)
        write(root / subset / f"{speaker}-{chapter}.trans.txt", "".join(text))
    if not used:
        with pytest.raises(UserError, match="no utterance can be used"):
            librispeech.read(root)
        return
    reading = librispeech.read(root)
    assert {u.id: (u.text, u.speaker, u.split) for u in reading.utterances} == used
    assert {s.id for s in reading.skipped if s.reason == "missing audio"} == without_audio
    assert {s.id for s in reading.skipped if s.reason == "no transcript"} == without_text
    assert len(reading.skipped) == len(without_audio) + len(without_text)


@pytest.fixture(scope="module")
def delivery(tmp_path_factory):
    return deliver(tmp_path_factory.mktemp("librispeech"))


def fuzz(delivery, changes):
    return read_damaged(sorted(delivery.rglob("*.trans.txt")), changes, lambda: librispeech.read(delivery))


@settings(max_examples=50)
@given(damages)
def test_damaged_transcripts_are_read_or_refused(delivery, changes):
    fuzz(delivery, changes)


@pytest.mark.slow
@settings(max_examples=2000)
@given(damages)
def test_many_damaged_transcripts_are_read_or_refused(delivery, changes):
    fuzz(delivery, changes)


@pytest.mark.slow
@settings(max_examples=1000)
@given(damages, st.booleans())
def test_many_damaged_archives_are_read_or_refused(delivery, tmp_path_factory, changes, inside):
    """Damage to the compressed stream and to the tar file within it."""
    folder = tmp_path_factory.mktemp("damaged")
    archive = pack(delivery, folder) / "train-clean-100.tar.gz"
    content = archive.read_bytes()
    for _, how, where, piece in changes:
        content = damage(gzip.decompress(content) if inside else content, how, where, piece)
        content = gzip.compress(content, 1) if inside else content
    archive.write_bytes(content)
    reading = read_damaged([archive], [], lambda: librispeech.read(archive))
    if not inside:
        # gzip's checksum covers everything but its own header.
        assert reading is None or sorted(essence(reading.utterances)) == sorted(EXPECTED[3:7])
        assert (reading is None) != (folder / "train-clean-100").exists()
