import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from deliveries import catalog
from w2l_jax.corpora import Reading, Utterance, manifest
from w2l_jax.errors import UserError

LINE = {"audio_filepath": "sub/a.wav", "text": "Hallo, Welt!"}


def write(tmp_path, content, name="corpus.jsonl"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_reads_every_field(tmp_path):
    line = {**LINE, "id": "x1", "duration": 1.5, "speaker": "anna", "lang": "de", "split": "dev", "source": "s"}
    (utterance,) = manifest.read(write(tmp_path, json.dumps({**line, "further": [3]})))
    assert utterance == Utterance("x1", tmp_path / "sub/a.wav", "Hallo, Welt!", "anna", "de", "dev", "s")


def test_defaults(tmp_path):
    """The id defaults to the file's stem, the speaker to "", the source to the manifest's stem; null is missing."""
    line = {**LINE, "audio_filepath": "/abs/b.c.flac", "speaker": None, "source": None}
    (utterance,) = manifest.read(write(tmp_path, json.dumps(line)))
    assert str(utterance.audio) == "/abs/b.c.flac"
    assert (utterance.id, utterance.speaker, utterance.source, utterance.split) == ("b.c", "", "corpus", "")


def test_a_recording_may_be_outside_the_folder_of_the_manifest(tmp_path):
    """As documented in CORPORA.md: data and lists are often stored in different folders."""
    (tmp_path / "a.wav").write_bytes(b"sound")
    (tmp_path / "lists").mkdir()
    paths = ["../a.wav", "../../a.wav", str(tmp_path / "a.wav")]
    rows = [{**LINE, "audio_filepath": path, "id": str(i)} for i, path in enumerate(paths)]
    found = manifest.read(write(tmp_path / "lists", "\n".join(map(json.dumps, rows))))
    assert [u.audio.resolve() for u in found] == [tmp_path / "a.wav", tmp_path.parent / "a.wav", tmp_path / "a.wav"]


def test_byte_order_mark_blank_lines_and_carriage_returns(tmp_path):
    content = "\ufeff\r\n" + json.dumps(LINE) + "\r\n\n   \n" + json.dumps({**LINE, "id": "b"}, ensure_ascii=False)
    assert [u.id for u in manifest.read(write(tmp_path, content))] == ["a", "b"]


BAD = {
    '{"text": "x"}': (2, "'audio_filepath' is missing"),
    '{"audio_filepath": "b.wav"}': (2, "'text' is missing"),
    '{"audio_filepath": "b.wav", "text": null}': (2, "'text' is missing"),
    '{"audio_filepath": "b.wav", "text": ["x"]}': (2, "'text' must be a string, not [\"x\"]"),
    '{"audio_filepath": "", "text": "x"}': (2, "'audio_filepath' is empty"),
    '{"audio_filepath": "b.wav", "text": "x", "speaker": true}': (2, "'speaker' must be a string, not true"),
    '{"audio_filepath": "b.wav", "text": "x", "offset": "long"}': (
        2,
        "'offset' must be a non-negative number of seconds",
    ),
    '{"audio_filepath": "b.wav", "text": "x", "offset": -1}': (
        2,
        "'offset' must be a non-negative number of seconds",
    ),
    '{"audio_filepath": "b.wav", "text": "x", "start": 3, "end": 2}': (2, "3 s to 2 s is not a piece"),
    '{"audio_filepath": "b.wav", "text": "x", "split": "other"}': (2, "its split is 'other'; known: train, dev, test"),
    '{"audio_filepath": "b.wav", "text": "\\ud800"}': (2, "lone surrogate"),
    '{"audio_filepath": "b.wav", "text": "x"': (2, "not valid JSON"),
    "b.wav|hello": (2, "not valid JSON"),
    "[" * 100_000: (2, "not valid JSON"),
    '["b.wav", "x"]': (2, "each line must be a JSON object"),
    '\n{"audio_filepath": "sub/a.wav", "text": "x"}': (
        3,
        "already that of line 1; remove one of the two lines, or give",
    ),
}


@pytest.mark.parametrize("bad", BAD, ids=lambda text: text[:60])
def test_a_broken_row_is_listed_with_its_line_and_skipped(tmp_path, bad):
    number, message = BAD[bad]
    path = write(tmp_path, json.dumps(LINE) + "\n" + bad)
    reading = catalog.read("manifest", path)
    assert [u.id for u in reading.utterances] == ["a"]
    (skipped,) = reading.skipped
    assert skipped.message.startswith(f"{path}:{number}: ")
    assert message in skipped.message
    with pytest.raises(UserError, match=rf"1 of 2 rows cannot be used.*\n.*corpus\.jsonl:{number}: "):
        catalog.read("manifest", path, max_skipped=0)


@pytest.mark.parametrize(("broken", "raises"), [(1, False), (5, False), (6, True)])
def test_more_than_five_percent_broken_rows_raise_with_reasons(tmp_path, broken, raises):
    good = [json.dumps({**LINE, "id": f"u{i}"}) for i in range(100 - broken)]
    path = write(tmp_path, "\n".join(["nonsense", *good, *['{"text": "x"}'] * (broken - 1)]))
    if raises:
        with pytest.raises(
            UserError, match=r"6 of 100 rows.* at most 5%(.|\n)*6  malformed row, the first: .*jsonl:1: not"
        ):
            manifest.read(path)
        assert len(catalog.read("manifest", path, max_skipped=0.06).utterances) == 94
    else:
        assert len(manifest.read(path)) == 100 - broken


def test_numeric_ids_and_speakers_become_text(tmp_path):
    line = json.dumps({**LINE, "speaker": 12, "id": 7, "text": 3, "duration": "3.0 s"})
    (utterance,) = manifest.read(write(tmp_path, line))
    assert (utterance.speaker, utterance.id, utterance.text) == ("12", "7", "3")
    assert utterance.end is None


PIECES = [
    ({"offset": 4.0, "duration": 3.0}, 4.0, 7.0, "a-0004000"),
    ({"offset": "4", "duration": "3"}, 4.0, 7.0, "a-0004000"),
    ({"start": 1.25, "end": 2}, 1.25, 2.0, "a-0001250"),
    ({"start": 1, "duration": 2}, 1.0, 3.0, "a-0001000"),
    ({"offset": 0.0, "duration": 4}, 0.0, 4.0, "a-0000000"),
    ({"offset": 5}, 5.0, None, "a-0005000"),
    ({"end": 2.5}, 0.0, 2.5, "a-0000000"),
    ({"duration": 4.0}, 0.0, None, "a"),
    ({"offset": None, "duration": 4.0}, 0.0, None, "a"),
]


@pytest.mark.parametrize(("fields", "start", "end", "id"), PIECES)
def test_pieces_of_recordings(tmp_path, fields, start, end, id):
    (utterance,) = manifest.read(write(tmp_path, json.dumps({**LINE, **fields})))
    assert (utterance.start, utterance.end, utterance.id) == (start, end, id)


def test_the_first_piece_may_lack_its_offset(tmp_path):
    rows = [
        {**LINE, "duration": 4},
        {**LINE, "offset": 4, "duration": 2},
        {**LINE, "audio_filepath": "b.wav", "duration": 9},
    ]
    found = manifest.read(write(tmp_path, "\n".join(map(json.dumps, rows))))
    assert [(u.id, u.start, u.end) for u in found] == [
        ("a-0000000", 0.0, 4.0), ("a-0004000", 4.0, 6.0), ("b", 0.0, None)
    ]  # fmt: skip


def test_equal_stems_get_their_folders(tmp_path):
    rows = [{**LINE, "audio_filepath": name} for name in ("one/1.wav", "two/1.wav", "two/2.wav")]
    found = manifest.read(write(tmp_path, "\n".join(map(json.dumps, rows))))
    assert [u.id for u in found] == ["one/1", "two/1", "2"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", 'wav_filename,wav_filesize,transcript\nsub/a.wav,12,"Hallo, Welt!"\nb.wav,3,"no end\nc.wav\n'),
        ("m.tsv", 'client_id\tpath\tsentence\n\tsub/a.wav\tHallo, Welt!\n\tb.wav\t"no end\nc.wav\n'),
        ("m.csv", "text;audio;speaker\nHallo, Welt!;sub/a.wav;\nno end;b.wav;\nc.wav\n"),
        ("m.jsonl", '\ufefffile_name,transcription\r\nsub/a.wav,"Hallo, Welt!"\r\nb.wav,no end\r\nc.wav\r\n'),
    ],
)
def test_tables_with_a_header(tmp_path, name, content):
    path = write(tmp_path, content, name)
    reading = manifest.reading(path)
    assert [(u.id, str(u.audio.relative_to(tmp_path)), u.text.strip('"')) for u in reading.utterances] == [
        ("a", "sub/a.wav", "Hallo, Welt!"),
        ("b", "b.wav", "no end"),
    ]
    assert [row.message.partition("fields")[0] for row in reading.skipped] == [f"{path}:4: 1 "]


def test_split_synonyms(tmp_path):
    names = ["training", "valid", "validation", "val", "test-clean", "eval2000", "Development", None]
    rows = [{**LINE, "id": str(i), "split": name} for i, name in enumerate(names)]
    found = [u.split for u in manifest.read(write(tmp_path, "\n".join(map(json.dumps, rows))))]
    assert found == ["train", "dev", "dev", "dev", "test", "test", "dev", ""]


def test_paths_work_in_a_non_utf_8_locale(tmp_path):
    soundfile.write(tmp_path / "März→.wav", np.zeros(16000), 16000)
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "März→.wav", "text": "a"}\n', encoding="utf-8")
    code = (
        "import sys; from w2l_jax import audio; from w2l_jax.corpora import manifest\n"
        "(u,) = manifest.read(sys.argv[1])\n"
        "print(sys.getfilesystemencoding(), ascii(u.id), len(audio.load(u.audio)))"
    )
    env = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code, tmp_path / "m.jsonl"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "ascii 'M\\xe4rz\\u2192' 16000\n"


def test_decomposed_unicode_paths_are_found(tmp_path):
    (tmp_path / "scho\u0308n.wav").write_bytes(b"")
    (utterance,) = manifest.read(write(tmp_path, json.dumps({**LINE, "audio_filepath": "sch\u00f6n.wav"})))
    assert utterance.audio.is_file()


def test_bad_files(tmp_path):
    with pytest.raises(UserError, match="no such manifest"):
        manifest.read(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        manifest.read(tmp_path)
    for content in ("", "\n\n", "\ufeff"):
        with pytest.raises(UserError, match="holds no utterances"):
            manifest.read(write(tmp_path, content))
    latin = json.dumps({**LINE, "text": "schön"}, ensure_ascii=False).encode("latin1")
    with pytest.raises(UserError, match=r"corpus\.jsonl:2: not UTF-8; convert it, e\.g\. `iconv -f latin1 "):
        manifest.read(write(tmp_path, b"\n" + latin))
    with pytest.raises(UserError, match=r"corpus\.jsonl:1: not UTF-8; convert it, e\.g\. `iconv -f utf-16 "):
        manifest.read(write(tmp_path, json.dumps(LINE).encode("utf-16")))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_arbitrary_content_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"any\.jsonl"):
        manifest.read(path)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=9), st.text()), min_size=1, unique_by=lambda pair: pair[0]))
def test_round_trip(tmp_path_factory, pairs):
    """Any id and text (line separators of every kind, quotes, emoji) is preserved, escaped or not."""
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    for ascii_only in (True, False):
        lines = [json.dumps({**LINE, "id": i, "text": t}, ensure_ascii=ascii_only) for i, t in pairs]
        path.write_text("\n".join(lines), "utf-8")
        assert [(u.id, u.text) for u in manifest.read(path)] == pairs


def test_the_catalog_reads_manifests(tmp_path):
    path = write(tmp_path, json.dumps(LINE))
    assert catalog.read("manifest", path) == Reading(tuple(manifest.read(path)))


def test_a_table_without_required_columns_names_its_columns(tmp_path):
    (tmp_path / "meta.tsv").write_text("Datei\tGesagt\na.wav\thallo\n")
    with pytest.raises(UserError, match=r"no column audio_filepath \(or .*text \(or .*columns are Datei, Gesagt"):
        manifest.read(tmp_path / "meta.tsv")
