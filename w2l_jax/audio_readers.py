"""Two readers of audio files with one interface: libsndfile, and, for the rest, ffmpeg's decoders in PyAV."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from w2l_jax import audio_headers
from w2l_jax.audio_headers import Link, correction

_WARM_UP = 1.0  # seconds decoded before a piece: a lossy codec's output depends on what came before
# Only formats that hold sound: ffmpeg follows playlists to other files and into the network.
_FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,ogg,"
    "tta,w64,wav,wv"
)
_NONE = np.zeros((0, 1), np.float32)
_MOST = 2**24  # values read at once
_STORES_LENGTH = ("asf", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # others' are guessed


class Reader(Protocol):
    """An open recording of `rate` Hz; raises RuntimeError or ValueError for what it cannot read."""

    rate: int
    frames: int | None
    """The number of samples; None if unknown."""
    slack: int
    """The error of `frames`, in samples."""

    def seek(self, first: int) -> None:
        """Moves to a sample."""

    def read(self, count: int) -> np.ndarray:
        """Up to `count` further samples as float32 [N, C]; none at the end."""

    def close(self) -> None:
        """Closes the file."""


def open_link(path: Path, link: Link) -> Reader:
    """Opens one of a file's `audio_headers.links` with the first reader that can; raises RuntimeError if none can."""
    if audio_headers.is_mpeg(path) or (link.end >= 2**32 and correction(path, link)):
        return Pyav(path, link)
    try:
        reader = Soundfile(path, link)
    except RuntimeError as error:
        try:
            return Pyav(path, link)
        except RuntimeError:
            raise RuntimeError(str(error)) from None
    if reader.frames is None:
        reader.close()
        return Pyav(path, link)
    return reader


class Soundfile:
    """What libsndfile reads; lengths are exact."""

    slack = 0

    def __init__(self, path: Path, link: Link):
        import soundfile

        # libsndfile needs to be told the format of a name in .raw.
        plain = link == (0, path.stat().st_size) and path.suffix.lower() != ".raw" and not correction(path, link)
        try:
            # As bytes: a name need not be valid in the encoding of the locale.
            self._file = soundfile.SoundFile(os.fsencode(path) if plain else _Slice(path, link))
        except soundfile.LibsndfileError as error:
            raise RuntimeError(error.error_string) from None
        self.rate = self._file.samplerate
        # A FLAC from a pipe lacks its length; libsndfile then reports 2^63 − 1.
        self.frames = self._file.frames if self._file.frames < 2**60 else None

    def seek(self, first: int) -> None:
        """Moves to a sample; reads all before it in the few formats that cannot seek (GSM)."""
        if self._file.seekable():
            self._file.seek(first)
            return
        while first > 0:
            first -= len(self.read(min(first, 2**20))) or first

    def read(self, count: int) -> np.ndarray:
        # A header may declare a thousand channels.
        return self._file.read(min(count, _MOST // self._file.channels), dtype="float32", always_2d=True)

    def close(self) -> None:
        self._file.close()


class Pyav:
    """What ffmpeg decodes, packet by packet; lengths are known to a few hundredths of a second, or not at all.

    Samples are located by timestamps, which WebM, Matroska and WMA round to a millisecond. A packet that cannot be
    decoded ends the recording; with `lenient` it is skipped.
    """

    def __init__(self, path: Path, link: Link, lenient: bool = False):
        import av

        self._av_error, self._bad_data = av.error.FFmpegError, av.error.InvalidDataError
        # Tags need not be UTF-8, which PyAV before version 19 requires.
        tags = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        # Read to the end of a WAV with more sound than its header can count.
        options = {"format_whitelist": _FORMATS, "ignore_length": str(int(correction(path, link) is not None))}
        try:
            # A file object, since a name may look like a protocol (10:30.m4a).
            self._container = av.open(_Slice(path, link), options=options, **tags)
        except (self._av_error, ValueError) as error:
            raise RuntimeError(getattr(error, "strerror", "") or str(error)) from None
        self._stream = self._container.streams.best("audio")
        context = self._stream and self._stream.codec_context  # none of a codec that ffmpeg does not know
        if not context or not context.sample_rate:
            self._container.close()
            raise RuntimeError("there is no sound in it")
        self.rate = context.sample_rate
        self.slack = self.rate // 4
        self.frames = self._promised(path)
        # MP3 can be joined mid-stream: at a tag inside it, or at a seam, a packet is invalid.
        self._lenient = lenient or self._container.format.name == "mp3"
        self._begin = self._stream.start_time or 0  # of the first frame, once one is decoded
        self._start(0, 0)

    def _promised(self, path: Path) -> int | None:
        name, stream = self._container.format.name, self._stream
        if name == "mp3":
            count = audio_headers.mp3_frames(path)
            return count and count * (1152 if self.rate >= 32000 else 576)
        if name not in _STORES_LENGTH:
            return None
        if stream.duration:
            return round(stream.duration * stream.time_base * self.rate)
        return round(self._container.duration * self.rate / 10**6) if self._container.duration else None

    def seek(self, first: int) -> None:
        """Moves to a sample before anything was read."""
        back = int((first / self.rate - _WARM_UP) / self._stream.time_base)
        if back <= 0:
            self._start(first, 0)
            return
        self.read(1)  # times start at that of the first frame
        self._container.seek(self._begin + back, stream=self._stream)
        self._start(first, None)

    def _start(self, first: int, position: int | None) -> None:
        self._blocks, self._rest_NxC = self._decoded(first, position), _NONE
        self._failure: RuntimeError | None = None

    def _decoded(self, first: int, position: int | None) -> Iterator[np.ndarray]:
        """Yields samples [N, C] from `first`; the container is at `position` (None: by its timestamps)."""
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except self._bad_data:
                if not self._lenient:
                    raise
                continue
            for frame in frames:
                if frame.sample_rate != self.rate:
                    raise RuntimeError(f"its rate changes from {self.rate} to {frame.sample_rate} Hz")
                if position == 0 and frame.pts is not None:
                    self._begin = frame.pts
                if position is None:
                    position = round((frame.pts - self._begin) * frame.time_base * self.rate)
                samples_NxC = _floats(frame)[max(0, first - position) :]
                position += frame.samples
                if len(samples_NxC):
                    yield samples_NxC

    def read(self, count: int) -> np.ndarray:
        parts, rest_NxC = [], self._rest_NxC
        while count > 0 and (not parts or rest_NxC.shape[1] == parts[0].shape[1]):  # AAC may switch to stereo
            if len(rest_NxC):
                parts.append(rest_NxC[:count])
                count -= len(parts[-1])
                rest_NxC = rest_NxC[len(parts[-1]) :]
            if not len(rest_NxC) and (rest_NxC := self._next()) is None:
                break
        self._rest_NxC = _NONE if rest_NxC is None else rest_NxC
        if not parts and self._failure:
            raise self._failure
        return np.concatenate(parts) if parts else _NONE

    def _next(self) -> np.ndarray | None:
        """The next block; None at the end and at damage, which is raised after everything before it was read."""
        try:
            return next(self._blocks, None)
        except (self._av_error, RuntimeError, ValueError) as error:  # ValueError: of samples with 64 bits
            self._failure = RuntimeError(getattr(error, "strerror", "") or str(error))
            return None

    def close(self) -> None:
        self._container.close()


def _floats(frame: Any) -> np.ndarray:
    """A frame's samples as float32 [N, C], integers scaled to −1…1."""
    samples = frame.to_ndarray()
    samples_NxC = samples.T if frame.format.is_planar else samples.reshape(-1, len(frame.layout.channels))
    if samples.dtype.kind == "f":
        return samples_NxC.astype(np.float32)
    if samples.dtype == np.uint8:
        return (samples_NxC.astype(np.float32) - 128) / 128
    return samples_NxC.astype(np.float32) / np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))


class _Slice(io.RawIOBase):
    """The bytes of a link as a separate file, with a wrong size in its header corrected."""

    def __init__(self, path: Path, link: Link):
        self._place, self._right = correction(path, link) or (0, b"")
        self._file, self._link = path.open("rb"), link
        self._file.seek(link.begin)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell() - self._link.begin

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: self._link.begin, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._link.end}[whence]
        return self._file.seek(min(max(base + offset, self._link.begin), self._link.end)) - self._link.begin

    def readinto(self, buffer: Any) -> int:
        first = self.tell()
        content = bytearray(self._file.read(min(len(buffer), self._link.end - self._file.tell())))
        for place, byte in enumerate(self._right, self._place):
            if 0 <= place - first < len(content):
                content[place - first] = byte
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()
