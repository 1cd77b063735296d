from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deliveries import kaldi
from tests.launch.deliveries.deliveries import damages, listed, read_damaged, record, write
from w2l_jax.alphabet import preset
from w2l_jax.corpora import Utterance
from w2l_jax.errors import UserError
from w2l_jax.text import clean

FILES = {
    "train/wav.scp": "anna-1 {audio}/one.wav\nanna-2\t../audio/two words.flac\nanna-3 gone.wav\n"
    "anna-4 ../audio/four.wav\n",
    "train/text": "anna-1 guten  morgen\r\nanna-2\tein   tab\nanna-3 keine aufnahme\n",
    "train/utt2spk": "anna-1 anna\nanna-2 anna\nanna-3 anna\n",
    "train/utt2lang": "anna-1 de\n",
    "test/wav.scp": "call ../audio/call.wav\nother ../audio/other.wav\n",
    "test/segments": "call-1 call 0.00 0.05\ncall-2  call\t0.05 -1\ncall-3 call 0.01 0.02\nlost-1 nowhere 0 1\n",
    "test/text": "call-1 erste hälfte\n\ncall-2\nlost-1 verloren\ncall-4 kein segment\n",
    "test/utt2spk": "call-1 berta\ncall-2 carl\nlost-1 carl\ncall-4 carl\n",
}
# id, file, text, speaker, language, split, start, end
EXPECTED = [
    ("anna-1", "one.wav", "guten  morgen", "anna", "de", "train", 0.0, None),
    ("anna-2", "two words.flac", "ein   tab", "anna", "", "train", 0.0, None),
    ("call-1", "call.wav", "erste hälfte", "berta", "", "test", 0.0, 0.05),
    ("call-2", "call.wav", "", "carl", "", "test", 0.05, None),
]


def deliver(folder: Path) -> Path:
    root = folder / "data"
    record(*(root / "audio" / name for name in ("one.wav", "two words.flac", "four.wav", "call.wav", "other.wav")))
    for name, content in FILES.items():
        write(root / name, content.format(audio=root / "audio"))
    return root


def essence(utterances):
    return [(u.id, u.audio.name, u.text, u.speaker, u.language, u.split, u.start, u.end) for u in utterances]


def test_every_line_is_used_or_listed(tmp_path):
    root = deliver(tmp_path)
    reading = kaldi.read(root)
    assert essence(reading.utterances) == EXPECTED
    assert reading.utterances[0] == Utterance(
        "anna-1", root / "audio/one.wav", "guten  morgen", "anna", "de", "train", "data"
    )
    assert listed(reading) == {
        ("anna-3", "missing audio", "text"),
        ("anna-4", "no transcript", "four.wav"),
        ("call-3", "no transcript", "call.wav"),
        ("call-4", "missing audio", "text"),
        ("lost-1", "missing audio", "text"),
        ("other", "no transcript", "other.wav"),
    }
    assert len(reading.skipped) == 6


@pytest.mark.parametrize(
    ("name", "split"),
    [("mine", ""), ("train_si284", "train"), ("dev-other", "dev"), ("eval2000", "test"), ("trainee", "")],
)
def test_a_directory_name_determines_the_split(tmp_path, name, split):
    source = (deliver(tmp_path) / "train").rename(tmp_path / "data" / name)
    for reading in (kaldi.read(source), kaldi.read(tmp_path / "data")):
        assert {u.split for u in reading.utterances if u.speaker == "anna"} == {split}
        assert any(
            f"{source}: {f'all of it is {split}' if split else 'split by speaker'}" in note for note in reading.notes
        )


def test_relative_paths_start_at_the_given_folder(tmp_path):
    root = deliver(tmp_path)
    write(root / "train/wav.scp", "anna-1 audio/one.wav\nanna-2 audio/four.wav\nanna-3 audio/call.wav\n")
    assert len(kaldi.read(root / "train", root=str(root)).utterances) == 3
    with pytest.raises(UserError, match=r"no utterance can be used; 3 skipped.*no recording 'anna-1' \(.*train/aud"):
        kaldi.read(root / "train")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wav.scp", "anna-1 a.wav\nanna-2 sph2pipe -f wav a.sph |\n", r"wav\.scp:2: a pipe, which is not run"),
        ("wav.scp", "anna-1 raw/wav.ark:17\n", r"wav\.scp:1: an offset in an archive"),
        ("wav.scp", "anna-1 a.wav\nanna-2 \n", r"wav\.scp:2: 'anna-2' has no value"),
        ("wav.scp", "anna-1 a.wav\n\nanna-1 b.wav\n", r"wav\.scp:3: 'anna-1' is already in line 1"),
        ("wav.scp", "call ../audio/one.wav", r"test/wav\.scp:1: the recording 'call' is already .*audio/one\.wav"),
        ("text", "anna-1 a\nanna-1 b", r"text:2: 'anna-1' is already in line 1"),
        ("text", "anna-1 a\ncall-1 b", r"test/text:1: the id 'call-1' is already that of .*train/text:2;"),
        ("text", "anna-9 a", r"text:1: 'anna-9' has no speaker in .*utt2spk; if unknown, repeat the id"),
        ("text", b"anna-1 \xe4", r"text:1: not UTF-8"),
        ("utt2spk", "anna-1", r"utt2spk:1: 'anna-1' has no value"),
        ("segments", "anna-1 anna-1 0", r"segments:1: not `<utterance> <recording> <start> <end>`"),
        ("segments", "anna-1 anna-1 0 1 A", r"segments:1: not `<utterance>"),
        ("segments", "anna-1 anna-1 zero 1", r"segments:1: not `<utterance>"),
        ("segments", "anna-1 anna-1 2 1", r"segments:1: 2 to 1 s is not a piece"),
        ("segments", "anna-1 anna-1 -1 1", r"segments:1: -1 to 1 s"),
        ("segments", "anna-1 anna-1 nan 1", r"segments:1: nan to 1 s"),
        ("segments", "anna-1 anna-1 0 inf", r"segments:1: 0 to inf s"),
    ],
)
def test_bad_lines_are_named(tmp_path, name, content, message):
    root = deliver(tmp_path)
    if "call-1" in str(content):
        (root / "train/utt2spk").write_text("anna-1 anna\ncall-1 anna")
    write(root / "train" / name, content)
    with pytest.raises(UserError, match=message):
        kaldi.read(root).check(root, max_skipped=0)


def test_bad_deliveries(tmp_path):
    with pytest.raises(UserError, match=r"not a Kaldi data directory: neither it nor its folders have wav\.scp"):
        kaldi.read(tmp_path)
    root = deliver(tmp_path)
    for name in ("text", "utt2spk"):
        (root / "train" / name).unlink()
        with pytest.raises(UserError, match=rf"train/{name}: no such file of a Kaldi data directory"):
            kaldi.read(root)
        write(root / "train" / name, "")


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text("ab-_äß0", min_size=1, max_size=6),
        st.tuples(
            st.text("äb 'c", max_size=9).map(str.strip),
            st.sampled_from(["x", "y z"]),
            st.integers(0, 9),
            st.integers(1, 9),
        ),
        min_size=1,
    )
)
def test_any_segments_survive(tmp_path_factory, items):
    root = tmp_path_factory.mktemp("property")
    write(root / "a.wav", b"")
    write(root / "wav.scp", "rec a.wav")
    write(root / "text", "".join(f"{id} {text}\n" for id, (text, *_) in items.items()))
    write(root / "utt2spk", "".join(f"{id}\t{speaker}\n" for id, (_, speaker, *_) in items.items()))
    times = {id: (start / 7, (start + length) / 7) for id, (_, _, start, length) in items.items()}
    write(root / "segments", "".join(f"{id} rec {start!r} {end!r}\n" for id, (start, end) in times.items()))
    reading = kaldi.read(root)
    found = {u.id: (u.text, u.speaker, (u.start, u.end)) for u in reading.utterances}
    assert found == {id: (text, speaker, times[id]) for id, (text, speaker, *_) in items.items()}
    assert not reading.skipped


@pytest.fixture(scope="module")
def delivery(tmp_path_factory):
    return deliver(tmp_path_factory.mktemp("kaldi"))


def fuzz(delivery, changes):
    read_damaged([delivery / name for name in FILES], changes, lambda: kaldi.read(delivery))


@settings(max_examples=50)
@given(damages)
def test_damaged_files_are_read_or_refused(delivery, changes):
    fuzz(delivery, changes)


@pytest.mark.slow
@settings(max_examples=3000)
@given(damages)
def test_many_damaged_files_are_read_or_refused(delivery, changes):
    fuzz(delivery, changes)


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("!SIL well NSN yes SPN", "well yes"),
        ("[laughter-yeah] [LAUGHTER-I] know [laughter]", "yeah i know"),
        ("that [it'n/isn't] so", "that it'n so"),
        ("ab[solute]- -[an]y ammu[n]it[ion]-", "ab y ammuit"),
        ("the(2) them_1 cat", "the them cat"),
        ("{NOISE} <unk> [vocalized-noise] ((maybe)) this ++garbage++ <b_aside> yes <e_aside>", "maybe this yes"),
    ],
)
def test_marks_of_the_recipes(tmp_path, text, spoken):
    record(tmp_path / "a.wav")
    for name, content in {"wav.scp": "a a.wav", "text": f"a {text}", "utt2spk": "a a"}.items():
        write(tmp_path / name, content + "\n")
    (utterance,) = kaldi.read(tmp_path).utterances
    assert clean(utterance.text, preset("english")) == spoken
