"""LibriSpeech from TensorFlow Datasets (TFDS), which downloads and stores it.

TFDS stores records that only TensorFlow reads; they are converted once to FLAC files in LibriSpeech's layout, which
`librispeech` reads.
"""

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deliveries import librispeech
from deliveries.archives import make_once
from w2l_jax.corpora import Reading
from w2l_jax.errors import UserError

_SAMPLE_RATE = 16_000
_ID = re.compile(r"\d+-\d+-\d+")


def read_librispeech(
    source: Path, include_dev: bool = False, include_test_other: bool = False, extract_to: str | Path | None = None
) -> Reading:
    """Reads every split of TFDS's `librispeech` in the data_dir `source`, downloading it if necessary.

    Both of its configurations work; `lazy_decode` is the default (60 GB, no ffmpeg, FLAC files bit-identical to the
    published ones). The files are written once, into `extract_to`, by default `<data_dir>/librispeech_flac`; the other
    options are those of `librispeech.read`. Raises UserError if TensorFlow is missing, and for any failure of TFDS.
    """
    source = Path(source)
    if not source.is_dir():
        # A misspelt path must not start a download of 60 GB.
        raise UserError(f"{source}: no such folder; create it to let TFDS download LibriSpeech into it (60 GB)")
    flac = Path(extract_to or source / "librispeech_flac")
    tfds = _import()
    with _user_errors(source):
        builder = _builder(tfds, source)
        for split in builder.info.splits:
            make_once(flac / _subset(split), lambda folder, split=split: _write(tfds, builder, split, folder))
    return librispeech.read(flac, include_dev, include_test_other)


def _import() -> Any:
    try:
        import tensorflow
        import tensorflow_datasets
    except ImportError as error:
        raise _not_installed(error) from None
    with contextlib.suppress(RuntimeError):  # raised if the program has used TensorFlow before
        # TensorFlow would take all memory of a GPU that may be training.
        tensorflow.config.set_visible_devices([], "GPU")
    return tensorflow_datasets


def _not_installed(error: ImportError) -> UserError:
    return UserError(
        f"tfds:librispeech needs TensorFlow and TFDS's dependencies ({error}): pip install 'w2l_jax[tfds]'; "
        "without them, download the archives and use the corpus librispeech"
    )


@contextlib.contextmanager
def _user_errors(data_dir: Path) -> Iterator[None]:
    """Turns the many errors of TFDS and TensorFlow (downloads, checksums, damaged records, a full disk) into ours."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:  # TFDS imports many modules on use
        raise _not_installed(error) from None
    except Exception as error:
        message = next(iter(str(error).splitlines()), "")
        raise UserError(
            f"{data_dir}: TFDS cannot provide librispeech ({type(error).__name__}: {message}); if its files are "
            "damaged, "
            f"delete {data_dir / 'librispeech'} and run this again"
        ) from error


def _builder(tfds: Any, data_dir: Path) -> Any:
    builders = [tfds.builder(f"librispeech/{config}", data_dir=data_dir) for config in ("lazy_decode", "default")]
    builder = next((builder for builder in builders if builder.is_prepared()), builders[0])
    builder.download_and_prepare()
    return builder


def _subset(split: str) -> str:
    """Returns LibriSpeech's name of a split, such as train-clean-100 for train_clean100."""
    return re.sub(r"(\d+)$", r"-\1", split.replace("_", "-"))


def _write(tfds: Any, builder: Any, split: str, folder: Path) -> None:
    # Undecoded, `lazy_decode` gives the bytes of the FLAC file; `default` has samples, which need no decoding.
    decoders = {"speech": tfds.decode.SkipDecoding()} if builder.builder_config.lazy_decode else None
    transcripts: dict[Path, list[str]] = defaultdict(list)
    for example in tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False, decoders=decoders)):
        id, text = example["id"].decode(), example["text"].decode()
        if not _ID.fullmatch(id):
            raise UserError(f"TFDS librispeech, split {split}: {id!r} is not an id such as 84-121123-0000")
        speaker, chapter, _ = id.split("-")
        path = folder / speaker / chapter / f"{id}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_flac(path, example["speech"])
        transcripts[path.parent / f"{speaker}-{chapter}.trans.txt"].append(f"{id} {text}\n")
    for path, chapter_lines in transcripts.items():
        path.write_text("".join(sorted(chapter_lines)), "utf-8")


def _write_flac(path: Path, speech: Any) -> None:
    if isinstance(speech, bytes):
        path.write_bytes(speech)
        return
    import soundfile

    soundfile.write(path, speech, _SAMPLE_RATE, subtype="PCM_16")
