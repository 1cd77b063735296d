import json

import pytest
from hypothesis import given

from deliveries.bas import emu
from deliveries.bas.annotation import Annotation, AnnotationError, Word, transcript
from tests.launch.deliveries.bas.deliveries import annot
from tests.launch.deliveries.bas.test_partitur import annotations
from tests.launch.deliveries.bas.writers import write_emu


def item(number, start=None, duration=None, **labels):
    times = {} if start is None else {"sampleStart": start, "sampleDur": duration}
    return {"id": number, **times, "labels": [{"name": k, "value": v} for k, v in labels.items()]}


def level(name, *items, kind="ITEM"):
    return {"name": name, "type": kind, "items": list(items)}


def document(*levels, links=(), **fields):
    links = [{"fromID": a, "toID": b} for a, b in links]
    return {"name": "a", "annotates": "a.wav", "sampleRate": 8000, "levels": list(levels), "links": links, **fields}


def read(content):
    return emu.read(json.dumps(content).encode(), "a_annot.json")


WORDS = level("words", item(1, ORT="Grüß", KAN="gry:s"), item(2, ORT="Gott"))
SEGMENTS = {
    "MAU": level("MAU", item(11, 0, 99, MAU="g"), item(12, 100, 99), item(13, 200, 99), kind="SEGMENT"),
    "MAS": level("MAS", item(21, 1000, 99), item(22, 1100, 99), kind="SEGMENT"),
    "PHO": level("PHO", item(31, 2000, 99), kind="SEGMENT"),
    "phonetic": level("phonetic", item(41, 3000, 99), item(42, 3100, 99), kind="SEGMENT"),
}
LINKS = [(1, 11), (1, 12), (2, 13), (1, 21), (2, 22), (2, 31), (1, 41), (2, 42)]


@pytest.mark.parametrize(
    ("tiers", "spans"),
    [
        (("MAU",), [(0, 200), (200, 300)]),
        (("MAU", "MAS"), [(1000, 1100), (1100, 1200)]),
        (("MAU", "MAS", "PHO"), [(1000, 1100), (2000, 2100)]),  # the first word has no PHO segment
        (("phonetic", "MAU"), [(3000, 3100), (3100, 3200)]),
        ((), [None, None]),
    ],
)
def test_words_and_the_best_segments(tiers, spans):
    annotation = read(document(WORDS, *(SEGMENTS[tier] for tier in tiers), links=LINKS))
    assert annotation == Annotation((Word("Grüß", spans[0]), Word("Gott", spans[1])), rate=8000)


def test_seconds():
    spoken = transcript(read(document(WORDS, SEGMENTS["MAU"], links=LINKS)))
    assert spoken.times == (("Grüß", 0.0, 0.025), ("Gott", 0.025, 0.0375))


def test_levels_that_hold_other_things():
    """`word` is used if there is no ORT; only SEGMENT levels have samples; items without the label have no word."""
    words = level("Wort", item(1, word="ja"), item(2, other="x"), item(3, word="nein"))
    annotation = read(document(level("empty"), level("bundle", item(9)), words, level("MAU", item(11, 0, 9))))
    assert annotation.words == (Word("ja"), Word(""), Word("nein"))
    assert read(document(words, WORDS)).words == (Word("Grüß"), Word("Gott"))


def test_syllables_between_words_and_segments_and_circles():
    syllables = level("syllable", item(5), item(6))
    links = [(1, 5), (1, 6), (5, 11), (6, 12), (6, 5), (5, 1)]
    annotation = read(document(level("w", item(1, ORT="ja")), syllables, SEGMENTS["MAU"], links=links))
    assert annotation.words == (Word("ja", (0, 200)),)


def test_tr2_beside_the_words_or_in_a_level_of_its_own():
    beside = level("ORT", item(1, ORT="<usb>", TR2="~haus"), item(2, ORT="ja", TR2="ja"))
    own = level("TR2", item(3, TR2="~haus"), item(4, TR2="ja"))
    for levels in ([beside], [level("ORT", item(1, ORT="<usb>"), item(2, ORT="ja")), own]):
        annotation = read(document(*levels))
        assert annotation.tr2 == ("~haus", "ja")
        assert transcript(annotation).words == ("haus", "ja")


def test_encodings():
    content = annot("schön")
    for encoding in ("utf-8", "utf-8-sig", "iso-8859-1"):
        assert emu.read(content.encode(encoding), "a").words == (Word("schön"),)


def test_no_words():
    for content in ({}, {"levels": []}, document(SEGMENTS["MAU"])):
        assert read(content).words == ()


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"levels": {}},
        {"levels": ["x"]},
        {"levels": [{"items": 3}]},
        {"levels": [{"items": [{"labels": "ORT"}]}]},
        {"levels": [level("ORT", item(1, ORT=3))]},
        {"levels": [level("ORT", item(1, ORT=[[]]))]},
        {"levels": [level("ORT", item(1, ORT="\ud800"))]},
    ],
)
def test_bad_words_are_refused(content):
    with pytest.raises(AnnotationError, match=r"^a_annot\.json: .*(remove the file|not )"):
        read(content)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}", b"\xff\xfe{"])
def test_bad_json_is_refused(content):
    with pytest.raises(AnnotationError, match=r"^a_annot\.json: not valid JSON"):
        emu.read(content, "a_annot.json")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"sampleRate": "fast"}, "'sampleRate' must be a number of samples, not \"fast\""),
        ({"sampleRate": 1e999}, "'sampleRate' must be a number of samples, not Infinity"),
        ({"links": [{"fromID": 1}]}, "'toID' must be an item's number, not null"),
        ({"links": 3}, "'links' must be a list of JSON objects"),
    ],
)
def test_bad_times_drop_only_the_times(changed, problem):
    annotation = read(document(WORDS, SEGMENTS["MAU"], links=LINKS) | changed)
    assert annotation.words == (Word("Grüß"), Word("Gott"))
    assert annotation.problem.startswith(f"a_annot.json: {problem}")


@pytest.mark.parametrize("value", [-1, True, 1.5, None, "3", 10**400])
def test_bad_samples(value):
    segments = level("MAU", item(11, 0, value), kind="SEGMENT")
    annotation = read(document(WORDS, segments, links=LINKS))
    assert annotation.words[0] == Word("Grüß")
    assert annotation.problem.startswith("a_annot.json: 'sampleDur' must be a number of samples, not ")


@given(annotations())
def test_round_trip(annotation):
    again = emu.read(write_emu(annotation, "a").encode(), "a")
    assert again == annotation
    assert transcript(again) == transcript(annotation)
