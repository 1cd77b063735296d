import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deliveries import catalog
from deliveries.bas.annotation import Annotation, Word
from tests.launch.deliveries.bas.deliveries import TONE, annot, audio, file, mutations, par
from tests.launch.deliveries.bas.writers import write_partitur
from w2l_jax.audio import load
from w2l_jax.corpora import Skipped, Utterance
from w2l_jax.errors import UserError

NAMES = ["alc", "hempel", "pd1", "pd2", "rvg-j", "sc10", "vm1", "vm2", "ziptel"]


def as_tuples(reading, root: Path):
    """Utterances as (id, text, speaker, split, audio), skipped files as (path, reason), both in small."""
    used = [(u.id, u.text, u.speaker, u.split, str(u.audio.relative_to(root))) for u in reading.utterances]
    return used, [(str(s.path.relative_to(root)), s.reason) for s in reading.skipped]


def timed(*words, **fields):
    spoken = tuple(Word(label, (start, end)) for label, start, end in words)
    return write_partitur(Annotation(spoken, rate=16000, **fields))


# Common to all


def test_an_utterance_has_every_field(tmp_path):
    audio(tmp_path / "a/1003/x1.wav")
    file(tmp_path / "b/x1.par", timed(('sch"on', 1600, 3200), ("<usb>", 3200, 3300), ("Wetter", 8000, 16000)))
    reading = catalog.read("hempel", tmp_path)
    assert reading.utterances == (
        Utterance(
            id="x1",
            audio=tmp_path / "a/1003/x1.wav",
            text="schön Wetter",
            speaker="1003",
            language="german",
            split="",
            source="HEMPEL",
            words=(("schön", 0.1, 0.2), ("Wetter", 0.5, 1.0)),
        ),
    )
    assert reading.skipped == reading.notes == ()


@pytest.mark.parametrize(
    ("name", "source", "split"),
    [
        ("alc", "ALC", ""),
        ("hempel", "HEMPEL", ""),
        ("pd1", "PD1", ""),
        ("pd2", "PD2", ""),
        ("rvg-j", "RVG-J", ""),
        ("sc10", "SC10", "test"),
        ("vm1", "VM1", "train"),
        ("vm2", "VM2", "train"),
        ("ziptel", "ZIPTEL", ""),
    ],
)
def test_names_and_splits(tmp_path, name, source, split):
    audio(tmp_path / "s/g1.wav")
    file(tmp_path / "s/g1.par", par("ja"))
    (utterance,) = catalog.read(name, tmp_path).utterances
    assert (utterance.source, utterance.split, utterance.language) == (source, split, "german")
    assert catalog.CORPORA[name].language == "german"


def test_pd1_with_every_oddity(tmp_path):
    """Depths, capitals, three encodings, both annotations, hidden, unreadable and missing files, empty texts."""
    audio(tmp_path / "v3/data/aaj/aaj01.wav")
    file(tmp_path / "v3/data/aaj/aaj01.par", par("Heute ist schönes Frühlingswetter"))
    audio(tmp_path / "v3/data/aaj/AAJ02.WAV")
    file(tmp_path / "v3/par/aaj02.par", par("Äpfel für Grüße"), "iso-8859-1")
    audio(tmp_path / "v3/deeper/one/more/bbk/bbk01.flac")
    file(tmp_path / "v3/par/BBK01.PAR", par('"Apfel f"ur Gr"u"se'))
    audio(tmp_path / "v3/data/bbk/bbk02.wav")
    file(tmp_path / "v3/data/bbk/bbk02_annot.json", annot("Die Sonne lacht"))
    file(tmp_path / "v3/data/bbk/bbk02.par", par("Die Sonne flacht"))
    audio(tmp_path / "emu/bbk_ses/bbk03_bndl/bbk03.wav")
    file(tmp_path / "emu/bbk_ses/bbk03_bndl/bbk03_annot.json", annot("$A Zug~ *fährt / <%> ab"))
    audio(tmp_path / "v3/bbk/bbk04.wav")
    file(tmp_path / "v3/bbk/bbk04.par", par("<usb> <hm> ‹äh>"))
    audio(tmp_path / "v3/bbk/bbk05.wav")
    file(tmp_path / "v3/bbk/bbk05.par", "ORT: zwei\n")
    audio(tmp_path / "v3/bbk/bbk06.wav")
    file(tmp_path / "v3/bbk/bbk07.par", par("ohne Aufnahme"))
    file(tmp_path / "v3/bbk/bbk07_annot.json", annot("ohne Aufnahme"))
    audio(tmp_path / "v3/bbk/bbk08.wav")
    file(tmp_path / "v3/bbk/bbk08.par", "")
    file(tmp_path / "v3/bbk/._bbk01.wav", b"\0")
    file(tmp_path / "v3/bbk/readme.txt", "not listed: neither audio nor annotation")
    reading = catalog.read("pd1", tmp_path, max_skipped=0.5)
    assert as_tuples(reading, tmp_path) == (
        [
            ("aaj01", "Heute ist schönes Frühlingswetter", "aaj", "", "v3/data/aaj/aaj01.wav"),
            ("AAJ02", "Äpfel für Grüße", "aaj", "", "v3/data/aaj/AAJ02.WAV"),
            ("bbk01", "Äpfel für Grüße", "bbk", "", "v3/deeper/one/more/bbk/bbk01.flac"),
            ("bbk02", "Die Sonne lacht", "bbk", "", "v3/data/bbk/bbk02.wav"),
            ("bbk03", "A Zug fährt ab", "bbk", "", "emu/bbk_ses/bbk03_bndl/bbk03.wav"),
        ],
        [
            ("v3/bbk/._bbk01.wav", "hidden file"),
            ("v3/bbk/bbk04.wav", "empty text"),
            ("v3/bbk/bbk05.wav", "unreadable annotation"),
            ("v3/bbk/bbk06.wav", "no transcript"),
            ("v3/bbk/bbk07_annot.json", "missing audio"),
            ("v3/bbk/bbk07.par", "missing audio"),
            ("v3/bbk/bbk08.wav", "empty text"),
        ],
    )
    folder = tmp_path / "v3/data/bbk"
    assert reading.notes == (
        f"{folder}/bbk02_annot.json: 'Die Sonne lacht' is used, though {folder}/bbk02.par has 'Die Sonne flacht'",
    )
    assert reading.skipped[2].message.startswith(f"{tmp_path}/v3/bbk/bbk05.par:1: 'ORT: zwei' is not ORT: <link>")
    assert [row.id for row in reading.skipped[1:4]] == ["bbk04", "bbk05", "bbk06"]


def test_the_better_of_two_annotations_is_used(tmp_path):
    """JSON is preferred; if it lacks words or is unreadable, the Partitur file is used; times may come from either."""
    times = (("ja", 0.0, 0.1),)
    for name, content in {
        "a1": annot("ja"),
        "a2": annot(""),
        "a3": "{",
        "a4": annot("JA"),
        "a5": annot("nein"),
    }.items():
        audio(tmp_path / f"s/{name}.wav")
        file(tmp_path / f"s/{name}_annot.json", content)
        file(tmp_path / f"s/{name}.par", timed(("ja", 0, 1600)))
    reading = catalog.read("pd2", tmp_path)
    assert [(u.text, u.words) for u in reading.utterances] == [
        ("ja", times),
        ("ja", times),
        ("ja", times),
        ("ja", times),
        ("nein", ()),
    ]
    at = f"{tmp_path}/s"
    assert reading.notes[0] == f"{at}/a2.par: 'ja' is used, though {at}/a2_annot.json has ''"
    assert reading.notes[1].startswith(f"{at}/a3_annot.json: not valid JSON")
    assert reading.notes[2] == f"{at}/a5_annot.json: 'nein' is used, though {at}/a5.par has 'ja'"
    assert len(reading.notes) == 3


def test_bad_times_are_a_note(tmp_path):
    audio(tmp_path / "s/a.wav")
    file(tmp_path / "s/a.par", "SAM: 16000\nORT: 0 ja\nMAU: x\n")
    reading = catalog.read("pd1", tmp_path)
    assert [(u.text, u.words) for u in reading.utterances] == [("ja", ())]
    assert reading.notes[0].startswith(f"word times ignored: {tmp_path}/s/a.par:3: 'MAU: x' is not MAU: <start>")


# Special cases


def test_alc_twins_and_speakers(tmp_path):
    ses = tmp_path / "BLOCK10/SES1006"
    for name in ("0061006001_h_00", "0061006001_m_00", "0061006002_m_00", "0072006001_h_00", "0061006003_m_00"):
        audio(ses / f"{name}.wav")
    file(ses / "0061006001_h_00.par", timed(("links", 0, 1600), ("abbiegen", 1600, 4000)))
    file(ses / "0061006001_h_00_annot.json", annot("links einbiegen"))
    file(ses / "0061006001_m_00_annot.json", annot(""))
    file(ses / "0072006001_h_00.par", timed(("eins", 0, 1600)))
    file(ses / "0061006003_m_00.par", par("its own text does not count"))
    file(ses / "0061006004_h_00.par", par("recording is missing"))
    reading = catalog.read("alc", tmp_path)
    at = "BLOCK10/SES1006"
    assert as_tuples(reading, tmp_path) == (
        [
            ("0061006001_h_00", "links einbiegen", "006", "", f"{at}/0061006001_h_00.wav"),
            ("0061006001_m_00", "links einbiegen", "006", "", f"{at}/0061006001_m_00.wav"),
            ("0072006001_h_00", "eins", "007", "", f"{at}/0072006001_h_00.wav"),
        ],
        [
            (f"{at}/0061006002_m_00.wav", "no twin"),
            (f"{at}/0061006003_m_00.wav", "no twin"),
            (f"{at}/0061006004_h_00.par", "missing audio"),
        ],
    )
    assert len(reading.notes) == 1  # the disagreement is reported once, though two recordings have the text
    assert reading.skipped[0].message.endswith("takes the text of 0061006002_h_00, since it has no annotation")


def test_alc_twins_have_the_times_too(tmp_path):
    for name in ("0061006001_h_00", "0061006001_m_00"):
        audio(tmp_path / f"{name}.wav")
    file(tmp_path / "0061006001_h_00.par", timed(("eins", 0, 1600)))
    assert [u.words for u in catalog.read("alc", tmp_path).utterances] == [(("eins", 0.0, 0.1),)] * 2


def test_sc10_excludes_one_and_has_umlauts_on_both_sides(tmp_path):
    for name, text in {"fiw1e020": "ein Fehler", "awed5070": 'scho"ne IC-Fahrt', "awed5071": 'f"unf Ba"ume'}.items():
        audio(tmp_path / f"awe/{name}.wav")
        file(tmp_path / f"awe/{name}.par", par(text))
    assert as_tuples(catalog.read("sc10", tmp_path), tmp_path) == (
        [
            ("awed5070", "schöne IC-Fahrt", "awe", "test", "awe/awed5070.wav"),
            ("awed5071", "fünf Bäume", "awe", "test", "awe/awed5071.wav"),
        ],
        [("awe/fiw1e020.wav", "known bad")],
    )


def test_vm1_keeps_german_turns_in_sphere_files(tmp_path):
    for letter in "KLMNGZJW" + "QRSY":
        audio(tmp_path / f"data/{letter}001A/{letter}001A_000_AAA.NIS")
    for letter in "klmngzjw" + "qrsy":
        file(tmp_path / f"par/{letter}001a/{letter}001a_000_aaa.par", par('<"ahm> $A ja', speaker=f"AA{letter}"))
    file(tmp_path / "par/y001a/y001a_001_aaa.par", par("japanese without audio"))
    reading = catalog.read("vm1", tmp_path)
    assert as_tuples(reading, tmp_path) == (
        [
            (f"{c}001A_000_AAA", "A ja", f"AA{c.lower()}", "train", f"data/{c}001A/{c}001A_000_AAA.NIS")
            for c in "GJKLMNWZ"
        ],
        [(f"data/{c}001A/{c}001A_000_AAA.NIS", "not German") for c in "QRSY"]
        + [("par/y001a/y001a_001_aaa.par", "not German")],
    )
    assert load(reading.utterances[0].audio).shape == TONE.shape


def test_vm2_multilingual_dialogues(tmp_path):
    ids = ["g083ac1_001_BEV", "G084ac1_001_BEV", "m011n1_004_ABC_GER", "M011N1_005_ABC_ger", "m011n1_006_DEF_ENG"]
    ids += ["m012n1_GER_007", "e013ch1_012_MPU_ENG", "e013ch1_013_MPU_GER", "j001", "n002_GER"]
    for name in ids:
        audio(tmp_path / f"{name[:4]}/{name}.nis")
        file(tmp_path / f"{name[:4]}/{name}_annot.json", annot("guten Tag"))
    reading = catalog.read("vm2", tmp_path)
    assert {u.id for u in reading.utterances} == set(ids[:4])
    assert {u.speaker for u in reading.utterances} == {"g083", "G084", "m011", "M011"}
    assert {(s.id, s.reason) for s in reading.skipped} == {(name.lower(), "not German") for name in ids[4:]}


def test_ziptel_takes_cut_words_from_tr2(tmp_path):
    deliveries = {
        "z1": ("<usb> Straße fünf", ["~straßer", "Straße", "fünf"]),
        "z2": ("Bonn acht <usb>", ["Bonn", "acht", '<Ger"ausch>neu~']),
        "z3": ("Bonn acht <usb>", ["Bonn", "acht", "neu~", "<#>"]),
        "z4": ("<usb> M\xfcnchen <usb>", ['<#>Ober"od~', 'M"unchen']),
        "z5": ("<usb>", ["<#>"]),
    }
    for name, (words, tr2) in deliveries.items():
        audio(tmp_path / f"1001/{name}.wav")
        file(tmp_path / f"1001/{name}.par", par(words, tr2=tuple(tr2)))
    reading = catalog.read("ziptel", tmp_path)
    assert [(u.id, u.text) for u in reading.utterances] == [
        ("z1", "straßer Straße fünf"),
        ("z2", "Bonn acht neu"),
        ("z3", "Bonn acht"),
        ("z4", "Oberöd München"),
    ]
    assert [(s.id, s.reason) for s in reading.skipped] == [("z5", "empty text")]


def test_rvg_j_has_partitur_files_only(tmp_path):
    for name in ("F09S1MP_01", "F09S1MP_02"):
        audio(tmp_path / f"rvgj/F09S1MP/{name}.wav")
    file(tmp_path / "rvgj/F09S1MP/F09S1MP_01.par", "LBD:\nORT:\t1\tzehn\nORT: 0 zwei\n")
    file(tmp_path / "rvgj/F09S1MP/F09S1MP_02.par", par("timo hat \\xe4pfel"))
    assert as_tuples(catalog.read("rvg-j", tmp_path), tmp_path)[0] == [
        ("F09S1MP_01", "zwei zehn", "F09S1MP", "", "rvgj/F09S1MP/F09S1MP_01.wav"),
        ("F09S1MP_02", "timo hat äpfel", "F09S1MP", "", "rvgj/F09S1MP/F09S1MP_02.wav"),
    ]


# Deliveries that cannot be used


@pytest.mark.parametrize("second", ["b/X1.wav", "a/x1.nis", "b/x1.FLAC"])
def test_the_first_of_two_recordings_with_one_id_is_used(tmp_path, second):
    audio(tmp_path / "a/x1.wav"), audio(tmp_path / second)
    file(tmp_path / "a/x1.par", par("ja"))
    reading = catalog.read("pd1", tmp_path)
    first, other = sorted([tmp_path / "a/x1.wav", tmp_path / second])
    assert [u.audio for u in reading.utterances] == [first]
    message = f"{other}: the id 'x1' is already that of {first}; remove or rename one of the two files"
    assert reading.skipped == (Skipped(other, "duplicate id", message, "x1", broken=True),)
    with pytest.raises(UserError, match=r"1 of 2 rows cannot be used"):
        catalog.read("pd1", tmp_path, max_skipped=0)


@pytest.mark.parametrize("ending", [".par", "_annot.json"])
def test_the_first_of_two_annotations_with_one_id_is_used(tmp_path, ending):
    audio(tmp_path / "a/x1.wav")
    file(tmp_path / f"a/x1{ending}", annot("ja")), file(tmp_path / f"b/x1{ending}", annot("nein"))
    with pytest.raises(UserError, match=rf"b/x1{ending}: the id 'x1' is already that of .*a/x1{ending}"):
        catalog.read("pd1", tmp_path, max_skipped=0)


def test_nothing_to_read(tmp_path):
    with pytest.raises(UserError, match=r"none: no such folder"):
        catalog.read("pd1", tmp_path / "none")
    archive = file(tmp_path / "pd1.tgz", b"")
    with pytest.raises(UserError, match=r"pd1\.tgz: not a folder; unpack the delivery"):
        catalog.read("pd1", archive)
    message = r"holds no recordings of PD1 \(\.wav, \.flac, \.nis\) with \.par or _annot\.json files of the same names"
    with pytest.raises(UserError, match=message):
        catalog.read("pd1", tmp_path)
    audio(tmp_path / "a.wav"), audio(tmp_path / "b.wav"), file(tmp_path / "c.par", "")
    with pytest.raises(UserError, match=r"no utterance can be used \(2 × no transcript, 1 × missing audio\)"):
        catalog.read("pd1", tmp_path)


def test_a_name_that_is_not_utf_8_is_an_error(tmp_path):
    name = os.fsencode(tmp_path) + b"/sch\xf6n.wav"
    try:
        Path(os.fsdecode(name)).write_bytes(b"")
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    with pytest.raises(UserError, match=r"sch\\udcf6n\.wav': the name is not UTF-8"):
        catalog.read("pd1", tmp_path, max_skipped=0)


# Properties

IDS = ["g0061_h_00", "g0061_m_00", "g0062_m_00", "fiw1e020", "m1_x_GER", "m2_x_ENG", "K01_AAA", "q02"]
CONTENT = {
    ".wav": [b"no audio: readers do not look inside"],
    ".par": [par("ja").encode(), par("<usb>").encode(), b"ORT: x", b"\xff\n"],
    "_annot.json": [annot("ja").encode(), annot("nein").encode(), b"{", b"{}"],
}


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(IDS), st.sampled_from(sorted(CONTENT))),
        st.tuples(st.sampled_from(["", "a", "a/b", "c/d/e", ".hidden"]), st.integers(0, 3), st.booleans()),
        min_size=1,
    ),
    st.sampled_from(NAMES),
)
def test_every_file_is_used_or_listed(tmp_path_factory, delivery, name):
    root = tmp_path_factory.mktemp("delivery")
    files = []
    for (id, ending), (folder, which, capitals) in delivery.items():
        path = root / folder / ((id.upper() if capitals else id) + ending)
        files.append(
            (file(path, CONTENT[ending][which % len(CONTENT[ending])]), path.name.lower().removesuffix(ending))
        )
    with contextlib.suppress(UserError):  # if none can be used
        reading = catalog.read(name, root)
        used = [utterance.audio for utterance in reading.utterances]
        listed = [row.path for row in reading.skipped]
        assert len(used) == len(set(used)) and len(listed) == len(set(listed)) and not set(used) & set(listed)
        ids = {u.id.lower() for u in reading.utterances} | {row.id.lower() for row in reading.skipped}
        for path, id in files:
            if path.suffix == ".wav":
                assert path in used or path in listed
            assert path in listed or id in ids
        for utterance in reading.utterances:
            assert utterance.text and utterance.speaker and "\n" not in utterance.text
        for row in reading.skipped:
            about_the_annotation = row.reason in ("unreadable annotation", "empty text")
            assert about_the_annotation or str(row.path) in row.message


FUZZED = [
    timed(('sch"on', 0, 1600), ("<usb>", 1600, 3200), speaker="AAA", tr2=('sch"on', "Wet~")).encode(),
    "SAM: 16000\nORT: 0 grün\nMAS: 0 99 0 a\nMAU:\t100 9\t0,1 b\nORT: 1 <äh>\n".encode("latin-1"),
]
FUZZED_JSON = [
    annot("<usb> schön ja").encode(),
    b'{"sampleRate": 8000, "levels": [{"name": "w", "items": [{"id": 1, "labels": [{"name": "word", "value": "ja"},'
    b'{"name": "TR2", "value": "ja"}]}]}, {"name": "MAU", "type": "SEGMENT", "items": [{"id": 2, "sampleStart": 5,'
    b'"sampleDur": 6}]}], "links": [{"fromID": 1, "toID": 2}]}',
]


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "contents"), [(".par", FUZZED), ("_annot.json", FUZZED_JSON)])
def test_arbitrary_content_raises_only_user_errors(tmp_path, ending, contents):
    audio(tmp_path / "s/a1.wav")
    outcomes = set()

    @settings(max_examples=3000)
    @given(mutations(contents))
    def read(content):
        path = file(tmp_path / f"s/a1{ending}", content)
        try:
            (utterance,) = catalog.read("ziptel", tmp_path).utterances
            utterance.text.encode()
            outcomes.add("times" if utterance.words else "text")
        except UserError as error:
            outcomes.add("refused" if str(path) in str(error) else str(error))

    read()
    assert outcomes == {"times", "text", "refused"}


def test_skipped_rows_name_their_ids(tmp_path):
    audio(tmp_path / "s/a.wav"), audio(tmp_path / "s/B.wav")
    file(tmp_path / "s/a.par", par("ja"))
    message = f"{tmp_path}/s/B.wav: there is no b.par or b_annot.json"
    assert catalog.read("pd2", tmp_path).skipped == (Skipped(tmp_path / "s/B.wav", "no transcript", message, "B"),)
