import io
from pathlib import Path

import pytest

import recording_files
import transcribe
from deliveries import archives
from w2l_jax.alphabet import Alphabet
from w2l_jax.errors import UserError

ALPHABET = Alphabet("abc '")


def test_reading_a_transcript(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\ufeffAb, c!\r\n\n --\nÀ  ’b\n", encoding="utf-8")
    assert recording_files.read_lines(path, ALPHABET) == ["ab c", "a 'b"]
    for text, message in {"ab\nb 7": r"a\.txt:2: holds '7'", " \n?": "holds no words"}.items():
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            recording_files.read_lines(path, ALPHABET)
    with pytest.raises(UserError, match="no such transcript"):
        recording_files.read_lines(tmp_path / "b.txt", ALPHABET)


def test_finding_recordings(tmp_path):
    for name in ("b.wav", "a.MP3", "below/deep/c.flac", "notes.txt"):
        (tmp_path / "talks" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "talks" / name).touch()
    talks = tmp_path / "talks"
    found = recording_files.find([str(talks), "odd.name", "-"])
    assert [str(recording.output) for recording in found] == ["a", "b", "below/deep/c", "odd", "stdin"]
    assert [recording.path for recording in found[:3]] == [
        talks / "a.MP3",
        talks / "b.wav",
        talks / "below/deep/c.flac",
    ]
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no recordings in this folder"):
        recording_files.find([str(tmp_path / "none")])
    assert recording_files.skipped([str(talks), "odd.name", "-"]) == [talks / "notes.txt"]


def test_outputs_with_the_same_name_get_their_paths(tmp_path):
    for names, outputs in (
        (["x/a.wav", "y/a.flac", "b.wav"], ["x/a", "y/a", "b"]),
        (["t/x/a.wav", "t/y/z/a.wav"], ["x/a", "y/z/a"]),
        (["x/a.wav", "x/a.flac"], ["a.wav", "a.flac"]),
        (["x/a.wav", "x/a.flac", "a.wav"], ["x/a.wav", "x/a.flac", "a.wav"]),
    ):
        found = recording_files.find([str(tmp_path / name) for name in names], written=True)
        assert [str(recording.output) for recording in found] == outputs
    for twice in (["-", "-"], ["x/a.wav", "y/../x/a.wav"]):
        assert len(recording_files.find(twice)) == 2
        with pytest.raises(UserError, match="is named twice"):
            recording_files.find(twice, written=True)


def test_standard_input_is_spooled_and_named_so_in_messages():
    recording = recording_files.find(["-"])[0]
    with recording_files.opened(recording, io.BytesIO(b"sound")) as path:
        assert path.read_bytes() == b"sound"
    assert not path.exists()
    with (
        pytest.raises(UserError, match=r"^standard input: bad$"),
        recording_files.opened(recording, io.BytesIO()) as path,
    ):
        raise UserError(f"{path}: bad")
    assert not path.exists()
    with recording_files.opened(recording_files.find(["a.wav"])[0], io.BytesIO()) as path:
        assert path == Path("a.wav")


def test_hot_words():
    assert transcribe.read_hot_words("Cab=6,a b=-1.5,", ALPHABET) == {"cab": 6.0, "a b": -1.5}
    assert transcribe.read_hot_words("", ALPHABET) == {}
    for text in ("cab", "=3", "cab=much"):
        with pytest.raises(UserError, match="word=boost"):
            transcribe.read_hot_words(text, ALPHABET)


def test_deliveries_take_the_same_suffixes_as_folders():
    assert [archives.without_ending(f"T.001{suffix}") for suffix in (".m4a", ".WEBM", ".flac", ".txt")] == [
        *["T.001"] * 3,
        "T.001.txt",
    ]
