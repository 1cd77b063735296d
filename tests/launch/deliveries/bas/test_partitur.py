import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliveries.bas import partitur
from deliveries.bas.annotation import Annotation, AnnotationError, Transcript, Word, transcript
from deliveries.bas.partitur import Item
from tests.launch.deliveries.bas.writers import write_item, write_partitur

# Tabs in one tier, blanks in another, and both in one line, as in real deliveries.
PAR = """LHD: Partitur 1.3
REP: Muenchen
SNB: 2
SAM: 16000
SBF: 01
SSB: 16
NCH: 1
SPN: AAJ
LBD:
ORT:\t1\tEuch
ORT: 0 Sch"on
ORT: 2   \t <usb>
ORT:\t3\t sehen
KAN:\t0\tS'2:n
TR2: 0 Sch"on
NOI: 1;2 <noise>
MAU:\t0\t1599\t-1\t<p:>
MAU:\t1600\t799\t0\tS
MAU: 2400 1599 0 2:
MAU:\t8000\t0\t1,3\tC
MAU:\t9000\t999\t2;3\t<p:>
MAS: 16000 1599 2 zu:
MAS: 20000 799 3 ze:n
PRB: 54212 5 TON: H*; FUN: NA
XYZ: what nobody knows
a line without a key
"""


def read(text, place="a.par"):
    return partitur.read(text.encode(), place)


def test_words_in_link_order_and_their_samples():
    """0: 1600 … 2400+1599; 1 and 3 share a segment of one sample; 2 has only MAS."""
    assert read(PAR) == Annotation(
        words=(
            Word('Sch"on', (1600, 4000)),
            Word("Euch", (8000, 8001)),
            Word("<usb>", (16000, 17600)),
            Word("sehen", (8000, 8001)),
        ),
        rate=16000,
        tr2=('Sch"on',),
        speaker="AAJ",
    )


def test_seconds_and_text():
    spoken = transcript(read(PAR))
    assert spoken.words == ("Schön", "Euch", "sehen")
    assert spoken.times == (("Schön", 0.1, 0.25), ("Euch", 0.5, 0.5000625), ("sehen", 0.5, 0.5000625))


def test_the_sample_rate_counts():
    assert transcript(read(PAR.replace("SAM: 16000", "SAM:\t8000"))).times[0] == ("Schön", 0.2, 0.5)


def test_times_need_every_word():
    assert transcript(read(PAR.replace("MAU: 2400", "XXX: 2400").replace("MAU:\t1600", "XXX:\t1600"))).times == ()


@pytest.mark.parametrize(("tier", "span"), [("MAU", (0, 10)), ("MAS", (100, 110)), ("PHO", (200, 210))])
def test_segments_of_the_best_tier(tier, span):
    tiers = ["MAU", "MAS", "PHO"]
    lines = [f"{t}:\t{100 * i}\t9\t0\ta" for i, t in enumerate(tiers) if i >= tiers.index(tier)]
    assert read("\n".join(["SAM: 8000", "ORT: 0 ja", *reversed(lines)])).words == (Word("ja", span),)


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_line_ends(ending):
    assert read(PAR.replace("\n", ending)) == read(PAR)


def test_latin_1():
    assert partitur.read("ORT: 0 schön\x85".encode("latin-1"), "a").words == (Word("schön\x85"),)


def test_no_words():
    for content in (b"", b"\0\xff", b"LHD: Partitur 1.3\nLBD:\nKAN: 0 a\n"):
        assert partitur.read(content, "a.par") == Annotation()


@pytest.mark.parametrize("line", ["ORT: sch\xf6n", "ORT:", "ORT: -1 ja", "ORT: 0;1 ja", "ORT: 1x ja", "TR2: ja"])
def test_bad_words_are_named(line):
    message = re.escape("a.par:3: ") + ".*correct the line"
    with pytest.raises(AnnotationError, match=message):
        read(f"LBD:\nORT: 0 ja\n{line}\n")


@pytest.mark.parametrize("line", ["MAU: 0 -5 0 a", "MAU: 0 5 a", "MAU: 1.5 5 0 a", "MAU: " + "9" * 5000 + " 5 0 a"])
def test_bad_times_drop_only_the_times(line):
    annotation = read(f"SAM: 16000\nORT: 0 ja\nMAU: 0 5 0 a\n{line}\n")
    assert annotation.words == (Word("ja"),)
    assert annotation.problem.startswith("a.par:4: 'MAU: ")
    assert "is not MAU: <start> <duration> <link> <label>" in annotation.problem


@pytest.mark.parametrize("header", ["", "SAM: fast\n", "SAM: 0\n"])
def test_times_without_a_rate(header):
    annotation = read(f"{header}ORT: 0 ja\nMAU: 0 5 0 a\n")
    assert annotation.problem == "a.par: no sample rate (SAM:) to turn its word times into seconds"
    assert transcript(annotation) == Transcript(("ja",))


def test_unintelligible_words_are_taken_from_tr2():
    def words(ort, tr2):
        return transcript(Annotation(tuple(map(Word, ort.split())), tr2=tuple(tr2))).words

    tr2 = ["~straße", "fünf", '<Ger"ausch> Sie~']
    assert words("<usb> fünf <usb>", tr2) == ("straße", "fünf", "Sie")
    assert words("<usb> fünf <usb>", tr2[:2]) == ("straße", "fünf")  # the last one only if the numbers agree
    assert words("ja <usb> <usb>", tr2) == ("ja", "Sie")  # in the middle it is skipped
    assert words("<usb>", ["<#>"]) == ()
    assert words("<usb> ja", []) == ("ja",)


LABEL = st.text(st.characters(exclude_characters="\r\n", codec="utf-8")).map(lambda text: text.strip(" \t"))
LINK = st.lists(st.integers(0, 99), min_size=1, max_size=3).flatmap(
    lambda numbers: st.sampled_from([",", ";"]).map(lambda sign: sign.join(map(str, numbers)))
)
SAMPLES = st.integers(0, 10**9)


@st.composite
def items(draw):
    tier = draw(st.sampled_from(sorted(partitur.FIELDS)))
    values = {"link": draw(LINK | st.just("-1")), "start": draw(SAMPLES), "duration": draw(SAMPLES)}
    if tier == "ORT":
        values["link"] = str(draw(st.integers(0, 99)))
    return Item(tier, draw(LABEL), **{field: values[field] for field in partitur.FIELDS[tier]})


@given(st.lists(items()))
def test_items_of_every_class_round_trip(items):
    text = "\n".join(map(write_item, items))
    assert partitur.read_items(text, partitur.FIELDS, "a") == items
    padded = [write_item(i).replace("\t", " \t ", 1 + len(partitur.FIELDS[i.tier])) for i in items]
    assert partitur.read_items("\n".join(padded), partitur.FIELDS, "a") == items


@st.composite
def annotations(draw):
    spans = st.none() | st.tuples(SAMPLES, st.integers(1, 10**6)).map(lambda pair: (pair[0], sum(pair)))
    words = draw(st.lists(st.builds(Word, LABEL, spans)))
    tr2 = draw(st.just([]) | st.lists(LABEL, min_size=len(words), max_size=len(words)))
    return Annotation(tuple(words), draw(st.integers(1, 192_000)), tuple(tr2))


@given(annotations(), LABEL)
def test_round_trip(annotation, speaker):
    named = Annotation(annotation.words, annotation.rate, annotation.tr2, speaker)
    again = read(write_partitur(named))
    assert again == named
    assert transcript(again) == transcript(named)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_content_is_read_or_refused(content):
    for prefix in (b"", b"ORT: 0 ja\nMAU: 0 5 0 ", b"SAM:", b"ORT:", b"TR2: 0"):
        with contextlib.suppress(AnnotationError):
            transcript(partitur.read(prefix + content, "a.par"))
