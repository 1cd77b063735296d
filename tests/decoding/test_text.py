import gzip
import json
import lzma

import pytest

from w2l_jax.alphabet import preset
from w2l_jax.decoding import text
from w2l_jax.errors import UserError

GERMAN = preset("de")


def read(path, held_out_ids=frozenset()):
    counts = text.Counts()
    return list(text.sentences(path, GERMAN, held_out_ids, counts)), counts


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Er ging. Sie blieb.", ["Er ging. ", "Sie blieb."]),
        ("»Wer da?« »Ich!« Er kam … Über ihm", ["»Wer da?« ", "»Ich!« ", "Er kam … ", "Über ihm"]),
        ("am 3. mai um 5. Uhr", ["am 3. mai um 5. ", "Uhr"]),
        ("ein Wort. ein Wort", ["ein Wort. ein Wort"]),
        ("3.14 und A.B", ["3.14 und A.B"]),
        ("", [""]),
    ],
)
def test_sentences_end_where_a_capital_follows(line, expected):
    assert list(text.split(line)) == expected


def test_plain_and_packed_text_read_alike(tmp_path):
    content = "Der Hund bellt. Die Katze, sie schläft!\n\nZimmer 12 ist frei.\n"
    (tmp_path / "a.txt").write_text(content, "utf-8")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(content.encode()))
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(content.encode()))
    for path in tmp_path.iterdir():
        sentences, counts = read(path)
        assert sentences == ["der hund bellt", "die katze sie schläft"]
        assert (counts.sentences, counts.words, counts.dropped) == (2, 7, 1)
        assert counts.dropped_characters == {"1": 1, "2": 1}


def test_a_transcript_is_one_sentence_and_held_out_ones_are_left_out(tmp_path):
    lines = [
        {"audio_filepath": "x/u1.wav", "text": "Eins. Zwei!"},
        {"audio_filepath": "x/u2.wav", "text": "drei"},
        {"audio_filepath": "x/u3.wav", "text": "vier", "id": "other"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    sentences, counts = read(tmp_path / "m.jsonl", {"u2", "u3"})
    assert sentences == ["eins zwei", "vier"]
    assert counts.held_out == 1


def test_patterns_name_files_once_in_order(tmp_path):
    for name in ("b.txt", "a.txt", "c.jsonl"):
        (tmp_path / name).touch()
    found = text.find([tmp_path / "c.jsonl", f"{tmp_path}/*.txt", tmp_path / "a.txt"])
    assert [path.name for path in found] == ["c.jsonl", "a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("latin.txt", "schön\nschön".encode("latin1"), "not UTF-8 after line 0"),
        ("cut.txt.gz", gzip.compress(b"hallo welt\n" * 1000)[:-20], "is the file complete"),
        ("cut.txt.xz", lzma.compress(b"hallo welt\n" * 1000)[:-40], "is the file complete"),
        ("not.txt.gz", b"plain", "cannot be read after line 0"),
        ("bad.jsonl", b"{}\n", "bad.jsonl:1"),
    ],
)
def test_damaged_files_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name)


def test_files_that_are_not_there_or_not_understood(tmp_path):
    (tmp_path / "m.jsonl.gz").touch()
    for names, message in [(["no*.txt"], "no such text"), ([], "at least one"), ([tmp_path], "no such text")]:
        with pytest.raises(UserError, match=message):
            text.find(names)
    with pytest.raises(UserError, match="unpacked"):
        text.find([tmp_path / "m.jsonl.gz"])
