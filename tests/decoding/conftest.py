import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lm_building import build as lm
from lm_building.kenlm_tools import tool
from w2l_jax.alphabet import Alphabet
from w2l_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

# A bigram model to compute with by hand: log10 P(a|<s>) = -0.3, P(ba|<s>) = backoff(<s>) + unigram(ba) = -0.3 - 1.1, …
ARPA = """\\data\\
ngram 1=6
ngram 2=4

\\1-grams:
-1.5\t<unk>\t0
0\t<s>\t-0.3
-0.7\t</s>\t0
-0.6\ta\t-0.2
-0.9\tab\t-0.4
-1.1\tba\t-0.1

\\2-grams:
-0.3\t<s> a
-0.4\ta ba
-0.2\tab </s>
-0.5\tba a

\\end\\
"""


@pytest.fixture(scope="session")
def kenlm_tools():
    """KenLM's programs; the tests are skipped without them."""
    try:
        return tool("lmplz"), tool("build_binary")
    except UserError as error:
        pytest.fail(f"run `make lmplz` first ({error})", pytrace=False)


@pytest.fixture(scope="session")
def hand_lm(kenlm_tools, tmp_path_factory) -> Path:
    """The folder of the model above."""
    folder = tmp_path_factory.mktemp("hand_lm")
    (folder / "arpa").write_text(ARPA)
    subprocess.run([kenlm_tools[1], folder / "arpa", folder / "lm.bin"], check=True, capture_output=True)
    (folder / "unigrams.txt").write_text("a\nab\nba\n")
    (folder / "card.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def toy_lm(kenlm_tools, tmp_path_factory) -> Path:
    """A trigram model that lmplz made of random words over a, b, c and '."""
    folder = tmp_path_factory.mktemp("toy_lm")
    rng = np.random.default_rng(7)
    words = ["a", "b", "ab", "ba", "abc", "c'a", "cab", "bb"]
    lines = [" ".join(rng.choice(words, rng.integers(1, 6), p=_falling(len(words)))) for _ in range(200)]
    (folder / "text.txt").write_text("\n".join(lines) + "\n")
    lm.build([folder / "text.txt"], folder / "lm", Alphabet("abc '"), lm.LanguageModelConfig(order=3))
    return folder / "lm"


def _falling(count: int) -> np.ndarray:
    weights = 1 / np.arange(1, count + 1)
    return weights / weights.sum()


class Exhaustive:
    """Sums the probability of every path of every transcript, by enumeration of all V^T paths."""

    def __init__(self):
        self._paths = {}

    def __call__(self, log_probs_TxV: np.ndarray, characters: str) -> dict[str, float]:
        """Returns the natural log-probability of each sequence of words."""
        frames, labels = log_probs_TxV.shape
        key = characters, frames
        if key not in self._paths:
            paths_PxT = np.array(list(itertools.product(range(labels), repeat=frames)))
            texts = [_read(path, characters) for path in paths_PxT]
            self._paths[key] = paths_PxT, *np.unique(texts, return_inverse=True)
        paths_PxT, texts, text_P = self._paths[key]
        path_P = np.exp(log_probs_TxV[np.arange(frames), paths_PxT].sum(axis=1))
        return dict(zip(texts.tolist(), np.log(np.bincount(text_P, path_P)).tolist(), strict=True))


def _read(path, characters: str) -> str:
    labels = [label for label, _ in itertools.groupby(path) if label]
    return " ".join("".join(characters[label - 1] for label in labels).split())


@pytest.fixture(scope="session")
def exhaustive() -> Exhaustive:
    return Exhaustive()


def log_softmax(logits_TxV: np.ndarray) -> np.ndarray:
    return logits_TxV - np.log(np.exp(logits_TxV).sum(axis=1, keepdims=True))


def logits_for(labels: list[int], size: int, height: float = 20.0) -> np.ndarray:
    """Logits in which these labels, one per frame, are almost certain."""
    return height * np.eye(size, dtype=np.float32)[labels]


@pytest.fixture
def repository_without_kenlm(monkeypatch, tmp_path):
    """As on a machine where `make lmplz` has never run."""
    monkeypatch.setattr("lm_building.kenlm_tools._REPOSITORY", tmp_path)
    monkeypatch.delenv("W2L_JAX_KENLM_BIN", raising=False)
    folders = [f for f in os.environ["PATH"].split(os.pathsep) if not shutil.which("lmplz", path=f)]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))


def run_script(script: Path | str, *arguments, cwd: Path, **environment) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
