import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax.corpora import Reading, Utterance, catalog, manifest
from w2l_jax.errors import UserError

LINE = {"audio_filepath": "sub/a.wav", "text": "Hallo, Welt!"}


def write(tmp_path, content, name="corpus.jsonl"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_reads_every_field(tmp_path):
    line = {**LINE, "id": "x1", "duration": 1.5, "speaker": "anna", "lang": "de", "split": "dev", "source": "s"}
    (utterance,) = manifest.read(write(tmp_path, json.dumps({**line, "offset": 3})))
    assert utterance == Utterance("x1", tmp_path / "sub/a.wav", "Hallo, Welt!", "anna", "de", "dev", "s")


def test_defaults(tmp_path):
    """The id is the file's stem, an unknown speaker "", the source the manifest's stem; null means not given."""
    line = {**LINE, "audio_filepath": "/abs/b.c.flac", "speaker": None, "source": None}
    (utterance,) = manifest.read(write(tmp_path, json.dumps(line)))
    assert str(utterance.audio) == "/abs/b.c.flac"
    assert (utterance.id, utterance.speaker, utterance.source, utterance.split) == ("b.c", "", "corpus", "")


def test_byte_order_mark_blank_lines_and_carriage_returns(tmp_path):
    content = "\ufeff\r\n" + json.dumps(LINE) + "\r\n\n   \n" + json.dumps({**LINE, "id": "b"}, ensure_ascii=False)
    assert [u.id for u in manifest.read(write(tmp_path, content))] == ["a", "b"]


BAD = {
    '{"text": "x"}': (2, "'audio_filepath' is missing"),
    '{"audio_filepath": "b.wav"}': (2, "'text' is missing"),
    '{"audio_filepath": "b.wav", "text": null}': (2, "'text' must be a string, not null"),
    '{"audio_filepath": "b.wav", "text": 3}': (2, "'text' must be a string, not 3"),
    '{"audio_filepath": "", "text": "x"}': (2, "'audio_filepath' is empty"),
    '{"audio_filepath": "b.wav", "text": "x", "duration": "long"}': (2, "'duration' must be a number"),
    '{"audio_filepath": "b.wav", "text": "x", "duration": true}': (2, "'duration' must be a number"),
    '{"audio_filepath": "b.wav", "text": "x", "speaker": 7}': (2, "'speaker' must be a string, not 7"),
    '{"audio_filepath": "b.wav", "text": "\\ud800"}': (2, "lone surrogate"),
    '{"audio_filepath": "b.wav", "text": "x"': (2, "not valid JSON"),
    "b.wav|hello": (2, "not valid JSON"),
    "[" * 100_000: (2, "not valid JSON"),
    '["b.wav", "x"]': (2, "a JSON object is wanted"),
    '\n{"audio_filepath": "other/a.flac", "text": "x"}': (3, "already that of line 1"),
}


@pytest.mark.parametrize("bad", BAD, ids=lambda text: text[:40])
def test_bad_lines_are_named(tmp_path, bad):
    number, message = BAD[bad]
    with pytest.raises(UserError, match=rf"corpus\.jsonl:{number}: ") as caught:
        manifest.read(write(tmp_path, json.dumps(LINE) + "\n" + bad))
    assert message in str(caught.value)


def test_duplicate_ids_name_the_remedy(tmp_path):
    line = json.dumps(LINE)
    with pytest.raises(UserError, match=r"line 1; remove one of the two lines, or give them different \"id\" fields"):
        manifest.read(write(tmp_path, line + "\n" + line))


def test_bad_files(tmp_path):
    with pytest.raises(UserError, match="no such manifest"):
        manifest.read(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        manifest.read(tmp_path)
    for content in ("", "\n\n", "\ufeff"):
        with pytest.raises(UserError, match="holds no utterances"):
            manifest.read(write(tmp_path, content))
    latin = json.dumps({**LINE, "text": "schön"}, ensure_ascii=False).encode("latin1")
    with pytest.raises(UserError, match=r"corpus\.jsonl:2: not UTF-8; convert it, e\.g\. `iconv"):
        manifest.read(write(tmp_path, b"\n" + latin))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_content_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"any\.jsonl"):
        manifest.read(path)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=9), st.text()), min_size=1, unique_by=lambda pair: pair[0]))
def test_round_trip(tmp_path_factory, pairs):
    """Any id and text (line separators of every kind, quotes, emoji) survives, escaped or not."""
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    for ascii_only in (True, False):
        lines = [json.dumps({**LINE, "id": i, "text": t}, ensure_ascii=ascii_only) for i, t in pairs]
        path.write_text("\n".join(lines), "utf-8")
        assert [(u.id, u.text) for u in manifest.read(path)] == pairs


def test_the_catalog_reads_manifests(tmp_path):
    path = write(tmp_path, json.dumps(LINE))
    assert catalog.read("manifest", path) == Reading(tuple(manifest.read(path)))
