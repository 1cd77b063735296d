import json

import numpy as np
import pytest
import soundfile

from w2l_jax.corpora import manifest

WORDS = "one two three four five six seven eight nine ten".split()


def make_corpus(folder, count=24, seconds=0.5, **fields):
    """Writes `count` noisy recordings of different lengths and their manifest; returns the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(count):
        rng = np.random.default_rng(i)
        noise = rng.uniform(-0.5, 0.5, int(16000 * seconds * rng.uniform(0.7, 1.3)))
        soundfile.write(folder / f"u{i:03d}.wav", noise, 16000)
        text = f"{WORDS[i % 10].title()}, {WORDS[i // 10]}!"
        lines.append({"audio_filepath": f"u{i:03d}.wav", "text": text, "speaker": f"s{i % 5}", **fields})
    return write_manifest(folder / "corpus.jsonl", lines)


def write_manifest(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """The manifest of 24 recordings of about half a second. Tests must not change them."""
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def utterances(corpus):
    return manifest.read(corpus)
