import csv
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pages import comparison
from reproduction import bars, tables
from reproduction import grid_figures as figures
from reproduction import grid_page as page
from reproduction.grid import K0, K8, REINITIALIZED, SCRATCH, UNFROZEN, Variant
from reproduction.study import Study
from tests.launch.reproduction.conftest import decoded
from tests.launch.reproduction.test_claims import measured
from tests.launch.test_html import Reader, external
from w2l_jax.training import log as metrics_log

KS = (0, 6, 8, 9, 10)


@pytest.fixture
def full(scale, write):
    """A grid in which only the unfrozen network and the introspection are missing."""
    networks = [*map(Variant, KS), REINITIALIZED, SCRATCH]
    networks += [v._replace(hours=hours) for v in (K0, K8, SCRATCH) for hours in (0.4, 0.1)]
    for i, variant in enumerate(networks):
        wrong = [(i + j) % 9 for j in range(24)]
        write(
            "german", variant, wrong=wrong, greedy=wrong[::-1], loss=lambda step, i=i: 150 + 9 * i - step, speakers=12
        )
    for i, language in enumerate(("dutch", "mandarin")):
        for j, variant in enumerate((K0, K8, SCRATCH)):
            write(language, variant, wrong=[i + j, i + j + 1] * 10)
    decoded(Path(scale.out) / "base" / "en_dev.jsonl", [1] * 10, [3] * 10, [1.0] * 10, 1)
    measured(scale, "step", k=KS, seconds=[4.0, 3.5, 3.0, 2.0, 1.5], **{"GFLOP/s": [10.0, 10.0, 9.0, 8.0, 9.0]})
    measured(scale, "cache", k=[0, 8, 9], cached=["no", "yes", "yes"], **{"updates/s": [0.2, 0.5, 0.8]})
    megabytes = [2500.0, 2000.0, 1500.0, 900.0, 500.0]
    measured(scale, "memory", k=KS, **{"temporary MiB": megabytes, "held MiB": [20.0] * 5, "updated MiB": [9.0] * 5})
    return scale


class Tables(HTMLParser):
    """Caption → rows of cells of every table of a page."""

    def __init__(self, content: str):
        super().__init__()
        self.found, self._caption, self._open = {}, None, []
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self._open.append(tag)
        if tag == "table":
            self._rows = []
        if tag == "tr":
            self._rows.append([])
        if tag == "td" or tag == "th":
            self._rows[-1].append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass
        if tag == "table":
            self.found[self._caption] = self._rows

    def handle_data(self, data):
        if "caption" in self._open:
            self._caption = data
        elif {"td", "th"} & set(self._open):
            self._rows[-1][-1] += data


# Figures 3 and 5 and the one on unfreezing are drawn like Figure 2; `test_end_to_end` covers them all.
ONLY = "figure2,figure4,figure6,memory,table1,table3,forgetting,amounts,distance"


def test_every_section_with_data_is_written(full):
    path = page.write(dataclasses.replace(full, only=ONLY))
    content = path.read_text()
    reader = Reader(content)
    assert external(content) == []
    headings = [heading for heading in page._SECTIONS if f">{heading}</h2>" in content.replace("&#x27;", "'")]
    left_out = "Figure [3578]|Freezing first"
    assert headings == [heading for heading in page._SECTIONS if not re.search(left_out, heading)]
    names = {"figure2", "figure4", "figure6", "memory", "forgetting", "amounts", "distance"}
    for name in names:
        assert (path.parent / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        rows = list(csv.DictReader((path.parent / "figures" / f"{name}.csv").open()))
        assert len(rows) == len(json.loads((path.parent / "figures" / f"{name}.json").read_text())) > 0
    assert [tag for tag, _ in reader.tags].count("svg") == len(names)
    text = "".join(reader.text)
    assert "language model german" in text  # among the missing tasks
    assert "python launch/train.py" in text and "--resume" not in text
    # The bars show the numbers of the files.
    for row in csv.DictReader((path.parent / "figures" / "figure4.csv").open()):
        assert f">{float(row['seconds predicted from FLOPs']):.3g}<" in content
    numbers_are_those_of_the_files(path)


def numbers_are_those_of_the_files(path):
    shown = Tables(path.read_text()).found
    files = sorted((path.parent / "tables").glob("*.csv"))
    assert {"table1", "table3", "worst_german", "forgetting", "amounts", "claims"} <= {file.stem for file in files}
    compared = 0
    for file in files:
        rows = list(csv.DictReader(file.open()))
        heads = [head for head in rows[0] if not head.endswith((" low", " high"))]
        (table,) = [t for t in shown.values() if [h.strip() for h in t[0]] == heads and len(t) == len(rows) + 1]
        for cells, row in zip(table[1:], rows, strict=True):
            for head, cell in zip(heads, cells, strict=True):
                numbers = [row[name] for name in (head, f"{head} low", f"{head} high") if row.get(name)]
                if re.fullmatch(r"[+-]?[\d.,]+( \[.*\])?", cell) and numbers:
                    texts = [text.replace(",", "") for text in re.findall(r"-?[\d.,]*\d", cell)]
                    for text, number in zip(texts, numbers, strict=True):  # right to the last digit shown
                        last = 10.0 ** -len(text.partition(".")[2])
                        assert float(text) == pytest.approx(float(number), abs=0.501 * last), (file.stem, head)
                    compared += 1
                else:
                    assert cell in (
                        row[head].removeprefix("'"),
                        "–",
                    )  # the apostrophe keeps spreadsheets from evaluating it
    assert compared > 300


def test_table_1_by_hand(full):
    table = tables.table1(Study(full))
    rows = {(row["data"], row["network"]): row for row in table.rows}
    decodes = [comparison.read_file(Path(full.out) / "runs" / f"german_scratch_seed{s}" / "decode" / "de_dev.jsonl", "")
               for s in (0, 1)]  # fmt: skip
    mean = sum(e.ler for one in decodes for e in one.errors["beam"].values()) / 48
    assert rows["de_dev", "S"]["LER (%)"].value == pytest.approx(100 * mean)
    assert rows["de_dev", "S"]["resampled"] == "12 speakers" and rows["de_dev", "S"]["seeds"] == 2
    assert rows["paper: all German corpora", "TL"]["LER (%)"] == 15.05
    assert rows["en_dev", "base"]["LER (%)"].value == pytest.approx(30)  # greedy: three of ten letters
    assert {"de_test", "de_dev"} <= {data for data, _ in rows} and rows["de_dev", "TL"]["trained"].startswith("k = ")
    lers = {v: tables.rates(Study(full).decoded(full.languages[0], v, "de_dev"), "beam")["LER (%)"] for v in (K0, K8)}
    assert rows["de_dev", "TL"]["LER (%)"] == min(lers.values())


def test_figures_by_hand(full):
    study = Study(full)
    (four,) = bars.figure4(study)
    assert [row["seconds"] for row in four.rows] == [4.0, 3.5, 3.0, 2.0, 1.5]
    # 40 GFLOP in four seconds: 27 take 2.7.
    assert four.rows[2]["seconds predicted from FLOPs"] == pytest.approx(2.7)
    assert four.rows[2]["seconds with cached activations"] == 2.0 and four.rows[1].get("seconds with cached") is None
    (memory,) = bars.memory(study)
    assert memory.rows[0]["GB"] == pytest.approx(2529 * 2**20 / 1e9) and memory.rows[0]["GB in the paper"] == 10.4
    assert memory.rows[-1] == {"k": "forward only", "GB": None, "GB in the paper": 3.0}
    (six,) = figures.figure6(study)
    assert {row["network"] for row in six.rows} == {"all", "0.4 h", "0.1 h"}
    (old,) = figures.forgetting(study)
    first = next(row for row in old.rows if row["kind"] == "old_dev")
    assert (first["update"], first["LER (%)"]) == (0, pytest.approx(30))
    assert {row["LER (%)"] for row in old.rows if row["kind"] == "old_dev" and row["update"]} == {50.0}


def test_gains_by_language_and_hours(full):
    found = tables.gains(Study(full), "distance")
    assert found.name == "distance_gains"
    rows = {(row["language"], row["network"]): row["LER reduction over scratch (%)"] for row in found.rows}
    # Wrong letters of ten: 0.5, 1.5 and 2.5 in Dutch, one more each in Mandarin.
    assert {key: pytest.approx(number.value) for key, number in rows.items()} == {
        ("dutch", "k = 0"): 80, ("dutch", "k = 8"): 40,
        ("mandarin", "k = 0"): 100 * 2 / 3.5, ("mandarin", "k = 8"): 100 / 3.5,
    }  # fmt: skip
    assert {row["hours"] for row in tables.gains(Study(full), "amounts").rows} == {"all", 0.4, 0.1}


def test_worst_utterances(scale, write):
    write("german", K0, wrong=[0, 0, 3, 7])
    write("german", SCRATCH)
    table = tables.worst(Study(scale), scale.languages[0], count=2)
    assert [(row["data"], row["predicted"], row["LER (%)"], row["WER (%)"]) for row in table.rows] == [
        ("de_dev", "xxxxxxxhij", 70, 100), ("de_dev", "xxxdefghij", 30, 100),
        ("de_test", "xxxxxxxhij", 70, 100), ("de_test", "xxxdefghij", 30, 100),
    ]  # fmt: skip
    assert table.rows[0]["loss (nats)"] == 100


def test_reports_without_data_and_with_little(scale, write):
    assert "not testable here" in page.write(scale).read_text()
    write("german", UNFROZEN, seeds=[0], finished=False)
    path = scale.run(Study(scale).scale.cells()[0])
    content = page.write(dataclasses.replace(scale, only="unfreezing")).read_text()
    assert "Freezing first, then training all" in content and "running" in content and "One seed." in content
    assert "Table 1" not in content and not path.exists()


def test_a_partial_line_is_ignored(scale, write):
    write("german", K0, seeds=[0], finished=False)
    log = Path(scale.out) / "runs" / "german_k0_seed0" / "metrics.jsonl"
    complete = len(metrics_log.read(log.parent))
    log.write_text(log.read_text() + '{"kind": "train", "step": 101, "lo')
    assert len(metrics_log.read(log.parent)) == complete
