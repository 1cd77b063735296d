from pathlib import Path

import numpy as np
import pytest
import soundfile

from preparing import summary
from w2l_jax.corpora import Utterance
from w2l_jax.dataset.prepare import PrepareConfig, prepare

DROP = PrepareConfig(unknown_characters="drop_utterance", max_seconds=15.0)
SKIPPED = [{"id": "z", "audio": "z.wav", "source": "ALC", "reason": "no | transcript", "message": ""}]


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """Two corpora; the numbers in their tables are computed by hand below."""
    folder = tmp_path_factory.mktemp("audio")
    for seconds in (9, 18):
        soundfile.write(folder / f"{seconds}.wav", np.zeros(16000 * seconds, np.int16), 16000)

    def make_utterance(name, text, speaker, source, seconds=9):
        return Utterance(name, folder / f"{seconds}.wav", text, speaker, "en", "", source)

    return {
        "train": [
            make_utterance("a", "Ab b", "s1", "ALC"),
            make_utterance("b", "b", "s1", "ALC"),
            make_utterance("c", "c", "s1", "PD1"),
            make_utterance("d", "?!", "s2", "ALC"),
            make_utterance("e", "a", "s2", "ALC", seconds=18),
        ],
        "test": [
            make_utterance("f", "a", "", "ALC"),
            make_utterance("g", "№", "s3", "PD1"),
            make_utterance("h", "a", "s3", "PD1"),
        ],
    }


CORPORA = [
    ["corpus", "hours", "speakers", "utterances", "train hours", "test hours", "skipped"],
    ["ALC", "0.01", "1", "3", "0.01", "0.00", "3"],
    ["PD1", "0.01", "2", "2", "0.00", "0.00", "1"],
    ["all", "0.01", "3", "5", "0.01", "0.01", "4"],
]
REASONS = [["empty text", "no | transcript", "too long", "unknown characters"], *["1110", "0001", "1111"]]
LABELS = [
    ["label", "ALC", "PD1", "all"],
    ["space", "1", "0", "1"],
    ["a", "2", "1", "3"],
    ["b", "3", "0", "3"],
    ["c", "0", "1", "1"],
    ["total", "6", "2", "8"],
]


def test_of_prepared_data(splits, tmp_path):
    datasets = {split: prepare(part, tmp_path / split, DROP, workers=1) for split, part in splits.items()}
    found = summary.of_datasets(datasets, SKIPPED)
    assert summary.corpora_table(found) == [[*row, *more] for row, more in zip(CORPORA, REASONS, strict=True)]
    assert summary.labels_table(found) == LABELS
    stem = tmp_path / "reports" / "german.v1"
    assert [path.name for path in summary.write(found, stem)] == [
        "german.v1.csv",
        "german.v1_labels.csv",
        "german.v1.md",
    ]
    lines = (tmp_path / "reports/german.v1.csv").read_text().splitlines()
    assert lines[1] == "ALC,0.01,1,3,0.01,0.00,3,1,1,1,0"
    assert (tmp_path / "reports/german.v1_labels.csv").read_text().splitlines()[1] == "space,1,0,1"
    markdown = (tmp_path / "reports/german.v1.md").read_text().splitlines()
    assert markdown[0].startswith("| corpus | hours | speakers") and r"no \| transcript" in markdown[0]
    assert markdown[1] == "| --- " + "| ---: " * 10 + "|"
    assert markdown[6] == "| label | ALC | PD1 | all |"


def test_of_texts_alone(splits):
    absent = {s: [Utterance(u.id, Path("x"), u.text, u.speaker, "en", "", u.source) for u in splits[s]] for s in splits}
    table = summary.corpora_table(summary.of_texts(absent, DROP, SKIPPED))
    assert table == [
        [
            *("corpus", "hours", "speakers", "utterances", "train utterances", "test utterances", "skipped"),
            *("empty text", "no | transcript", "unknown characters"),
        ],
        ["ALC", "", "2", "4", "3", "1", "2", "1", "1", "0"],
        ["PD1", "", "2", "2", "1", "1", "1", "0", "0", "1"],
        ["all", "", "4", "6", "4", "2", "3", "1", "1", "1"],
    ]
    assert summary.corpora_table(summary.of_texts(absent, PrepareConfig(), SKIPPED)) == table


def test_text_is_aligned():
    assert summary.as_text([["corpus", "h"], ["a", "1.00"], ["long name", "12.00"]]) == (
        "corpus         h\na           1.00\nlong name  12.00"
    )


def test_one_corpus_has_no_line_for_all(splits):
    found = summary.of_texts({"": splits["train"][:2]}, PrepareConfig())
    assert summary.corpora_table(found) == [
        ["corpus", "hours", "speakers", "utterances", "skipped"],
        ["ALC", "", "1", "2", "0"],
    ]
