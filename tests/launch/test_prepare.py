"""launch/prepare.py on corpora, as a user calls it, but in this process."""

import json
import re
import runpy
import sys
import types

import numpy as np
import pytest
import soundfile

from deliveries import catalog
from tests.conftest import ROOT
from w2l_jax.dataset.store import open_dataset

SPEAKERS = 12


def write(folder, name, count=24, start=0, **fields):
    """A manifest of `count` recordings of a third of a second by twelve speakers."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(start, start + count):
        noise = np.random.default_rng(i).uniform(-0.5, 0.5, 5000 + 100 * i)
        soundfile.write(folder / f"{name}{i}.wav", noise, 16000)
        line = {"audio_filepath": f"{name}{i}.wav", "text": "Ja, so.", "speaker": f"s{i % SPEAKERS}", "lang": "de"}
        lines.append(json.dumps(line | fields))
    (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder / f"{name}.jsonl"


@pytest.fixture
def launch(capsys, monkeypatch, tmp_path):
    """Runs the script in the test's folder; returns the exit code and its output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["prepare.py", "--workers=1", *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(ROOT / "launch" / "prepare.py"), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        output = capsys.readouterr()
        return code, output.out + output.err

    return run


def test_a_corpus_gives_three_datasets(launch, tmp_path):
    source = write(tmp_path / "c", "a")
    (tmp_path / "c" / "a3.wav").write_bytes(b"broken")
    code, output = launch("--corpus=manifest", f"--source={source}", "--out=out", "--summary", "--summary_out=t/sum")
    assert code == 0, output
    sides = {split: open_dataset(tmp_path / "out" / split) for split in ("train", "dev", "test")}
    assert sum(map(len, sides.values())) == 23
    assert {name for side in sides.values() for name in side.speakers} == {f"s{i}" for i in range(SPEAKERS)}
    assert sum(len(side.speakers) for side in sides.values()) == SPEAKERS
    assert {side.language for side in sides.values()} == {"german"}
    rows = [json.loads(line) for line in (tmp_path / "out/excluded.jsonl").read_text().splitlines()]
    assert [(row["id"], row["reason"]) for row in rows] == [("a3", "unreadable audio")]
    assert "written: t/sum.csv, t/sum_labels.csv, t/sum.md" in output
    assert "a        0.00        12          23" in output
    assert (tmp_path / "t/sum_labels.csv").read_text().startswith("label,a\nspace,23\na,23\n")
    again, output = launch("--corpus=manifest", f"--source={source}", "--out=out")
    assert again == 0
    assert output.count("already prepared") == 3


def test_some_splits_and_parts(launch, tmp_path):
    source = write(tmp_path / "c", "a")
    arguments = ["--corpus=manifest", f"--source={source}", "--out=out", "--dev_fraction=0"]
    assert launch(*arguments, "--splits=test")[0] == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"test", "excluded.jsonl"}
    code, output = launch(*arguments, "--splits=train", "--shard=1/2")
    assert (code, output) == (
        0,
        "part 1/2 is written; the command that finishes last writes the index\n",
    )
    assert not (tmp_path / "out/train/prepared.json").exists()
    assert launch(*arguments, "--shard=0/2")[0] == 0
    assert len(open_dataset(tmp_path / "out/train")) + len(open_dataset(tmp_path / "out/test")) == 24
    code, output = launch(*arguments, "--splits=dev")
    assert (code, output) == (1, "error: there are no utterances for --splits=dev\n")


def test_corpora_of_a_file_are_mixed(launch, tmp_path):
    write(tmp_path / "data" / "x", "a")
    write(tmp_path / "data" / "y", "b", start=30)
    (tmp_path / "two.toml").write_text(
        'language = "german"\ndev_fraction = 0.0\nmax_seconds = 0.45\n'
        '[[corpora]]\ncorpus = "manifest"\nsource = "x/a.jsonl"\n'
        '[[corpora]]\ncorpus = "manifest"\nsource = "y/b.jsonl"\n[features]\nmels = 40\n'
    )
    code, output = launch("--config=two.toml", "--source=data", "--out=out", "--max_seconds=0.5")
    assert code == 0, output
    train, test = (open_dataset(tmp_path / "out" / split) for split in ("train", "test"))
    assert not (tmp_path / "out/dev").exists()
    assert {entry.source for entry in train.entries} == {"a", "b"}
    assert {entry.id[:2] for entry in train.entries} == {"a-", "b-"}
    assert not train.speakers & test.speakers
    assert train.features.mels == 40
    # The command line overrides the file: 8000 samples, not 7200.
    assert max(entry.duration for entry in (*train.entries, *test.entries)) == pytest.approx(0.5)
    code, output = launch("--config=two.toml", "--out=p")
    assert code == 1 and "x/a.jsonl: no such manifest" in output


PARTITUR = """LHD: Partitur 1.3\nREP: here\nSNB: 2\nSAM: 16000\nSBF: 01\nSSB: 16\nNCH: 1\nSPN: s1\nLBD:
ORT: 0 Eins\nORT: 1 zwei\nMAU:\t8000\t15999\t0\ta\nMAU:\t24000\t39999\t-1\t<p:>\nMAU:\t64000\t15999\t1\tb
"""


def test_long_recordings_of_a_corpus_with_word_times(launch, tmp_path):
    """Words from 0.5 to 1.5 s and from 4 to 5 s of six: two pieces of two seconds, and half a second at either end."""
    (tmp_path / "PD1" / "s1").mkdir(parents=True)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 96000)
    soundfile.write(tmp_path / "PD1" / "s1" / "long.wav", samples, 16000)
    (tmp_path / "PD1" / "s1" / "long.par").write_text(PARTITUR)
    arguments = ["--corpus=pd1", "--source=PD1", "--max_seconds=4"]
    assert "all 1 utterances were excluded" in launch(*arguments, "--out=whole")[1]
    code, output = launch(*arguments, "--out=cut", "--split_long")
    assert code == 0, output
    assert output.startswith("note: pd1: 1 recordings over 4 s were cut into 2 pieces\n")
    entries = open_dataset(tmp_path / "cut/train").entries
    expected = [("long-001", "eins", "s1", 2.0), ("long-002", "zwei", "s1", 2.0)]
    assert [(e.id, e.transcript, e.speaker, e.duration) for e in entries] == expected
    rows = [json.loads(line) for line in (tmp_path / "cut/train/index.jsonl").read_text().splitlines()]
    assert [(row["start"], row["end"]) for row in rows] == [(0.0, 2.0), (3.5, 5.5)]
    code, output = launch(*arguments, "--dry_run", "--split_long")
    assert code == 0 and "cut into 2 pieces" in output


def test_dry_run_reads_no_audio(launch, tmp_path):
    source = write(tmp_path / "c", "a", text="Größe 7")
    for path in (tmp_path / "c").glob("*.wav"):
        path.unlink()
    arguments = ["--corpus=manifest", f"--source={source}", "--dry_run"]
    code, output = launch(*arguments)
    assert code == 1 and "characters outside the alphabet" in output
    code, output = launch(*arguments, "--spell_numbers")
    assert code == 0, output
    assert "corpus  hours  speakers  utterances  train utterances" in output
    assert "space           24" not in output and "\nß " in output and "\nn " in output  # sieben
    unknown = write(tmp_path / "d", "b", count=4, text="Größe 7", lang="ksh")
    code, output = launch("--corpus=manifest", f"--source={unknown}", "--dry_run", "--alphabet_from_data")
    assert (code, output.splitlines()[0]) == (0, """alphabet: " '7egrßö\"""")
    assert not (tmp_path / "out").exists()


def test_the_corpus_of_the_documentation(launch, tmp_path, monkeypatch):
    """The module and the line of the catalog in docs/CORPORA.md, "Your own corpus", as printed there."""
    module, line = re.findall("```python\n(.*?)```", (ROOT / "docs" / "CORPORA.md").read_text("utf-8"), re.DOTALL)
    mine = types.ModuleType("deliveries.mine")
    exec(module, vars(mine))
    monkeypatch.setitem(sys.modules, mine.__name__, mine)
    for name, corpus in eval(f"{{{line}}}", vars(catalog)).items():
        monkeypatch.setitem(catalog.CORPORA, name, corpus)
    write(tmp_path / "c", "a", count=6)
    lines = [f"a{i}\ts{i}\tJa, so.\n" for i in range(1, 7)]
    (tmp_path / "c" / "index.txt").write_text("".join(lines))
    code, output = launch("--corpus=mine", "--source=c", "--out=out", "--summary")
    assert code == 0, output
    assert re.search(r"^My corpus +0\.00 +5 +5 ", output, re.MULTILINE)
    rows = [json.loads(line) for line in (tmp_path / "out/excluded.jsonl").read_text().splitlines()]
    assert {(row["id"], row["reason"]) for row in rows} == {("a0", "no transcript"), ("a6", "missing audio")}
    assert "skipped 2 rows and files that gave no utterance, listed in out/excluded.jsonl:" in output
    assert "    a6: missing audio: " in output
    (tmp_path / "c" / "index.txt").write_text("a1 s1 Ja, so.\n")
    code, output = launch("--corpus=mine", "--source=c", "--out=out")
    assert code == 1 and "c/index.txt:1: not an id, a speaker and words" in output


def texts(folder, rows, **fields):
    """A manifest of texts, each with one recording."""
    soundfile.write(folder / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 48000), 16000)
    lines = [{"audio_filepath": "a.wav", "id": f"u{i}", "text": text} | fields for i, text in enumerate(rows)]
    (folder / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "m.jsonl"


def test_a_preview_writes_nothing(launch, tmp_path):
    source = texts(tmp_path, ["[noise] So we went.", "Café «so»", "№ 9", "(laughs)", *["and so on"] * 30])
    before = sorted(tmp_path.iterdir())
    code, output = launch(f"--manifest={source}", "--language=en", "--preview", "--unknown_characters=drop_utterance")
    assert code == 0, output
    assert sorted(tmp_path.iterdir()) == before
    assert len(re.findall("^    transcript  ", output, re.MULTILINE)) == 20
    code, output = launch(f"--manifest={source}", "--language=en", "--preview=100")
    assert code == 0, output
    assert "    text        [noise] So we went.\n    transcript  so we went\n" in output
    assert "    text        Café «so»\n    transcript  cafe so\n" in output
    assert "    '№' in 1 texts, outside the alphabet, such as u2: № 9" in output
    assert "skipped: 2 of 34" in output and "1 unknown characters, the first u2: 9, № in '№ 9'" in output
    assert "1 empty text, the first u3: nothing is left of the text '(laughs)'" in output


def test_one_broken_row_is_listed_and_skipped_unless_strict(launch, tmp_path):
    source = texts(tmp_path, ["yes"] * 9)
    source.write_text(source.read_text().replace('"text": "yes"', '"text": null', 1))
    code, output = launch(f"--manifest={source}", "--out=strict", "--strict")
    assert code == 1 and "m.jsonl:1: 'text' is missing" in output and "(--max_skipped)" in output
    code, output = launch(f"--manifest={source}", "--out=out")
    assert code == 0 and "kept 8 utterances" in output and "skipped 1" in output, output
    (row,) = [json.loads(line) for line in (tmp_path / "out/excluded.jsonl").read_text().splitlines()]
    assert (row["reason"], row["message"].split(": ")[0]) == ("malformed row", f"{source}:1")
    code, output = launch("--corpus=manifest", f"--source={source}", "--language=en", "--as=test", "--out=corpus")
    assert code == 0, output
    assert [json.loads(line)["reason"] for line in (tmp_path / "corpus/excluded.jsonl").open()] == ["malformed row"]
    assert len(open_dataset(tmp_path / "corpus/test")) == 8


def test_a_manifest_that_was_edited_replaces_its_dataset(launch, tmp_path):
    """But a dataset with other options or of another manifest is refused."""
    source = texts(tmp_path, ["yes"] * 3)
    command = (f"--manifest={source}", "--out=out")
    assert launch(*command)[0] == 0
    source.write_text(source.read_text().replace("yes", "no", 1))
    code, output = launch(*command)
    assert code == 0 and "has changed since" in output and "kept 3 utterances" in output, output
    assert sorted(entry.transcript for entry in open_dataset(tmp_path / "out").entries) == ["no", "yes", "yes"]
    assert launch(*command)[1].rstrip().endswith("prepared from the same input")
    other = source.with_name("other.jsonl")
    other.write_text(source.read_text())
    for refused in ((*command, "--max_seconds=20"), (f"--manifest={other}", "--language=de", "--out=out")):
        code, output = launch(*refused)
        assert code == 1 and "other input or options" in output


def test_the_language_is_taken_from_the_manifests_rows(launch, tmp_path):
    source = texts(tmp_path, ["schön"])
    code, output = launch(f"--manifest={source}", "--out=unmarked")
    assert code == 0 and "no `lang`" in output and "(english)" in output
    row = json.loads(source.read_text())
    source.write_text(json.dumps(row | {"lang": "de"}) + "\n")
    code, output = launch(f"--manifest={source}", "--out=marked")
    assert code == 0 and "no `lang`" not in output and "(german)" in output, output


def test_a_whole_source_as_one_split(launch, tmp_path):
    source = texts(tmp_path, ["yes", "no", "so"], split="train")
    code, output = launch("--corpus=manifest", f"--source={source}", "--language=en", "--as=test", "--out=out")
    assert code == 0, output
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["excluded.jsonl", "test"]
    assert {entry.split for entry in open_dataset(tmp_path / "out/test").entries} == {"test"}


def test_pieces_of_a_recording(launch, tmp_path):
    soundfile.write(tmp_path / "talk.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 12 * 16000), 16000)
    rows = [(0.0, 4.0, "the first"), (4.0, 3.0, "then"), (7.0, 5.0, "and the last")]
    lines = [{"audio_filepath": "talk.wav", "offset": a, "duration": n, "text": text} for a, n, text in rows]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    code, output = launch("--manifest=m.jsonl", "--language=en", "--out=out")
    assert code == 0, output
    found = [(entry.id, entry.duration, entry.transcript) for entry in open_dataset(tmp_path / "out").entries]
    assert found == [
        ("talk-0000000", 4.0, "the first"), ("talk-0004000", 3.0, "then"), ("talk-0007000", 5.0, "and the last")
    ]  # fmt: skip


def test_tags_are_kept_on_request(launch, tmp_path):
    source = texts(tmp_path, ["[noise] so", "yes"])
    for tags, transcripts in {"drop": ["so", "yes"], "keep": ["noise so", "yes"], "skip_utterance": ["yes"]}.items():
        code, output = launch(f"--manifest={source}", "--language=en", f"--out={tags}", f"--tags={tags}")
        assert code == 0, output
        assert ("1 texts hold unspoken marks, which are dropped (--tags): [noise] (1)" in output) == (tags == "drop")
        assert [entry.transcript for entry in open_dataset(tmp_path / tags).entries] == transcripts


def test_bad_commands(launch, tmp_path):
    source = write(tmp_path / "c", "a", count=2)
    corpus = ["--corpus=manifest", f"--source={source}", "--out=out"]
    cases = {
        (): "give --out",
        ("--out=out",): "nothing to prepare: give --manifest=",
        ("--corpus=alc", "--out=out"): "nothing to prepare",
        ("--corpus=alk", "--source=x", "--out=out"): "unknown corpus 'alk'; known: ",
        (*corpus, "--splits=train,eval"): "--splits=train,eval: give some of train,dev,test",
        (*corpus, "--shard=2/2"): "the parts of n = 4 are 0/4",
        (*corpus, "--shard=half"): "--shard=half: give i/n",
        (*corpus, "--include_dev"): "manifest does not take --include_dev",
        (*corpus, "--config=none.toml"): "none.toml: no such configuration",
    }
    for arguments, message in cases.items():
        code, output = launch(*arguments)
        assert (code, "Traceback" in output) == (1, False), (arguments, output)
        assert message in output, (arguments, output)
    assert not (tmp_path / "out").exists()
