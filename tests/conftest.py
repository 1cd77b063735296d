"""Fixtures that every test may use: speech-like tones with transcripts, and quick ways to train on them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings

# The first call of a jitted function compiles, which no deadline survives; seeds are fixed so that CI is repeatable.
settings.register_profile("w2l", deadline=None, derandomize=True)
settings.load_profile("w2l")

# The same small programs are compiled in many tests and in the scripts that tests start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

ROOT = Path(__file__).resolve().parents[1]
WORDS = ["ab", "ba", "cab", "bad", "dab", "cad", "add", "dad", "baba", "abc"]


def speak(text: str, rng: np.random.Generator) -> np.ndarray:
    """Each letter is a tone of its own of 60 to 90 ms, each space a pause: the easiest speech to learn."""
    parts = []
    for char in text:
        t = np.arange(int(rng.uniform(0.06, 0.09) * 16000)) / 16000
        tone = 0 if char == " " else 0.3 * np.sin(2 * np.pi * 300 * (1 + ord(char) - ord("a")) * t)
        parts.append(tone * np.hanning(len(t)))
    waveform = np.concatenate(parts)
    return (waveform + 0.01 * rng.standard_normal(len(waveform))).astype(np.float32)


def write_corpus(folder: Path, name: str, count: int, speakers: int, seed: int = 0, lang: str = "en") -> Path:
    """Writes `count` utterances of one to four words and their manifest, which is returned."""
    rng = np.random.default_rng(seed)
    audio = folder / name
    audio.mkdir(parents=True)
    lines = []
    for i in range(count):
        text = " ".join(rng.choice(WORDS, rng.integers(1, 5)))
        path = audio / f"{name}_{i:03d}.wav"
        soundfile.write(path, speak(text, rng), 16000)
        record = {"audio_filepath": f"{name}/{path.name}", "text": text, "lang": lang}
        lines.append(json.dumps({**record, "speaker": f"{name}-{i % speakers}", "source": f"corpus{i % 2}"}))
    manifest = folder / f"{name}.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    """A folder with train.jsonl (48 utterances), dev.jsonl (12), german.jsonl (24) and german_dev.jsonl (12)."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, "train", 48, 6)
    write_corpus(folder, "dev", 12, 3, seed=1)
    write_corpus(folder, "german", 24, 4, seed=2, lang="de")
    write_corpus(folder, "german_dev", 12, 3, seed=3, lang="de")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """A cache of prepared data that all tests share."""
    return tmp_path_factory.mktemp("prepared")


def launch(script: str, *arguments: str, cwd: Path, env: dict[str, str] | None = None, **options):
    """Runs a launch script as a user would; returns the finished process with its output as text."""
    command = [sys.executable, str(ROOT / "launch" / script), *map(str, arguments)]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, **options)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of a size such as `1m` and returns its folder; skips the test if that is not allowed."""
    mounted = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a file system is not allowed here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


def read_only(folder: Path) -> None:
    """Makes a file system mounted by `small_disk` read-only."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
