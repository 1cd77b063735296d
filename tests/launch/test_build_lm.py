"""launch/build_lm.py as a user calls it, but in this process."""

import json
import runpy
import sys

import pytest

from tests.conftest import ROOT
from tests.decoding.conftest import ARPA
from w2l_jax.lm.language_model import LanguageModel


@pytest.fixture
def launch(capsys, monkeypatch, tmp_path):
    """Runs the script in a folder with texts; returns the exit code and its output."""
    monkeypatch.chdir(tmp_path)
    content = "Der Hund bellt. Um 12 schläft er.\nDie Katze schläft.\nDie Katze schläft.\n"
    (tmp_path / "a.txt").write_text(content, "utf-8")
    texts = ["Straße", "Grün ist der Hund", "Die Katze schläft.", "Die Katze schläft!"]
    lines = [json.dumps({"audio_filepath": f"u{i}.wav", "text": text}) for i, text in enumerate(texts)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines), "utf-8")
    (tmp_path / "dev.jsonl").write_text(lines[3], "utf-8")
    (tmp_path / "a.arpa").write_text(ARPA)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["build_lm.py", *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(ROOT / "launch" / "build_lm.py"), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        output = capsys.readouterr()
        return code, output.out + output.err

    return run


def test_text_and_transcripts_become_a_language_model(launch, tmp_path):
    options = ["--text=a.txt,*in.jsonl", "--order=3", "--out=lm/german", "--held_out=dev.jsonl"]
    code, output = launch(*options, "--language=de")
    assert code == 0, output
    card = json.loads((tmp_path / "lm/german/card.json").read_text("utf-8"))
    assert (card["sentences"], card["words"], card["held_out"], card["repeated_lines"]) == (6, 18, 1, 1)
    assert "zwölf" in LanguageModel(tmp_path / "lm/german").words
    for line in (
        "lm/german\n",
        "text                 18 words in 6 sentences",
        "a.txt: 10 words in 3 sentences",
        "train.jsonl: 8 words in 3 sentences",
        "excluded by id       1 utterances, of 1 held out",
        "excluded by text     0 sentences of text files, for 0 texts to exclude",
        "repeats              1 lines of plain text (skipped), 0 utterances (kept)",
        "model                order 3, not pruned, discounts guessed (little text)",
        f"on held-out text     perplexity {card['evaluation']['perplexity']:.1f}; 0.00% of the words unknown",
    ):
        assert line in output
    assert launch(*options, "--language=de") == (code, output)
    code, output = launch(*options, "--language=de", "--no_spell_numbers", "--exclude_matching=dev.jsonl")
    assert "1 sentences, skipped: 1 (1), 2 (1)" in output
    assert "excluded by text     1 sentences of text files, for 1 texts to exclude" in output
    # The prompt that is read twice is counted as often as it occurs in the training data.
    assert json.loads((tmp_path / "lm/german/card.json").read_text("utf-8"))["sources"][1]["sentences"] == 3


def test_a_run_determines_alphabet_and_language(launch, tmp_path):
    for run in (["--run=english"], ["--language=en"]):
        code, output = launch("--text=a.txt", "--out=lm", *run)
        assert code == 0, output
    card = json.loads((tmp_path / "lm/card.json").read_text("utf-8"))
    assert (card["made_from"]["alphabet"], card["made_from"]["numbers"]) == ("abcdefghijklmnopqrstuvwxyz '", "english")


def test_an_existing_model_is_reused(launch, tmp_path):
    code, output = launch("--arpa=a.arpa", "--language=en", "--out=lm")
    assert code == 0, output
    assert "a.arpa, order 2, unchanged" in output
    assert "n-grams              6 + 4" in output
    assert "on held-out text     not measured" in output
    assert LanguageModel(tmp_path / "lm").words == ["a", "ab", "ba"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text=none.txt", "--language=de"], "none.txt: no such text"),
        (["--text=a.txt", "--language=tlh"], "--language=tlh: tlh has no preset alphabet; give --run="),
        (["--text=a.txt"], "either --language"),
        (["--text=a.txt", "--language=de", "--run=runs/a"], "either --language"),
        (["--text=a.txt", "--run=here"], "no such file, run folder"),
        (["--text=a.txt", "--language=de", "--held_out=none.jsonl"], "none.jsonl"),
        (["--text=a.txt", "--language=de", "--exclude_matching=none.jsonl"], "none.jsonl"),
        (["--text=a.txt", "--language=de", "--order=9"], "order is 9"),
        (["--text=a.txt", "--language=de", "--memory=plenty"], "memory is 'plenty'"),
        (["--text=a.txt", "--language=de", "--temp_dir=nowhere"], "temp_dir is nowhere"),
        (["--language=de"], "give either --text"),
        (["--text=a.txt", "--arpa=a.arpa", "--language=en"], "give either --text"),
        (["--arpa=a.arpa", "--language=en", "--order=3", "--prune", "0", "1"], "omit --order, --prune"),
        (["--arpa=none.arpa", "--language=en"], "no such language model"),
        (["--text=a.txt", "--language=de", "--unigrams=a.txt"], "--unigrams lists"),
    ],
)
def test_errors_are_reported_before_any_work(options, message, launch, tmp_path):
    code, output = launch(*options, "--out=lm")
    assert code in (1, 2)  # 2 if a single option is invalid
    assert message in output and "Traceback" not in output
    assert not (tmp_path / "lm").exists() and not list(tmp_path.glob(".lm*"))
