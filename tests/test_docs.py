"""The documentation: every command parses, every option, file and link exists, every Python block runs."""

import importlib
import re
import shlex
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

import cli
from tests.conftest import ROOT
from w2l_jax import config

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "w2l_jax/pretrained/english.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/notebook").glob("*.md")),
]
SCRIPTS = sorted(path.stem for path in (ROOT / "launch").glob("*.py") if "cli.parse(" in path.read_text("utf-8"))
NO_OPTIONS = {"--option", "--optimizer", "--keep_old_language"}  # a word for any; former names in CHANGELOG.md
FOREIGN = "pip wikiextractor taskset espeak-ng git ruff srun apt-get curl"  # other programs with their own options

ids = {"ids": lambda path: str(path.relative_to(ROOT))}


class Parsed(Exception):  # noqa: N818 (no error)
    """Raised after parsing; other tests cover what the script does."""


def blocks(text: str, *kinds: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [content for kind, content in found if kind in kinds]


def inline(text: str) -> list[str]:
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Every `python launch/<script>.py` of a page as script and arguments, with its variables substituted."""
    shell = "\n".join([*blocks(text, "", "bash"), *inline(text)]).replace("\\\n", " ")
    variables = dict(re.findall(r'^([A-Z]+)="([^"]*)"', shell, re.MULTILINE))
    variables |= dict(re.findall(r"^([A-Z]+)=(\w\S*)$", shell, re.MULTILINE))
    shell = re.sub(r'^[A-Z]+="[^"]*"', "", shell, flags=re.MULTILINE)
    found = []
    for script, rest in re.findall(r"python launch/(\w+)\.py\b(.*)", shell):
        for _ in variables:
            rest = re.sub(r"\$([A-Z]+)", lambda name: " ".join(variables[name[1]].split()), rest)
        rest = re.sub(r"\$\(.*\)", "", rest)
        arguments = shlex.split(rest, comments=True)
        ends = [i for i, argument in enumerate(arguments) if argument in ("|", ">", "&&", "…")]
        arguments = arguments[: min(ends, default=len(arguments))]
        found.append((script, [argument for argument in arguments if "=…" not in argument]))
    return found


@pytest.fixture
def parse(monkeypatch):
    """Parses a command line and its configuration file as the script does, and stops there."""
    original, done = cli.parse, {}

    def parsed(*arguments, **options):
        original(*arguments, **options | {"fallback": lambda _: ""})  # there is no run to resume
        raise Parsed

    def command(script: str, arguments: list[str]) -> None:
        if (script, *arguments) in done:
            return
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
        with pytest.raises(Parsed):
            importlib.import_module(script).main()
        done[script, *arguments] = True

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cli, "parse", parsed)
    return command


@pytest.mark.parametrize("page", PAGES, **ids)
def test_every_command_parses(page, parse, capsys):
    for script, arguments in commands(page.read_text("utf-8")):
        try:
            parse(script, arguments)
        except SystemExit:
            pytest.fail(f"{script}.py {shlex.join(arguments)}\n{capsys.readouterr().err}")
        except Exception as error:
            pytest.fail(f"{script}.py {shlex.join(arguments)}: {error}")


@pytest.fixture(scope="module")
def known():
    """The options of all scripts and of the tools mentioned in the documentation."""
    found = {"--help", "--no-deps"}

    def collect(cls, argv=None, **_):
        found.update(f"--{name}" for name in config.names(cls))
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "parse", collect)
        for script in SCRIPTS:
            patch.setattr(sys, "argv", [f"{script}.py"])
            with pytest.raises(Parsed):
                importlib.import_module(script).main()
    return found | {"--model", "--as"}  # of python -m w2l_jax; a keyword of Python, so its field is as_split


@pytest.mark.parametrize("page", PAGES, **ids)
def test_every_option_in_a_sentence_exists(page, known):
    for code in inline(page.read_text("utf-8")):
        if code.split()[0] in FOREIGN.split():
            continue
        for option in re.findall(r"(?<![\w-])--[a-z][\w.]*\w", code):
            assert option in known | NO_OPTIONS or any(name.startswith(f"{option}.") for name in known), code


@pytest.mark.parametrize("page", PAGES, **ids)
def test_every_file_and_link_exists(page):
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    code = "\n".join([*blocks(text, "", "bash"), *inline(text)])
    files = re.findall(
        r"(?<![\w./])((?:launch|configs|docs|tests|examples|w2l_jax)/[\w./-]+\.(?:py|toml|md|png))", code
    )
    for name in files:
        assert (ROOT / name).exists() or Path(name).stem == "mine", name
    for target in re.findall(r"(?:^|`)make (?:PYTHON=\S+ )?([a-z-]+)", code, re.MULTILINE):
        assert re.search(
            rf"^{target}:", (ROOT / "Makefile").read_text() + (ROOT / "lmplz.mk").read_text(), re.MULTILINE
        )


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_extra_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in PAGES:
        for names in re.findall(r"(?:\.|w2l_jax)\[([\w,]+)\]'", page.read_text("utf-8")):
            assert set(names.split(",")) <= set(extras), page


@pytest.mark.parametrize("name", ["README.md", "docs/LIBRARY.md"])
def test_every_python_block_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for recording in ("hello.wav", "talk.mp3"):
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, 16_000)
        soundfile.write(recording, noise, 16_000, format=recording[-3:].upper())
    found = blocks((ROOT / name).read_text("utf-8"), "python")
    assert found
    for block in found:
        exec(block, {})


def test_the_readme_is_short_and_names_the_cards_commands():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    assert "python launch/train.py --frozen_layers=8" in text and "python launch/decode.py" in text


def test_the_readme_names_every_command():
    text = (ROOT / "README.md").read_text("utf-8")
    assert [script for script in SCRIPTS if f"`launch/{script}.py`" not in text] == []
