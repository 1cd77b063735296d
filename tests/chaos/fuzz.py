"""Reads mutated text, configurations, models, audio and weights in this process: only UserError may be raised."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from lm_building import arpa
from tests.chaos.faults import Findings, mutated
from tests.decoding.conftest import ARPA
from w2l_jax import audio, config, network_file
from w2l_jax.alphabet import preset
from w2l_jax.corpora import manifest
from w2l_jax.training.options import TrainOptions

ENGLISH = preset("english")
Read = Callable[[Path], object]

_JSONL = (
    '{"audio_filepath": "a.wav", "text": "one", "speaker": "anna", "lang": "en", "split": "train", "duration": 1.5}\n'
    '{"audio_filepath": "b/ä.wav", "text": "zwei", "offset": 0.5, "duration": 2, "id": "b"}\n'
    '{"audio_filepath": "a.wav", "text": "three", "start": 1.5, "end": 3.25, "source": "x"}\n'
)
_CSV = 'path,sentence,client_id,locale\na.wav,"one, two",anna,en\nb.wav,"say ""yes""",ben,en\n'
_TSV = "client_id\tpath\tsentence\tup_votes\tlocale\nanna\ta.mp3\tone two\t2\ten\nben\tb.mp3\tthree\t0\ten\n"
_TOML = """steps = 100
learning_rate = 1e-3
frozen_layers = "1-8"
[model]
width = 250
top_width = 2000
[data]
train = "a.jsonl"
unknown_characters = "drop_utterance"
cache = "prepared"
[optimizer]
name = "adam"
[augment]
speed = 0.1
"""


def _wav(path: Path) -> bytes:
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 400), 16000)
    return path.read_bytes()


def _safetensors(path: Path) -> bytes:
    arrays = {"layer_01": {"kernel": np.ones((3, 2, 2), np.float32), "bias": np.zeros(2, np.float32)}}
    path.unlink(missing_ok=True)
    network_file.write(path, arrays, {"alphabet": {"characters": "ab"}}, "A card.", "float32")
    return path.read_bytes()


def _read_arpa(path: Path) -> object:
    names = arpa.names(arpa.unigrams(path), ENGLISH)
    return arpa.rewrite(path, path.with_suffix(".new"), names.new, lambda position: None)


def _read_toml(path: Path) -> object:
    return config.to_toml(config.load(TrainOptions, path))


_ROWS = (
    b"{", b"[" * 2000, b'"text": null', b"true", b",", b"\t", b'"offset": 1e400', b"../../etc", b"\\ud800", b"\\u0000",
)  # fmt: skip
SUBJECTS: dict[str, tuple[str, Callable[[Path], bytes], Read, tuple[bytes, ...]]] = {
    "JSON lines": ("a.jsonl", lambda _: _JSONL.encode(), manifest.reading, _ROWS),
    "CSV": ("a.csv", lambda _: _CSV.encode(), manifest.reading, _ROWS),
    "TSV": ("a.tsv", lambda _: _TSV.encode(), manifest.reading, _ROWS),
    "TOML": (
        "a.toml", lambda _: _TOML.encode(), _read_toml,
        (b"[" * 2000, b"[data]", b"inf", b"{a=1}", b"=", b"\x7f", b"10:00"),
    ),
    "ARPA": (
        "a.arpa", lambda _: ARPA.encode(), _read_arpa,
        (b"\\end\\", b"ngram 9=9", b"\\data\\", b"\\2-grams:", b"\t", b"<s>"),
    ),
    "WAV": (
        "a.wav", _wav, audio.load,
        (b"data\xff\xff\xff\xff", b"RF64", b"ds64\x1c\0\0\0" + b"\xff" * 28, b"fmt ", b"LIST"),
    ),
    ".safetensors": (
        "a.safetensors", _safetensors, network_file.read,
        (b"[4294967296]", b"[0,18446744073709551615]", b"BF16", b"F64", b"F8_E4M3", b"U64", b"BOOL", b"I8"),
    ),
}  # fmt: skip


def fuzz(folder: Path, seed: int, count: int) -> Iterator[Findings]:
    """Reads `count` mutations of each subject."""
    for subject, (name, make, read, words) in SUBJECTS.items():
        path, findings = folder / name, Findings(f"mutated {subject}")
        content, rng = make(path), np.random.default_rng(seed)
        for number in range(count):
            hostile = mutated(content, rng, words)
            path.write_bytes(hostile)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                findings.attempt(lambda read=read, path=path: read(path), detail=f"number {number}: {hostile[:300]!r}")
        yield findings
