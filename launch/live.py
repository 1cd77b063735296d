"""Live recognition from a microphone or a pipe to a terminal or another pipe."""

import json
import queue
import shutil
import struct
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, TextIO

import numpy as np

import w2l_jax
from w2l_jax.decoding import formats
from w2l_jax.errors import UserError
from w2l_jax.incoming import Block
from w2l_jax.training.signals import Signals

BLOCK_SECONDS = 0.08
_WAIT_SECONDS = 0.1  # to wait for a block before checking for Ctrl-C
_AHEAD = 64  # blocks of a pipe read ahead

Arriving = queue.Queue
"""Blocks; after the last one None, or an error to raise."""


def transcribe(
    recognizer: w2l_jax.Recognizer, piped: BinaryIO | None, rate: int, hot_words: Mapping[str, float], kind: str
) -> None:
    """Recognises the microphone or standard input until its end or Ctrl-C, and prints the words.

    `rate` (Hz) is that of a pipe without a wav header. `kind` is txt, one line per final segment, or json, one object
    per event; a terminal also shows the words so far and a level meter below.
    """
    rate, arriving = microphone() if piped is None else pipe(piped, rate)
    screen = Screen(kind, sys.stdout, sys.stderr if sys.stderr.isatty() else None)
    with Signals() as signals:
        blocks = screen.listen(_until(signals, arriving))
        events = recognizer.stream(blocks, rate, hot_words)
        screen.note("listening; Ctrl-C ends")
        try:
            for event in events:
                screen.show(event)
        finally:
            screen.clear()


def microphone() -> tuple[int, Arriving]:
    """The default microphone's rate and its blocks; lost sound is a break."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: PortAudio is missing
        raise UserError(
            f"no microphone without sounddevice ({error}): pip install 'w2l_jax[live]' and, on Debian or Ubuntu, "
            "apt-get install libportaudio2; or pipe sound in: arecord -f S16_LE -r 16000 | python launch/transcribe.py "
            "--live -"
        ) from None
    arriving: Arriving = queue.Queue()

    def keep(block_NxC: np.ndarray, frames: int, time: Any, status: Any) -> None:
        if status.input_overflow:
            arriving.put(w2l_jax.Break(frames / rate))
        arriving.put(block_NxC[:, 0].copy())

    try:
        rate = round(sounddevice.query_devices(kind="input")["default_samplerate"])
        sounddevice.InputStream(
            rate, round(rate * BLOCK_SECONDS), channels=1, dtype="int16", callback=keep
        ).start()  # until the process ends
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UserError(f"no microphone ({error}); pipe sound in: … | python launch/transcribe.py --live -") from None
    return rate, arriving


def pipe(stream: BinaryIO, rate: int) -> tuple[int, Arriving]:
    """The rate and the blocks of a pipe: wav of 16 bits, or raw samples s16le of `rate` Hz and one channel.

    `stream` is unbuffered: reads return what is available. Takes the first of several channels. Raises UserError for
    other wav formats.
    """
    start, channels = _read(stream, 4), 1
    if start == b"RIFF":
        start, (rate, channels) = b"", _wav_header(stream)
    arriving: Arriving = queue.Queue(_AHEAD)

    def read() -> None:
        rest, width = start, 2 * channels
        while content := stream.read(round(rate * BLOCK_SECONDS) * width):
            rest += content
            complete = len(rest) // width * width
            arriving.put(np.frombuffer(rest[:complete], "<i2")[::channels])
            rest = rest[complete:]
        arriving.put(None)

    threading.Thread(target=read, daemon=True).start()
    return rate, arriving


def _read(stream: BinaryIO, count: int) -> bytes:
    """`count` bytes; fewer at the end."""
    content = b""
    while len(content) < count and (more := stream.read(count - len(content))):
        content += more
    return content


def _wav_header(stream: BinaryIO) -> tuple[int, int]:
    """The rate and the channels. Lengths are ignored: a recorder does not know them yet."""
    _read(stream, 8)
    rate = channels = 0
    while len(head := _read(stream, 8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name == b"data" and rate:
            return rate, channels
        content = _read(stream, size + size % 2)
        if name == b"fmt " and len(content) >= 16:
            kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
            if kind not in (1, 0xFFFE) or bits != 16 or not channels:
                raise UserError("standard input: give wav of 16-bit integers, or raw samples s16le and --rate")
    raise UserError("standard input: ends within its wav header")


def _until(signals: Signals, arriving: Arriving) -> Iterator[Block]:
    """Yields blocks; Ctrl-C acts as the end of the sound, so that the last words are recognised too."""
    while not signals.received:
        try:
            block = arriving.get(timeout=_WAIT_SECONDS)
        except queue.Empty:
            continue
        if block is None:
            return
        yield block


class Screen:
    """Final lines; on a terminal, also a level meter and the words so far, rewritten in place."""

    def __init__(self, kind: str, out: TextIO, meter: TextIO | None):
        """`kind` is txt or json; `meter` is a terminal, or None."""
        self._kind, self._out, self._meter = kind, out, meter
        self._words, self._level = "", 0.0

    def listen(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yields the blocks and shows their level."""
        for block in blocks:
            if self._meter and not isinstance(block, w2l_jax.Break) and len(block):
                self._level = float(np.abs(block, dtype=np.float32).max()) / 32768
                self._draw()
            yield block

    def show(self, event: w2l_jax.Event) -> None:
        """Writes an event."""
        self.clear()
        if event.kind != "message":
            self._words = event.text if event.kind == "provisional" else ""
        if self._kind == "json":
            content = {"kind": event.kind} | formats.record(event.segment) | {"text": event.text}
            print(json.dumps(content, ensure_ascii=False), file=self._out, flush=True)
        elif event.kind == "final":
            print(event.text, file=self._out, flush=True)
        if event.kind == "message":
            self.note(f"{event.start:.1f} s: {event.text}")
        self._draw()

    def note(self, text: str) -> None:
        """Writes a line to standard error."""
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Removes the level and the words so far."""
        if self._meter:
            print("\r\x1b[K", end="", file=self._meter, flush=True)

    def _draw(self) -> None:
        if self._meter:
            columns = shutil.get_terminal_size().columns - 12
            print(f"\r\x1b[K{_bar(self._level)} {self._words[-columns:]}", end="", file=self._meter, flush=True)


def _bar(level: float) -> str:
    """Ten characters: none at −60 dB, all of them at full scale."""
    return ("▮" * round(10 + 20 * np.log10(max(level, 1e-3)) / 6)).ljust(10, "·")
