import csv
import io
import re
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from pages import html as report


class Reader(HTMLParser):
    """Collects the tags and the visible text of a page, and reports unclosed tags."""

    VOID = frozenset(("meta", "path", "use", "image", "rect", "img"))

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)


def external(page: str) -> list[str]:
    """The resources that a browser would have to fetch."""
    links = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', page)
    return [link for pair in links for link in pair if link and not link.strip("\"'").startswith(("#", "data:"))]


def draw(figure):
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0])
    axes.imshow(np.eye(3))
    axes.set_title("<b> & 'c'")


NASTY = 'a < b & "c" <script>alert(1)</script>'


def test_text_is_escaped():
    rows = [{NASTY: NASTY, "n": 1}]
    lists = report.facts({NASTY: NASTY}) + report.folded(NASTY, report.lines([NASTY, NASTY]))
    page = report.page(
        NASTY, [(NASTY, report.paragraph(NASTY) + report.table(rows, NASTY) + report.figure(draw, NASTY) + lists)]
    )
    reader = Reader(page)
    assert [tag for tag, _ in reader.tags].count("script") == 1
    # Title twice, link, heading, paragraph, the table's caption, head and cell, the figure's caption; a fact's name and
    # value, the folded part and its two lines.
    assert "".join(reader.text).count(NASTY) == 9 + 5
    assert next(a["aria-label"] for tag, a in reader.tags if tag == "svg") == NASTY


def test_pages_are_self_contained():
    page = report.page("t", [("s", report.figure(draw, "d") + report.audio(np.zeros(1600, np.float32), 16000))])
    assert external(page) == []
    assert external('<img src="http://x/y.png"><script src="a.js">') == [
        "http://x/y.png",
        "a.js",
    ]  # or the test proves nothing


def test_figures_follow_the_pages_colours_and_are_deterministic():
    svg = report.figure(draw, "d")
    assert svg.count("currentColor") > 5 and "#010203" not in svg and "<?xml" not in svg
    assert report.figure(draw, "d") == svg
    names = [set(re.findall(r' id="([^"]*)"', report.figure(draw, text))) for text in ("a", "b")]
    assert names[0] and not names[0] & names[1]  # two figures in one page do not share ids


def test_sound_is_embedded_unchanged():
    wave_N = 0.5 * np.sin(2 * np.pi * 440 / 16000 * np.arange(16000)).astype(np.float32)
    ((_, attributes),) = (t for t in Reader(report.audio(wave_N, 16000)).tags if t[0] == "audio")
    assert "controls" in attributes
    content = b64decode(attributes["src"].removeprefix("data:audio/ogg;base64,"))
    heard_N, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate in (16000, 48000) and abs(len(heard_N) / rate - 1) < 0.01
    spectrum = np.abs(np.fft.rfft(heard_N))
    assert np.argmax(spectrum) / len(heard_N) * rate == pytest.approx(440, abs=2)
    assert len(content) < 20_000  # 32 kB as 16-bit samples


def test_tables_and_their_numbers():
    page = report.table([{"name": "a", "rate": "12.5% [1.0, 2.0]"}, {"name": "b", "rate": 3}], "all")
    assert page.count('<td class="number">') == 2 and "<caption>all</caption>" in page
    # Text that starts with a number is not a number.
    bare = report.table([{"a": "3 of 4 seeds", "b": "0.4 h", "c": "1 [2] over", "d": ""}], "")
    assert "<td>" in bare and "number" not in bare
    assert report.table([], "Nothing here") == "<p>Nothing here: none.</p>"


def test_rows_as_csv_have_every_column():
    rows = [{"a": 1, "b": NASTY}, {"a": "two\nlines", "c": 0.1}]
    text = report.comma_separated(rows)
    assert "\r" not in text and text.startswith("a,b,c\n")
    read = list(csv.DictReader(io.StringIO(text)))
    assert read == [{"a": "1", "b": NASTY, "c": ""}, {"a": "two\nlines", "b": "", "c": "0.1"}]


def test_right_to_left_text_is_marked():
    found = report.table([{"said": "سلام دنیا", "heard": "hello سلام", "share": "3"}], "words")
    assert '<td dir="rtl">سلام دنیا</td><td>hello سلام</td><td class="number">3</td>' in found
    assert report.direction("12 שלום") == ' dir="rtl"' and report.direction("12") == ""


def test_no_cell_of_a_csv_file_is_a_formula():
    """Names of speakers, corpora and files are untrusted, and spreadsheets evaluate cells that start like this."""
    hostile = ['=HYPERLINK("http://x")', "+1+cmd|' /C calc'!A0", "-a", "@SUM(A1)", "\t=1", "\r=1"]
    plain = ["-", "=", "-0.5", "+3.1%", "-1e-05", "a=b", "'", "ä", -0.5, 7, None]
    (row,) = csv.reader(io.StringIO(report.as_csv([[*hostile, *plain]])))
    assert row[: len(hostile)] == [f"'{cell}".replace("\r", "\n") for cell in hostile]
    assert row[len(hostile) :] == ["" if cell is None else str(cell) for cell in plain]
    assert "'=x" in report.comma_separated([{"=x": 1}])
