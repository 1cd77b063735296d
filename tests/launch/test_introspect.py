"""launch/introspect.py: missing inputs are reported before any work, and files are written where the options say."""

import csv
import importlib
import json
from html.parser import HTMLParser

import jax
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.launch.test_html import external
from w2l_jax import model, transfer
from w2l_jax.alphabet import preset
from w2l_jax.errors import UserError
from w2l_jax.run import Run
from w2l_jax.training.options import TrainOptions

FILES = ["figure7.png", "figure8.png", "filters.csv", "filters.png", "index.html", "introspection.json", "layers.csv"]


class Tables(HTMLParser):
    """The tables of a page by caption: lists of rows, the head first."""

    def __init__(self, text: str):
        super().__init__()
        self.tables, self.inside, self.caption = {}, "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.inside = tag if tag in ("caption", "th", "td") else "th" if tag == "button" else self.inside
        if tag == "tr":
            self.tables[self.caption].append([])
        if tag in ("th", "td"):
            self.tables[self.caption][-1].append("")

    def handle_endtag(self, tag):
        self.inside = "" if tag in ("caption", "th", "td") else self.inside

    def handle_data(self, data):
        if self.inside == "caption":
            self.caption = data
            self.tables[data] = []
        elif self.inside in ("th", "td"):
            self.tables[self.caption][-1][-1] += data


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with an English run, a German one that was adapted from it, and `runs/latest`."""
    folder, size = tmp_path_factory.mktemp("introspect"), model.ModelConfig(width=6, top_width=8)
    for seed, language, init in ((0, "english", ""), (1, "german", "runs/english")):
        options = TrainOptions(init=init, model=size, frozen_layers="0")
        run = Run.create(folder / "runs" / language, options, preset(language))
        params = transfer.init(jax.random.key(seed), size, preset(language))
        run.save(7, params, None, {"step": 7}, best=None, keep=())
    (folder / "runs" / "latest").symlink_to("german")
    return folder


@pytest.fixture
def place(runs, monkeypatch):
    """That folder as the working directory, from which the script can be imported."""
    monkeypatch.chdir(runs)
    monkeypatch.syspath_prepend(str(ROOT / "launch"))
    return runs


def test_the_latest_run_beside_its_base(place, capsys):
    introspect = importlib.import_module("introspect")
    introspect.main(["--filters=3"])
    output = capsys.readouterr().out
    assert "german, step 7, against english, step 7 (base)" in output
    assert output.count("confirmed:") == 6 and output.count("not testable:") == 2
    folder = place / "runs" / "german" / "introspection"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    content = (folder / "index.html").read_text()
    assert "filter 3, chosen" in content and not external(content)
    tables = Tables(content).tables
    record = json.loads((folder / "introspection.json").read_text())
    for name, caption, count in (("layers", "Weights of each layer", 20), ("filters", "Filters, numbered from 1", 6)):
        rows = list(csv.reader((folder / f"{name}.csv").open()))
        assert rows == tables[caption] and len(rows) == 1 + count
        for row, full in zip(rows[1:], record[name], strict=True):
            for cell, value in zip(row, full.values(), strict=True):
                if isinstance(value, float):
                    assert float(cell) == pytest.approx(value, rel=1e-3)
    verdicts = [row[2] for row in tables["Claims and findings"][1:]]
    assert [f"{v}: {c['claim']}" for v, c in zip(verdicts, record["claims"], strict=True)] == [
        line for line in output.splitlines() if line.startswith(tuple(verdicts))
    ]
    assert np.array(record["histograms"]["weights"][record["base"]]).sum(axis=1) == pytest.approx(np.ones(10))
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in FILES if name.endswith(".png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run=runs/none"], "runs/none: not a run"),
        (["--run=runs/english"], "trained from scratch"),
        (["--filters=7"], "filters 1 to 6"),
        (["--out=runs/german/run.json"], "a file; name a folder"),
    ],
)
def test_bad_options_stop_before_any_work(place, arguments, message):
    introspect = importlib.import_module("introspect")
    with pytest.raises(UserError, match=message):
        introspect.main(arguments)
