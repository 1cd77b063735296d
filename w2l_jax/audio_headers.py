"""How much sound the headers of audio files declare, and when not to trust them."""

import functools
import math
import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

# Writers that cannot seek back leave 0, 2^31 or 2^32, minus a header, block or page, as the size.
_PLACEHOLDERS = (range(0x7F000000, 0x7F001000), range(0x7FFFE000, 0x80001000), range(0xFFFFE000, 2**32))
_HEADER = 44  # bytes of the smallest WAV header; some writers count all or part of it as sound


class Link(NamedTuple):
    """The bytes `begin` to `end` of a file: one complete recording among several that were concatenated."""

    begin: int
    end: int


class Sound(NamedTuple):
    """Where the sound of a file begins, how many bytes its header declares, and how many follow."""

    offset: int
    promised: int
    held: int
    trusted: bool
    """The declared bytes end the file, or valid chunks follow to its end."""
    size: tuple[int, str, int]
    """The declared size: its position, its `struct` format, and what it counts besides the sound."""

    @property
    def is_cut(self) -> bool:
        """Sound is missing: the header declares more, and its size is not a placeholder."""
        missing = self.promised - self.held
        if self.promised >= 2**32 or any(self.promised in numbers for numbers in _PLACEHOLDERS):
            return False
        return missing > 0 and missing not in (8, _HEADER - 8, _HEADER, self.offset - 8, self.offset)


class _Chunks(NamedTuple):
    """The chunks of a format, and the one that holds the sound."""

    first: int
    code: str  # of a chunk's name and length
    counted: int  # bytes of the length that are not the content's
    aligned: int
    name: bytes
    before: int  # bytes of the content that precede the sound


_FORMATS = {  # by a file's first bytes
    rb"(RIFF|RF64|BW64)....WAVE": _Chunks(12, "<4sI", 0, 2, b"data", 0),
    rb"FORM....AIF[FC]": _Chunks(12, ">4sI", 0, 2, b"SSND", 8),
    rb"caff\x00\x01": _Chunks(8, ">4sQ", 0, 1, b"data", 4),
    rb"riff.{20}wave": _Chunks(40, "<16sQ", 24, 8, b"data", 0),
}


def sound(path: Path, link: Link) -> Sound | None:
    """What the header of a WAV (RIFF, RF64), AIFF, CAF, AU or W64 file says about its sound; None for other files."""
    with path.open("rb") as file:
        file.seek(link.begin)
        head = file.read(40)
        if head[:4] == b".snd":
            offset, promised = struct.unpack(">II", head[4:12].ljust(8, b"\0"))
            return Sound(offset, promised, link.end - link.begin - offset, promised > 0, (8, ">I", 0))
        form = next((form for begins, form in _FORMATS.items() if re.match(begins, head, re.DOTALL)), None)
        return form and _sound(file, link, form)


def correction(path: Path, link: Link) -> tuple[int, bytes] | None:
    """The position of a wrong size (too small, or a placeholder) in a link's header, and the right bytes; else None."""
    info = sound(path, link)
    if not info or info.is_cut or info.promised == info.held or (info.promised < info.held and info.trusted):
        return None
    place, code, more = info.size
    return place, struct.pack(code, min(info.held + more, 2 ** (8 * struct.calcsize(code)) - 1))


def _sound(file: BinaryIO, link: Link, form: _Chunks) -> Sound | None:
    code, more = form.code[0] + form.code[-1], form.counted + form.before
    long_size = place = 0
    for name, length, content in _chunks(file, link.begin + form.first, form):
        if name == b"ds64":
            place, long_size = content + 8, int.from_bytes(file.read(16)[8:], "little")
        elif name.startswith(form.name):
            if place and length == 0xFFFFFFFF:
                code, length = "<Q", long_size
            else:
                place = content - struct.calcsize(code)
            offset, promised = content + form.before, max(0, length - more)
            # Not checked in W64, which libsndfile reads to the end.
            trusted = form.counted > 0 or _in_order(file, offset + promised, link.end, form)
            return Sound(offset - link.begin, promised, link.end - offset, trusted, (place - link.begin, code, more))
    return None


def _chunks(file: BinaryIO, offset: int, form: _Chunks) -> Iterator[tuple[bytes, int, int]]:
    """Yields name, length and offset of the chunks from `offset`; the file is positioned at each one's content."""
    file.seek(offset)
    size = struct.calcsize(form.code)
    while len(head := file.read(size)) == size:
        name, length = struct.unpack(form.code, head)
        yield name, length, file.tell()
        stored = max(length - form.counted, 0) + size
        offset += -(-stored // form.aligned) * form.aligned
        if offset > 2**62:
            return
        file.seek(offset)


def _in_order(file: BinaryIO, offset: int, size: int, form: _Chunks) -> bool:
    """Whether only a padding byte, or chunks that end with the file, follow `offset`.

    Sound after a wrong length rarely looks like this. Other kinds of tags begin with letters, too.
    """
    if not 0 <= offset <= size:
        return offset > size
    end = offset + offset % form.aligned
    if end >= size:
        return True
    for name, length, start in _chunks(file, end, form):
        if not all(32 <= byte < 127 for byte in name):
            return False
        end = start + length
    return end > offset + 8


def links(path: Path) -> tuple[Link, ...]:
    """The complete recordings in a file: several in a chained Ogg (internet radio, `cat`), FLAC or WAV; else one."""
    stat = path.stat()
    return _links(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=16)  # for the pieces of a long recording
def _links(path: Path, size: int, changed: int) -> tuple[Link, ...]:
    starts = [0]
    with path.open("rb") as file:
        head = file.read(4)
        # FLAC: the name, and the first block's type and length.
        flac_starts = functools.partial(_found, mark=b"fLaC\0\0\0\x22")
        if find := {b"OggS": _ogg_starts, b"fLaC": flac_starts, b"RIFF": _wave_starts}.get(head):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                starts += find(content)
    return tuple(Link(begin, end) for begin, end in zip(starts, [*starts[1:], size], strict=True))


def _found(content: mmap.mmap, mark: bytes) -> list[int]:
    """The positions of `mark` in a file, its beginning excluded."""
    places, place = [], content.find(mark, 1)
    while place >= 0:
        places.append(place)
        place = content.find(mark, place + 1)
    return places


def _ogg_starts(content: mmap.mmap) -> list[int]:
    """Where a new stream begins after the pages of others (multiplexed streams begin one right after another)."""
    starts, end = [], _page_end(content, 0)
    for place in _found(content, b"OggS\0\2"):
        if place != end:
            starts.append(place)
        end = _page_end(content, place)
    return starts


def _wave_starts(content: mmap.mmap) -> list[int]:
    starts, end = [], 0
    while content[end : end + 4] == b"RIFF" and content[end + 8 : end + 12] == b"WAVE":
        starts.append(end)
        end += 8 + int.from_bytes(content[end + 4 : end + 8], "little")
    return starts[1:]


def _page_end(content: mmap.mmap, place: int) -> int:
    lengths = content[place + 27 : place + 27 + content[place + 26]] if place + 27 <= len(content) else b""
    return place + 27 + len(lengths) + sum(lengths)


def is_mpeg(path: Path) -> bool:
    """Whether a file begins as MP3 or raw AAC, whose length libsndfile may guess or truncate."""
    with path.open("rb") as file:
        head = file.read(3)
    return head == b"ID3" or (len(head) == 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def mp3_frames(path: Path) -> int | None:
    """How many MPEG frames an MP3's Xing or Info header declares; None without one."""
    with path.open("rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":  # its size is in four bytes of seven bits
            file.seek(10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False)))
        else:
            file.seek(0)
        frame = file.read(256)
    place = max(frame.find(b"Xing"), frame.find(b"Info"))
    if place < 0 or not frame[place + 7 : place + 8] or not frame[place + 7] & 1:
        return None
    return int.from_bytes(frame[place + 8 : place + 12], "big")


def is_cut(path: Path, link: Link) -> bool:
    """Whether a header declares more than the file holds, which libsndfile would silently ignore."""
    info = sound(path, link)
    return bool(info and info.is_cut) or _nist_is_cut(path) or _ogg_is_cut(path)


def _ogg_is_cut(path: Path) -> bool:
    """Whether the last page is incomplete. (Recorded broadcasts never have an end of stream.)"""
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = content.rfind(b"OggS\0")
            return _page_end(content, place) > len(content) if place + 27 <= len(content) else True


def _nist_is_cut(path: Path) -> bool:
    """Whether a NIST sphere file is shorter than its header says."""
    header = _nist_header(path)
    try:
        size, *factors = (int(header[name]) for name in ("size", "sample_count", "channel_count", "sample_n_bytes"))
    except (KeyError, ValueError):
        return False
    return size + math.prod(factors) > path.stat().st_size


def nist_advice(path: Path) -> str:
    """Advice for a NIST sphere file that cannot be read; "" for any other file."""
    header = _nist_header(path)
    if not header:
        return ""
    what = "it is compressed with shorten" if "shorten" in header.get("sample_coding", "") else "its header is wrong"
    return f"; a NIST sphere file, and {what}: convert it, e.g. `sph2pipe -f wav in.nis out.wav`, or fetch it again"


def _nist_header(path: Path) -> dict[str, str]:
    """The fields of a NIST sphere file's header, and its `size` in bytes; {} for any other file."""
    with path.open("rb") as file:
        head = file.read(4096).partition(b"end_head")[0].decode("latin-1").splitlines()
    if not head or head[0] != "NIST_1A":
        return {}
    fields = [line.split(None, 2) for line in head[2:]]  # name, type, value
    return {"size": "".join(head[1:2]).strip(), **{field[0]: field[2].strip() for field in fields if len(field) == 3}}
