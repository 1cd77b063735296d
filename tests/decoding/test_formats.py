import itertools
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2l_jax.decoding import formats
from w2l_jax.decoding.beam import Transcript
from w2l_jax.decoding.recordings import Segment, Word


def segment(*words, scores=None):
    text = " ".join(word.word for word in words)
    return Segment(words[0].start, words[-1].end, words, Transcript(text, *scores) if scores else None)


TWO = [
    segment(Word("good", 0.16, 0.4, 0.5), Word("day", 0.48, 0.8, 0.75), scores=(-3.5, -1.5, -2.0, 2)),
    segment(Word("bye", 3725.6, 3725.696)),
]


def rendered(kind, name="a.wav", segments=TWO):
    return "".join(formats.FORMATS[kind](name, segments))


def test_txt_and_tsv():
    assert rendered("txt", "") == "good day\nbye\n"
    assert rendered("txt") == "a.wav: good day\na.wav: bye\n"
    assert rendered("txt", "", []) == "\n" and rendered("txt", "a.wav", []) == "a.wav: \n"
    assert rendered("tsv") == "0.160\t0.800\tgood day\n3725.600\t3725.696\tbye\n"


def test_json():
    assert json.loads(rendered("json")) == {
        "recording": "a.wav",
        "text": "good day bye",
        "segments": [
            {
                "start": 0.16, "end": 0.8, "text": "good day", "score": -3.5, "acoustic_score": -1.5, "lm_score": -2.0,
                "words": [
                    {"word": "good", "start": 0.16, "end": 0.4, "confidence": 0.5},
                    {"word": "day", "start": 0.48, "end": 0.8, "confidence": 0.75},
                ],
            },
            {
                "start": 3725.6, "end": 3725.696, "text": "bye",
                "words": [{"word": "bye", "start": 3725.6, "end": 3725.696}],
            },
        ],
    }  # fmt: skip
    assert rendered("json").count("\n") == 1
    assert json.loads(rendered("json", "b.wav", [])) == {"recording": "b.wav", "text": "", "segments": []}


def test_subtitles():
    """A last word of a tenth of a second is shown for one second; the first cue ends before the next starts."""
    assert rendered("srt") == (
        "1\n00:00:00,160 --> 00:00:01,160\ngood day\n\n2\n01:02:05,600 --> 01:02:06,600\nbye\n\n"
    )
    assert rendered("vtt") == (
        "WEBVTT\n\n00:00:00.160 --> 00:00:01.160\ngood day\n\n01:02:05.600 --> 01:02:06.600\nbye\n\n"
    )
    assert "a &amp; &lt;b" in rendered("vtt", segments=[segment(Word("a", 0, 1), Word("&", 1, 2), Word("<b", 2, 3))])
    assert rendered("srt", segments=[]) == "" and rendered("vtt", segments=[]) == "WEBVTT\n\n"


WORDS = st.lists(
    st.tuples(st.text("abc", min_size=1, max_size=42), st.integers(1, 90), st.integers(0, 400)), min_size=1
)


@given(st.lists(WORDS, max_size=3))
def test_subtitles_are_readable_and_lose_nothing(segments):
    time, spoken = 0, []
    for words in segments:
        spans = []
        for word, length, pause in words:
            spans.append(Word(word, round(time * 0.016, 3), round((time + length) * 0.016, 3)))
            time += length + pause
        spoken.append(segment(*spans))
    cues = list(formats.cues(spoken))
    assert [word for cue in cues for word in cue.text.split()] == [w.word for s in spoken for w in s.words]
    for cue, following in itertools.pairwise([*cues, None]):
        lines = cue.text.split("\n")
        alone = len(cue.text.split()) == 1
        assert alone or (len(lines) <= 2 and max(map(len, lines)) <= 42 and cue.end - cue.start <= 7.001)
        assert cue.start < cue.end and (following is None or cue.end <= following.start)
        assert cue.end - cue.start >= 0.999 or cue.end == following.start


def test_a_long_segment_is_divided_at_its_longest_pause_near_the_middle():
    words = [Word(f"word{i}", i, i + (0.9 if i != 5 else 0.5)) for i in range(12)]
    assert [cue.start for cue in formats.cues([segment(*words)])] == [0, 6]
    assert formats.cues([]) is not None and list(formats.cues([])) == []
    assert pytest.approx(12.0) == list(formats.cues([segment(*words)]))[-1].end + 0.1


def test_a_manifest_is_read_back_as_pieces(tmp_path):
    from w2l_jax.corpora import manifest

    (tmp_path / "m.jsonl").write_text(rendered("manifest", name=str(tmp_path / "talk.wav")), "utf-8")
    found = manifest.read(tmp_path / "m.jsonl")
    assert [(u.id, u.audio.name, u.start, u.end, u.text) for u in found] == [
        ("talk-0000160", "talk.wav", 0.16, 0.8, "good day"),
        ("talk-3725600", "talk.wav", 3725.6, 3725.696, "bye"),
    ]


def columns(line):
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in line)


def test_subtitles_of_scripts_without_spaces_are_cut_by_width_and_time():
    text = "春天来了花园里的花都开了孩子们在树下唱歌老人坐在长椅上晒太阳小狗追着蝴蝶跑来跑去大家都很高兴"
    whole = [Word(text, 0.0, 24.0)]
    each = [Word(char, i * 24 / len(text), (i + 1) * 24 / len(text)) for i, char in enumerate(text)]
    for words in (whole, each):
        found = list(formats.cues([Segment(0.0, 24.0, tuple(words))]))
        assert "".join(cue.text.replace("\n", "") for cue in found) == text
        assert all(columns(line) <= 42 for cue in found for line in cue.text.split("\n"))
        assert all(1 <= cue.end - cue.start <= 7 for cue in found)
    quick = [
        Segment(0.0, 6.0, tuple(Word(char, i * 6 / len(text), (i + 1) * 6 / len(text)) for i, char in enumerate(text)))
    ]
    assert max(len(cue.text.split("\n")) for cue in formats.cues(quick)) == 2
    assert quick[0].text == text
    assert json.loads(next(formats.json_line("x", quick)))["segments"][0]["words"][3]["word"] == "了"
