import bz2
import gzip
import lzma
import sys
import tracemalloc

import pytest

from lm_building import packed
from w2l_jax.errors import UserError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd.compress}


def read(path):
    return [line for _, line in packed.lines(path)]


@pytest.mark.parametrize("ending", PACK)
def test_every_format_gives_the_same_lines(ending, tmp_path):
    content = "Der Hund\r\n\n  bellt. \nschläft".encode()
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(PACK[ending](content))
    assert list(packed.lines(path)) == [(1, b"Der Hund"), (2, b""), (3, b"  bellt. "), (4, "schläft".encode())]


@pytest.mark.parametrize("ending", list(PACK)[1:])
def test_concatenated_files_are_read_completely(ending, tmp_path):
    """As parallel packers write them, and `cat a.gz b.gz`."""
    (tmp_path / f"a{ending}").write_bytes(PACK[ending](b"one\ntw") + PACK[ending](b"o\nthree\n"))
    assert read(tmp_path / f"a{ending}") == [b"one", b"two", b"three"]


@pytest.mark.parametrize("ending", list(PACK)[1:])
@pytest.mark.parametrize("damage", ["cut", "changed", "garbled", "not packed"])
def test_damaged_files_are_named(ending, damage, tmp_path):
    content = bytearray(PACK[ending](b"".join(b"line %d of many\n" % (i * i) for i in range(20_000))))
    if damage == "cut":
        del content[-30:]
    elif damage == "changed":
        content[len(content) // 2 : len(content) // 2 + 40] = b"\xff" * 40
    elif damage == "garbled":
        content[12:52] = b"\xff" * 40
    else:
        content = b"plain text\n"
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.txt.*cannot be read after line \d+ .*is the file complete"):
        read(path)


def test_long_lines_come_in_pieces_cut_at_spaces(tmp_path):
    words = [b"w%d" % i for i in range(40_000)]
    (tmp_path / "a").write_bytes(b"short one\n" + b" ".join(words) + b"\nlast " + b"x" * 100_000)
    lines = list(packed.lines(tmp_path / "a"))
    assert lines[0] == (1, b"short one")
    assert [number for number, _ in lines[1:-2]] == [2] * (len(lines) - 3) and len(lines) > 5
    assert b" ".join(line for _, line in lines[1:-2]).split() == words
    assert max(len(line) for _, line in lines[:-1]) < 2**17
    assert lines[-2:] == [(3, b"last"), (3, b"x" * 100_000)]


@pytest.mark.parametrize("text", ["a", "ä", "漢字", "😀"])
def test_lines_without_spaces_are_cut_between_characters(text, tmp_path):
    (tmp_path / "a").write_text(text * 70_000 + "\nb", "utf-8")
    lines = list(packed.lines(tmp_path / "a"))
    assert "".join(line.decode() for _, line in lines) == text * 70_000 + "b"  # every piece decodes
    assert max(len(line) for _, line in lines) < 2**16 + 4 and lines[-1] == (2, b"b")
    (tmp_path / "a").write_bytes(b"\x80" * 200_000)
    assert b"".join(read(tmp_path / "a")) == b"\x80" * 200_000


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst"])
def test_a_decompression_bomb_takes_little_memory(ending, tmp_path):
    """Some kilobytes that unpack to sixty-four megabytes without a line break."""
    path = tmp_path / f"a{ending}"
    path.write_bytes(PACK[ending](bytes(2**26)))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    assert sum(map(len, (line for _, line in packed.lines(path)))) == 2**26
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_progress_counts_the_bytes_of_the_packed_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"a line of text\n" * 500_000)
    told = []
    for _ in packed.lines(path, told.append):
        pass
    assert told == sorted(told) and len(told) == 7
    assert told[-1] <= path.stat().st_size
