"""LibriSpeech, as a folder or as the downloaded `.tar.gz` files.

The layout (openslr.org/12) is `LibriSpeech/<subset>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt`, each line an id
and the words, beside one `<id>.flac` per utterance. Corpora with the same layout, such as mini LibriSpeech, are read
too.
"""

import gzip
import re
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from deliveries.archives import Listing, listing, make_once, recordings
from deliveries.collector import Collector
from w2l_jax.corpora import Reading, Skipped
from w2l_jax.corpora.rows import BrokenRowError
from w2l_jax.errors import UserError

_SUBSET = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")
_LINE = re.compile(r"(([^\s-]+)-[^\s-]+-[^\s-]+)(?:[ \t]+(.*))?")
_ARCHIVE = ".tar.gz"
_TRANSCRIPT = ".trans.txt"
_UNPACKED = 20  # times its size; FLAC does not compress
_LONGEST = 2**20


def read(
    source: Path, include_dev: bool = False, include_test_other: bool = False, extract_to: str | Path | None = None
) -> Reading:
    """Reads a folder with transcripts or archives at any depth, or one archive.

    An archive is unpacked once, into a folder of its name beside it or in `extract_to`, unless that exists. Training
    data are train-*, with `include_dev` dev-* too (as the paper's authors did), test data test-clean; test-other only
    with `include_test_other`, as a separate source. Folders not named after a subset leave the split open. Raises
    UserError for a truncated archive, and if nothing of LibriSpeech is found.
    """
    folders, skipped = _found(Path(source), extract_to)
    transcripts = [folder / name for folder, names in folders for name in names if name.endswith(_TRANSCRIPT)]
    if not transcripts:
        raise UserError(
            f"{source}: holds neither *{_TRANSCRIPT} files nor archives such as train-clean-100{_ARCHIVE}; "
            "give the folder LibriSpeech, or the one with the downloaded archives"
        )
    collector = Collector(Path(source), recordings(folders), language="english")
    for path in transcripts:
        subset = _subset(path)
        split = subset.split("-")[0]
        source_name = "LibriSpeech test-other" if subset == "test-other" else "LibriSpeech"
        fields = {"split": "train" if split == "dev" and include_dev else split, "source": source_name}
        for place, line in collector.lines(path, "transcript"):
            with collector.row(place):
                match = _LINE.fullmatch(line)
                if not match:
                    raise BrokenRowError(f"{place}: does not begin with an id such as 84-121123-0000")
                id, speaker, text = match.groups("")
                if subset == "test-other" and not include_test_other:
                    collector.skip(place, id, "test-other", "read with include_test_other only")
                else:
                    collector.add(place, id, text, speaker=speaker, **fields)
    return collector.reading(skipped)


def _subset(transcript: Path) -> str:
    """Returns the name of the nearest folder above that is named after a subset, or ""."""
    parts = transcript.absolute().parent.parts
    return next((part for part in reversed(parts) if _SUBSET.fullmatch(part)), "")


def _found(source: Path, extract_to: str | Path | None) -> tuple[Listing, list[Skipped]]:
    """Returns all folders, including those of archives (unpacked if necessary), and the ignored archives."""
    if source.is_file():
        if not source.name.endswith(_ARCHIVE):
            raise UserError(f"{source}: neither a folder nor a {_ARCHIVE} archive of LibriSpeech")
        return listing(_unpacked(source, extract_to)), []
    folders, skipped = listing(source), []
    unpacked = {folder.name for folder, _ in folders}
    archives = [folder / name for folder, names in folders for name in names if name.endswith(_ARCHIVE)]
    for archive in archives:
        subset = archive.name.removesuffix(_ARCHIVE)
        if not _SUBSET.fullmatch(subset):
            # raw-metadata.tar.gz, original-mp3.tar.gz and others are published beside the subsets.
            skipped.append(Skipped(archive, "no subset", f"{archive}: not named after a subset, so not unpacked"))
        elif subset not in unpacked:
            unpacked.add(subset)
            folders += listing(_unpacked(archive, extract_to))
    return folders, skipped


def _unpacked(archive: Path, extract_to: str | Path | None) -> Path:
    folder = Path(extract_to or archive.parent) / archive.name.removesuffix(_ARCHIVE)
    make_once(folder, lambda partial: _unpack(archive, partial))
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with gzip.open(archive) as content, tarfile.open(fileobj=content, mode="r|", tarinfo=_Member) as tar:
            left = _UNPACKED * archive.stat().st_size
            for member in tar:
                left -= member.size
                if left < 0:
                    raise UserError(f"{archive}: unpacks to more than {_UNPACKED} times its size; not LibriSpeech")
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts:
                    raise UserError(f"{archive}: holds {member.name!r}, outside its own folder; not LibriSpeech")
                if member.isfile():
                    _copy(tar, member, folder / name)
            # The rest of the stream is part of gzip's checksum.
            while content.read(1 << 20):
                pass
    except UserError:
        raise
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError, ValueError, OverflowError) as error:
        raise UserError(
            f"{archive}: truncated or damaged ({error}); download it again, its size and checksum are published with it"
        ) from None


class _Member(tarfile.TarInfo):
    """Makes a damaged or missing header an error, which tarfile takes for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None
        if not member.isreg() and member.size > _LONGEST:  # tarfile takes a long name, of that size, into memory
            raise tarfile.ReadError(f"a header of {member.size:,} bytes")
        return member


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(member) as content, path.open("wb") as file:
        shutil.copyfileobj(content, file)
