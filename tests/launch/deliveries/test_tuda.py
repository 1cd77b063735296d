import contextlib
from pathlib import Path

import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from deliveries import catalog, tuda
from tests.launch.deliveries.bas.deliveries import TONE, audio, file, mutations
from w2l_jax.audio import AudioError, load
from w2l_jax.corpora import Utterance
from w2l_jax.errors import UserError

STAMP = "2014-03-17-13-03-33"
SIX = ["Kinect-Beam", "Kinect-RAW", "Microsoft-Kinect-Raw", "Realtek", "Samson", "Yamaha"]


def xml(text: str = "Hallo Welt", speaker: str = "cf372280", root: str = "recording") -> str:
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<{root}><speaker_id>{speaker}</speaker_id><rate>16000</rate>'
        "<gender>male</gender><ageclass>31-40</ageclass><sentence_id>17</sentence_id><sentence>Ganz, anders!</sentence>"
        f"<cleaned_sentence>{text}</cleaned_sentence><corpus>WIKI</corpus><muttersprachler>Ja</muttersprachler>"
        f"<bundesland>Hessen</bundesland><sourceurls><url>a?b&amp;c</url></sourceurls></{root}>"
    )


def sentence(folder: Path, stamp: str, *microphones: str, **fields) -> None:
    file(folder / f"{stamp}.xml", xml(**fields))
    for microphone in microphones:
        audio(folder / f"{stamp}_{microphone}.wav")


def texts(reading) -> list[tuple[str, str, str, str]]:
    return [(u.id, u.text, u.speaker, u.split) for u in reading.utterances]


def test_six_microphones_of_one_speaker(tmp_path):
    sentence(tmp_path / "german-speechdata-package-v2/train", STAMP, *SIX)
    reading = catalog.read("tuda", tmp_path)
    folder = tmp_path / "german-speechdata-package-v2/train"
    assert reading.utterances == tuple(
        Utterance(
            id=f"{STAMP}_{microphone}",
            audio=folder / f"{STAMP}_{microphone}.wav",
            text="Hallo Welt",
            speaker="cf372280",
            language="german",
            split="train",
            source="RADECK",
        )
        for microphone in SIX
    )
    assert reading.skipped == reading.notes == ()


def test_a_delivery_with_every_oddity(tmp_path):
    train, dev, test = (tmp_path / "v2" / name for name in ("train", "dev", "test"))
    sentence(train, "2014-01", "Yamaha", text="CO2 in Constanța bei Pęks, Šibenik und Piłsudski", speaker="a")
    sentence(train, "2014-02", "Realtek", "Samson", text="  ", speaker="a")
    sentence(train, "2014-03", "Samson", root="Recording", text="Alte  Fassung", speaker="b")
    sentence(train, "2014-04", "Iphone", "yamaha", speaker="b")
    sentence(train, "2014-03-18-15-34-19", "Realtek", "Yamaha", text="sechs", speaker="b")
    file(train / "2014-05.xml", "<recording><speaker_id>")
    audio(train / "2014-05_Yamaha.wav"), audio(train / "2014-05_Samson.wav")
    sentence(dev, "2015-01", "Kinect-Beam", text="aus dev", speaker="c")
    file(dev / "2015-02.xml", xml())
    sentence(test, "2015-03", "Kinect-RAW", text="aus test", speaker="d")
    audio(test / "2015-04_Samson.wav")
    file(test / "2015-05.xml", "<other/>"), audio(test / "2015-05_Samson.wav")
    file(train / "._2014-01.xml", b"\0")
    reading = tuda.read(tmp_path)
    expected = [
        ("2015-01_Kinect-Beam", "aus dev", "c", "dev"),
        ("2015-03_Kinect-RAW", "aus test", "d", "test"),
        ("2014-01_Yamaha", "co zwei in Constanta bei Peks, Sibenik und Pilsudski", "a", "train"),
        ("2014-03_Samson", "Alte Fassung", "b", "train"),
        ("2014-03-18-15-34-19_Yamaha", "sechs", "b", "train"),
        ("2014-04_yamaha", "Hallo Welt", "b", "train"),
    ]
    assert texts(reading) == expected
    assert [(str(s.path.relative_to(tmp_path / "v2")), s.reason) for s in reading.skipped] == [
        ("train/._2014-01.xml", "hidden file"),
        ("dev/2015-02.xml", "missing audio"),
        ("test/2015-04_Samson.wav", "no transcript"),
        ("test/2015-05_Samson.wav", "unreadable annotation"),
        ("train/2014-02_Realtek.wav", "empty text"),
        ("train/2014-02_Samson.wav", "empty text"),
        ("train/2014-03-18-15-34-19_Realtek.wav", "known bad"),
        ("train/2014-04_Iphone.wav", "unknown microphone"),
        ("train/2014-05_Samson.wav", "unreadable annotation"),
        ("train/2014-05_Yamaha.wav", "unreadable annotation"),
    ]
    assert texts(tuda.read(tmp_path, include_dev=True)) == [
        (id, text, speaker, split.replace("dev", "train")) for id, text, speaker, split in expected
    ]
    assert reading.skipped[3].message == f"{test}/2015-05.xml: the root is <other>, not <recording>; remove the file"


def test_every_letter_of_single_names(tmp_path):
    sentence(tmp_path / "test", STAMP, "Yamaha", text="ț š č ę ō á í ł à ė ú Ł é ä ö ü ß co2")
    assert texts(tuda.read(tmp_path))[0][1] == "t s c e o a i l a e u L é ä ö ü ß co zwei"


def test_the_known_bad_recordings(tmp_path):
    for name in tuda.KNOWN_BAD:
        stamp, _, microphone = name.partition("_")
        sentence(tmp_path / "train", stamp, microphone)
    sentence(tmp_path / "train", STAMP, "Yamaha")
    reading = tuda.read(tmp_path)
    assert [row.id for row in reading.skipped] == sorted(tuda.KNOWN_BAD)
    assert len(reading.utterances) == 1


def test_truncated_audio_is_left_to_the_preparation(tmp_path):
    sentence(tmp_path / "train", STAMP, "Yamaha", "Samson")
    path = tmp_path / f"train/{STAMP}_Yamaha.wav"
    path.write_bytes(path.read_bytes()[:-1000])
    assert len(tuda.read(tmp_path).utterances) == 2
    with pytest.raises(AudioError) as caught:
        load(path)
    assert caught.value.reason == "truncated audio"


@pytest.mark.parametrize(("source", "split"), [("test/v2", "dev"), ("test/v2/dev", "dev"), ("test", "dev")])
def test_the_innermost_folder_decides_the_split(tmp_path, source, split):
    sentence(tmp_path / "test/v2/dev/more", STAMP, "Yamaha")
    (utterance,) = tuda.read(tmp_path / source).utterances
    assert utterance.split == split


def test_recordings_outside_the_splits_are_noted(tmp_path):
    sentence(tmp_path / "other", STAMP, "Yamaha", "Samson")
    reading = tuda.read(tmp_path)
    assert [u.split for u in reading.utterances] == ["", ""]
    assert "2 recordings are in no folder train, dev or test" in reading.notes[0]


def test_the_first_of_duplicates_is_used(tmp_path):
    for split in ("train", "test"):
        sentence(tmp_path / split, STAMP, "Yamaha")
    reading = tuda.read(tmp_path)
    assert [u.split for u in reading.utterances] == ["test"]
    with pytest.raises(UserError, match=rf"train/{STAMP}_Yamaha\.wav: the id .* is already that of .*/test/{STAMP}_Y"):
        reading.check(tmp_path, max_skipped=0)


def test_nothing_to_read(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        tuda.read(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no <stamp>\.xml files beside <stamp>_<microphone>\.wav"):
        tuda.read(tmp_path)
    file(tmp_path / "train/a.xml", xml())
    with pytest.raises(UserError, match=r"no utterance can be used \(1 × missing audio\)"):
        tuda.read(tmp_path)


BAD = [b"", b"<", b"\0\0", b"<a/>", xml().encode("utf-16"), xml().replace("utf-8", "rot13").encode(), b"<recording>"]


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["train", "dev", "x/test"]), st.sampled_from(["2014-01", "2014-02", "b"])),
        st.tuples(st.sets(st.sampled_from([*SIX, "Iphone", ""])), st.none() | st.sampled_from([xml().encode(), *BAD])),
        min_size=1,
    )
)
def test_every_file_is_used_or_listed(tmp_path_factory, delivery):
    root = tmp_path_factory.mktemp("delivery")
    recordings, lonely = [], []
    for (folder, stamp), (microphones, content) in delivery.items():
        name = f"{folder[:1]}{stamp}"
        recordings += [file(root / folder / f"{name}_{microphone}.wav", b"") for microphone in microphones]
        if content is not None:
            path = file(root / folder / f"{name}.xml", content)
            lonely += [] if microphones else [path]
    with contextlib.suppress(UserError):
        reading = tuda.read(root)
        paths = [u.audio for u in reading.utterances] + [row.path for row in reading.skipped]
        assert sorted(paths) == sorted(recordings + lonely)


@pytest.mark.slow
def test_arbitrary_content_raises_only_user_errors(tmp_path):
    path = tmp_path / f"train/{STAMP}.xml"
    soundfile.write(audio(tmp_path / f"train/{STAMP}_Yamaha.wav"), TONE, 16000)
    outcomes = set()
    entity = xml(text="&a;").replace("\n", '\n<!DOCTYPE recording [<!ENTITY a "ja">]>')

    @settings(max_examples=3000)
    @given(mutations([xml().encode(), xml("schön", root="Recording").encode("utf-16"), entity.encode(), *BAD]))
    def read(content):
        path.write_bytes(content)
        try:
            (utterance,) = tuda.read(tmp_path).utterances
            utterance.text.encode()
            outcomes.add("read")
        except UserError as error:
            outcomes.add("refused" if str(path) in str(error) else str(error))

    read()
    assert outcomes == {"read", "refused"}
