"""Miniature deliveries of corpora, written by tests: recordings, annotations and mutations of them."""

import json
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import strategies as st

from deliveries.bas.annotation import Annotation, Word
from tests.launch.deliveries.bas.writers import write_partitur

TONE = (0.3 * np.sin(np.arange(4000) / 5)).astype(np.float32)


def audio(path: Path) -> Path:
    """Writes a quarter of a second of sound as WAV, FLAC or NIST sphere, depending on the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".wav": "WAV", ".flac": "FLAC", ".nis": "NIST"}[path.suffix.lower()]
    soundfile.write(path, TONE, 16000, format=kind, subtype="PCM_16")
    return path


def file(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def par(text: str, **options) -> str:
    """A Partitur file with the words of `text` and nothing else."""
    return write_partitur(Annotation(tuple(map(Word, text.split())), rate=16000, **options))


def annot(text: str, **document) -> str:
    """An EMU annotation with the words of `text` and nothing else."""
    items = [{"id": i, "labels": [{"name": "ORT", "value": word}]} for i, word in enumerate(text.split())]
    levels = [{"name": "ORT", "type": "ITEM", "items": items}]
    return json.dumps({"sampleRate": 16000, "levels": levels, "links": [], **document}, ensure_ascii=False)


def mutations(contents: list[bytes]) -> st.SearchStrategy[bytes]:
    """One of `contents` with up to eight pieces removed, inserted or replaced, perhaps by a piece of itself."""
    junk = st.binary(max_size=8) | st.sampled_from([b"\n", b"\t", b"-1", b'"', b"}", b"]", b"<", b"1e999", b"9" * 400])

    @st.composite
    def mutated(draw):
        content = draw(st.sampled_from(contents))
        for _ in range(draw(st.integers(1, 8))):
            i, j = sorted(draw(st.integers(0, len(content))) for _ in range(2))
            j = min(j, i + draw(st.sampled_from([0, 1, 10, 10_000])))
            k = draw(st.integers(0, len(content)))
            content = content[:i] + draw(st.one_of(junk, st.just(content[k : k + 30]))) + content[j:]
        return content

    return mutated()
