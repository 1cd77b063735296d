from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deliveries import catalog, commonvoice
from tests.launch.deliveries.deliveries import damages, listed, read_damaged, record, write
from w2l_jax.corpora import Utterance
from w2l_jax.errors import UserError

COLUMNS = (
    "client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale segment"
)
HEADER = COLUMNS.replace(" ", "\t")
ANNA, BODO, CARL, DORA = (letter * 128 for letter in "abcd")


def row(client: str, clip: str, sentence: str, locale: str = "de") -> str:
    return f"{client}\t{clip}\t5f3c\t{sentence}\t\t2\t0\t\t\t\t\t{locale}\t"


TABLES = {
    "train": [
        row(ANNA, "common_voice_de_1.mp3", "Guten Morgen, Anna!"),
        row(ANNA, "common_voice_de_2.mp3", '"Zitat" und \\ „mehr“'),
        row(ANNA, "common_voice_de_3.mp3", ""),
        row(BODO, "common_voice_de_4.mp3", "Ohne Aufnahme"),
    ],
    "dev": [row(CARL, "common_voice_de_5.mp3", "Straße\u2028neu", "de-AT")],
    "test": [row(DORA, "common_voice_de_6.mp3", "Öl")],
    "validated": [
        row(ANNA, "common_voice_de_1.mp3", "Guten Morgen, Anna!"),
        row(CARL, "common_voice_de_5.mp3", "Straße\u2028neu", "de-AT"),
        row(ANNA, "common_voice_de_7.mp3", "Noch einmal"),
        row(DORA, "common_voice_de_8.mp3", "Aus dem Test"),
    ],
    "invalidated": [row(BODO, "common_voice_de_9.mp3", "Falsch gelesen")],
}
EXPECTED = [
    ("common_voice_de_1", "Guten Morgen, Anna!", ANNA, "de", "train"),
    ("common_voice_de_2", '"Zitat" und \\ „mehr“', ANNA, "de", "train"),
    ("common_voice_de_3", "", ANNA, "de", "train"),
    ("common_voice_de_5", "Straße\u2028neu", CARL, "de-AT", "dev"),
    ("common_voice_de_6", "Öl", DORA, "de", "test"),
]


def deliver(folder: Path) -> Path:
    root = folder / "cv-corpus-17.0-2024-03-15" / "de"
    for name, rows in TABLES.items():
        write(root / f"{name}.tsv", "\n".join([HEADER, *rows]) + "\n")
    # 2 was converted to another format, 4 is missing, 10 is in no table.
    clips = {1: "mp3", 2: "wav", 3: "mp3", 5: "mp3", 6: "mp3", 7: "mp3", 8: "mp3", 9: "mp3", 10: "mp3"}
    record(*(root / "clips" / f"common_voice_de_{number}.{ending}" for number, ending in clips.items()))
    return root


def essence(utterances):
    return [(u.id, u.text, u.speaker, u.language, u.split) for u in utterances]


def test_every_clip_is_used_or_listed(tmp_path):
    root = deliver(tmp_path)
    reading = catalog.read("commonvoice", tmp_path)
    assert essence(reading.utterances) == EXPECTED
    assert reading.utterances[0] == Utterance(
        "common_voice_de_1",
        root / "clips/common_voice_de_1.mp3",
        "Guten Morgen, Anna!",
        ANNA,
        "de",
        "train",
        "Common Voice",
    )
    assert reading.utterances[1].audio.name == "common_voice_de_2.wav"
    assert listed(reading) == {
        ("common_voice_de_4", "missing audio", "train.tsv"),
        ("common_voice_de_7", "in no split", "common_voice_de_7.mp3"),
        ("common_voice_de_8", "in no split", "common_voice_de_8.mp3"),
        ("common_voice_de_9", "in no table", "common_voice_de_9.mp3"),
        ("common_voice_de_10", "in no table", "common_voice_de_10.mp3"),
    }
    assert len(reading.skipped) == 5


def test_validated_clips_join_training_unless_their_speaker_is_held_out(tmp_path):
    reading = commonvoice.read(deliver(tmp_path), include_validated=True)
    more = ("common_voice_de_7", "Noch einmal", ANNA, "de", "train")
    assert essence(reading.utterances) == [*EXPECTED, more]
    assert ("common_voice_de_8", "speaker held out", "common_voice_de_8.mp3") in listed(reading)


def test_without_official_splits_they_are_left_open(tmp_path):
    root = deliver(tmp_path)
    for split in ("train", "dev", "test"):
        (root / f"{split}.tsv").unlink()
    splits = {u.id[-1]: u.split for u in commonvoice.read(root).utterances}
    assert splits == {"1": "", "5": "", "7": "", "8": ""}


def test_an_early_release(tmp_path):
    """Few columns, no locale, file names without suffix, carriage returns."""
    write(tmp_path / "validated.tsv", f"\ufeffclient_id\tpath\tsentence\r\n{ANNA}\tsample.1\tHello\r\n")
    record(tmp_path / "clips" / "sample.1.mp3")
    reading = commonvoice.read(tmp_path)
    assert essence(reading.utterances) == [("sample.1", "Hello", ANNA, "", "")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([HEADER.replace("sentence\t", "words\t")], r"train\.tsv:1: the header names no column 'sentence'"),
        ([HEADER, row(ANNA, "a.mp3", "x") + "\ty"], r"train\.tsv:2: 14 fields instead of the header's 13"),
        ([HEADER, "", row(ANNA, "a.mp3", "x"), "a\tb.mp3"], r"train\.tsv:4: 2 fields instead of the header's 13"),
        ([HEADER, row(ANNA, "../a.mp3", "x")], r"train\.tsv:2: the path '\.\./a\.mp3' is not the name of a file"),
        ([HEADER, row(ANNA, "", "x")], r"train\.tsv:2: the path '' is not"),
        (
            [HEADER, row(ANNA, "a.mp3", "x"), row(ANNA, "a.mp3", "x")],
            r"train\.tsv:3: the id 'a' is already that of .*train\.tsv:2;",
        ),
        (
            [HEADER, row(ANNA, "common_voice_de_6.mp3", "Öl")],
            r"test\.tsv:2: the id 'common_voice_de_6' is already that of .*train\.tsv:2;",
        ),
    ],
)
def test_bad_tables_are_named(tmp_path, rows, message):
    write(deliver(tmp_path) / "train.tsv", "\n".join(rows))
    with pytest.raises(UserError, match=message):
        commonvoice.read(tmp_path).check(tmp_path, max_skipped=0)


def test_bad_deliveries(tmp_path):
    with pytest.raises(UserError, match=r"holds none of dev\.tsv, test\.tsv, train\.tsv, validated\.tsv; give"):
        commonvoice.read(tmp_path)
    root = deliver(tmp_path)
    write(root.parent / "fr" / "test.tsv", HEADER)
    with pytest.raises(UserError, match=r"several languages or releases; give one of .*/de, .*/fr"):
        commonvoice.read(tmp_path)
    write(root / "train.tsv", HEADER.encode() + b"\n\n\xe4")
    with pytest.raises(UserError, match=r"train\.tsv:3: not UTF-8"):
        commonvoice.read(root).check(root, max_skipped=0)


SENTENCES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), max_size=20)


@settings(max_examples=30)
@given(st.lists(st.tuples(SENTENCES, st.sampled_from([ANNA, BODO]), st.sampled_from(["train", "dev", "test"]))))
def test_any_sentence_survives(tmp_path_factory, items):
    root = tmp_path_factory.mktemp("property")
    rows = {"train": [HEADER, row(CARL, "first.mp3", "x")], "dev": [HEADER], "test": [HEADER]}
    write(root / "clips" / "first.mp3", b"")
    for number, (sentence, speaker, split) in enumerate(items):
        rows[split].append(row(speaker, f"{number}.mp3", sentence))
        write(root / "clips" / f"{number}.mp3", b"")
    for split, lines in rows.items():
        write(root / f"{split}.tsv", "\n".join(lines))
    found = {u.id: (u.text, u.speaker, u.split) for u in commonvoice.read(root).utterances}
    assert found.pop("first") == ("x", CARL, "train")
    assert found == {str(number): item for number, item in enumerate(items)}


@pytest.fixture(scope="module")
def delivery(tmp_path_factory):
    return deliver(tmp_path_factory.mktemp("commonvoice"))


def fuzz(delivery, changes, include_validated):
    read_damaged(sorted(delivery.glob("*.tsv")), changes, lambda: commonvoice.read(delivery, include_validated))


@settings(max_examples=50)
@given(damages, st.booleans())
def test_damaged_tables_are_read_or_refused(delivery, changes, include_validated):
    fuzz(delivery, changes, include_validated)


@pytest.mark.slow
@settings(max_examples=2000)
@given(damages, st.booleans())
def test_many_damaged_tables_are_read_or_refused(delivery, changes, include_validated):
    fuzz(delivery, changes, include_validated)
