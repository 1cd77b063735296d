from pathlib import Path

import pytest
from hypothesis import given, settings

from deliveries import catalog, ljspeech
from tests.launch.deliveries.deliveries import damages, listed, read_damaged, record, write
from w2l_jax.corpora import Utterance
from w2l_jax.errors import UserError

METADATA = (
    'LJ001-0001|Printing, in the "only sense|Printing, in the "only sense\n'
    "LJ001-0002|in 1465.|in fourteen sixty-five.\r\n"
    "\n"
    "LJ001.0003|Two columns\n"
    "LJ001-0004.wav|With ending|\n"
    "LJ001-0005|No recording|No recording\n"
    "LJ001-0006||"
)
EXPECTED = [
    ("LJ001-0001", 'Printing, in the "only sense'),
    ("LJ001-0002", "in fourteen sixty-five."),
    ("LJ001.0003", "Two columns"),
    ("LJ001-0004", "With ending"),
    ("LJ001-0006", ""),
]


def deliver(folder: Path) -> Path:
    root = folder / "LJSpeech-1.1"
    write(root / "metadata.csv", METADATA)
    write(root / "README", "-----\n")
    record(*(root / "wavs" / f"{id}.wav" for id, _ in EXPECTED), root / "wavs" / "LJ001-0007.wav")
    return root


def test_every_file_is_used_or_listed(tmp_path):
    root = deliver(tmp_path)
    reading = catalog.read("ljspeech", root)
    assert [(u.id, u.text) for u in reading.utterances] == EXPECTED
    audio = root / "wavs/LJ001-0002.wav"
    assert reading.utterances[1] == Utterance("LJ001-0002", audio, "in fourteen sixty-five.", source="LJSpeech-1.1")
    assert listed(reading) == {
        ("LJ001-0005", "missing audio", "metadata.csv"),
        ("LJ001-0007", "no transcript", "LJ001-0007.wav"),
    }
    assert len(reading.notes) == 1
    assert "names no speakers" in reading.notes[0]


def test_speaker_and_language_as_options(tmp_path):
    reading = ljspeech.read(deliver(tmp_path), language="en", speaker="LJ")
    assert {(u.speaker, u.language, u.source) for u in reading.utterances} == {("LJ", "en", "LJSpeech-1.1")}
    assert not reading.notes


def test_many_books_as_in_m_ailabs(tmp_path):
    for book in ("pride", "emma"):
        write(tmp_path / "by_book" / "anna" / book / "metadata.csv", f"{book}_01_f000001|1 {book}|one {book}")
        record(tmp_path / "by_book" / "anna" / book / "wavs" / f"{book}_01_f000001.wav")
    reading = ljspeech.read(tmp_path)
    assert [(u.id, u.text) for u in reading.utterances] == [
        ("emma_01_f000001", "one emma"),
        ("pride_01_f000001", "one pride"),
    ]
    assert not reading.skipped


TEXTS = ["Das ist gut.", "Wir gehen jetzt.", "Kommst du mit?", "Ja gern."]
SAME = [f"{text} 3|{text} drei" for text in TEXTS]


@pytest.mark.parametrize(
    ("rows", "texts", "speakers"),
    [
        ([f"{text}|{len(text)}" for text in TEXTS], TEXTS, [""] * 4),  # as mimic-recording-studio writes
        ([f"{text}|{len(text) / 9:.2f}" for text in TEXTS], TEXTS, [""] * 4),
        ([f"s{i % 2}|{text}" for i, text in enumerate(TEXTS)], TEXTS, ["s0", "s1", "s0", "s1"]),  # as Piper expects it
        ([f"{text}|{'happy' if i % 2 else 'sad'}" for i, text in enumerate(TEXTS)], TEXTS, [""] * 4),
        (SAME, [f"{text} drei" for text in TEXTS], [""] * 4),
        ([*SAME[:3], "Ja gern."], [*(f"{text} drei" for text in TEXTS[:3]), "Ja gern."], [""] * 4),
    ],
)
def test_the_third_column_is_inferred_from_its_content(tmp_path, rows, texts, speakers):
    write(tmp_path / "metadata.csv", "".join(f"{i}|{row}\n" for i, row in enumerate(rows)))
    record(*(tmp_path / "wavs" / f"{i}.wav" for i in range(4)))
    found = ljspeech.read(tmp_path).utterances
    assert [u.text for u in found] == texts
    assert [u.speaker for u in found] == speakers


@pytest.mark.parametrize(
    ("columns", "texts"), [("id,text,-", ["12", "13"]), ("id,text,normalized", ["zwölf", "dreizehn"])]
)
def test_ambiguous_columns_are_refused_unless_named(tmp_path, columns, texts):
    write(tmp_path / "metadata.csv", "0|12|zwölf\n1|13|dreizehn\n")
    record(*(tmp_path / "wavs" / f"{i}.wav" for i in range(2)))
    with pytest.raises(UserError, match=r"'zwölf' is neither the text '12' again .*columns=id,text,normalized or"):
        ljspeech.read(tmp_path)
    assert [u.text for u in ljspeech.read(tmp_path, columns=columns).utterances] == texts
    with pytest.raises(UserError, match=r"columns='text,id': give names of .*, id first"):
        ljspeech.read(tmp_path, columns="text,id")


def test_equal_names_in_two_books(tmp_path):
    for book in ("emma", "pride"):
        write(tmp_path / book / "metadata.csv", f"1|{book}")
        record(tmp_path / book / "wavs" / "1.wav")
    found = ljspeech.read(tmp_path).utterances
    assert [(u.id, u.text, u.audio.parts[-3]) for u in found] == [
        ("emma/1", "emma", "emma"),
        ("pride/1", "pride", "pride"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("LJ001-0001|x\nno bar\n", r"metadata\.csv:2: not a file name and 1 columns"),
        ("LJ001-0001|x|y|z", r"metadata\.csv: more than three columns; name them, such as columns="),
        ("|x|x", r"metadata\.csv:1: not a file name"),
        ("../LJ001-0001|x|x", r"metadata\.csv:1: not a file name"),
        ("LJ001-0001|x\n\nLJ001-0001|x", r"csv:3: the id 'LJ001-0001' is already that of .*metadata\.csv:1;"),
        (b"LJ001-0001|\xe4", r"metadata\.csv:1: not UTF-8"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    write(deliver(tmp_path) / "metadata.csv", content)
    with pytest.raises(UserError, match=message):
        ljspeech.read(tmp_path).check(tmp_path, max_skipped=0)


def test_bad_deliveries(tmp_path):
    with pytest.raises(UserError, match=r"holds no metadata\.csv; give the folder"):
        ljspeech.read(tmp_path)
    write(tmp_path / "metadata.csv", "")
    with pytest.raises(UserError, match="no utterance can be used"):
        ljspeech.read(tmp_path)


@pytest.fixture(scope="module")
def delivery(tmp_path_factory):
    return deliver(tmp_path_factory.mktemp("ljspeech"))


def fuzz(delivery, changes):
    read_damaged([delivery / "metadata.csv"], changes, lambda: ljspeech.read(delivery))


@settings(max_examples=50)
@given(damages)
def test_damaged_metadata_is_read_or_refused(delivery, changes):
    fuzz(delivery, changes)


@pytest.mark.slow
@settings(max_examples=2000)
@given(damages)
def test_much_damaged_metadata_is_read_or_refused(delivery, changes):
    fuzz(delivery, changes)
