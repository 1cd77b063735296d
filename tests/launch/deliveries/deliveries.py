"""Shared by the tests of readers: tiny recordings, and randomly damaged deliveries."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import strategies as st

from w2l_jax.corpora import Reading
from w2l_jax.errors import UserError

_FORMATS = {".opus": {"format": "OGG", "subtype": "OPUS"}}


def record(*paths: Path) -> None:
    """Writes a different tenth of a second of noise to each path, in the format of its suffix."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(list(path.name.encode())).integers(-9999, 9999, 1600, np.int16)
        soundfile.write(path, noise, 16000, **_FORMATS.get(path.suffix, {}))


def write(path: Path, text: str | bytes) -> Path:
    """Writes a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


_TOKENS = [
    b"\n",
    b"\r",
    b"\t",
    b" ",
    b"|",
    b"\0",
    b"\xff",
    b"../",
    b"/",
    b"-",
    b"-1",
    b"nan",
    b"\xef\xbb\xbf",
    "\u2028".encode(),
]
damages = st.lists(
    st.tuples(
        st.integers(0, 1000),
        st.sampled_from(["insert", "replace", "delete", "cut", "empty", "remove", "folder", "double"]),
        st.floats(0, 1),
        st.sampled_from(_TOKENS) | st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=3,
)


def damage(content: bytes, how: str, where: float, piece: bytes) -> bytes:
    """Returns `content` changed at the fraction `where` of its length."""
    at = round(where * len(content))
    return {
        "insert": content[:at] + piece + content[at:],
        "replace": content[:at] + piece + content[at + len(piece) :],
        "delete": content[:at] + content[at + len(piece) :],
        "cut": content[:at],
        "double": content + content[at:],
    }.get(how, b"")


def read_damaged(files: list[Path], changes: list[tuple], read: Callable[[], Reading]) -> Reading | None:
    """Damages some of `files`, reads them and restores them; returns None if reading raised UserError."""
    before = {path: path.read_bytes() for path in files}
    try:
        for number, how, where, piece in changes:
            path = files[number % len(files)]
            if path.is_file():
                content = path.read_bytes()
                path.unlink()
                if how == "folder":
                    path.mkdir()
                elif how != "remove":
                    path.write_bytes(damage(content, how, where, piece))
        reading = read()
    except UserError:
        return None
    finally:
        for path, content in before.items():
            if path.is_dir():
                path.rmdir()
            path.write_bytes(content)
    ids = [utterance.id for utterance in reading.utterances]
    assert len(set(ids)) == len(ids) > 0
    for utterance in reading.utterances:
        assert utterance.audio.is_file()
        "".join([utterance.id, utterance.text, utterance.speaker, utterance.language, utterance.source]).encode()
        assert utterance.split in ("", "train", "dev", "test")
    assert all(skipped.reason and skipped.message for skipped in reading.skipped)
    return reading


def listed(reading: Reading) -> set[tuple[str, str, str]]:
    """Returns id, reason and file name of what was skipped."""
    return {(skipped.id, skipped.reason, skipped.path.name) for skipped in reading.skipped}
