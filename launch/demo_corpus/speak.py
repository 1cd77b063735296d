"""Text to speech with espeak-ng's C library, from the espeakng-loader wheel."""

import _ctypes
import atexit
import ctypes
import dataclasses
import os
import pathlib
import shutil
import tempfile

import numpy as np

from w2l_jax.errors import UserError

_RETRIEVAL = 2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when all samples went through the callback.
_NO_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report errors instead of ending the process.
_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_LONGEST_DATA_PATH = 120  # espeak-ng keeps file names in 160 + 40 byte buffers and adds up to 60 characters.

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclasses.dataclass(frozen=True)
class Voice:
    """A voice of espeak-ng.

    `name` is a language with a variant (`en-us+f2`), `rate` is in words per minute, `pitch` and `range` (of the melody)
    go from 0 to 99.
    """

    name: str
    rate: int = 175
    pitch: int = 50
    range: int = 50


class _Description(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("languages", ctypes.c_char_p), ("identifier", ctypes.c_char_p)]


def speak(text: str, voice: Voice) -> tuple[np.ndarray, int]:
    """Synthesises `text`; the same text and voice always give the same samples.

    Returns the waveform, float32 [samples] in −1…1, and its sample rate in Hz. Raises UserError if espeakng-loader is
    missing, the voice does not exist, or there are no samples.
    """
    library_path, data_path = _paths()
    # espeak-ng keeps oscillator phases between utterances and cannot reset them. So load the library afresh, which
    # takes half a millisecond.
    library = ctypes.CDLL(library_path)
    try:
        rate = library.espeak_Initialize(_RETRIEVAL, 0, os.fsencode(data_path), _NO_EXIT)
        if rate <= 0:
            raise UserError(
                f"espeak-ng cannot use its data in {data_path}; pip install --force-reinstall espeakng-loader"
            )
        samples = _synthesize(library, text, voice)
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)
    if not samples.any():
        raise UserError(f"espeak-ng returned no samples for {text!r} with voice {voice.name!r}")
    return samples.astype(np.float32) / 32768, rate


def _synthesize(library: ctypes.CDLL, text: str, voice: Voice) -> np.ndarray:
    _choose(library, voice.name)
    # 70 % of the loudness that espeak-ng starts with, at which some variants clip.
    for parameter, value in ((_RATE, voice.rate), (_VOLUME, 70), (_PITCH, voice.pitch), (_RANGE, voice.range)):
        library.espeak_SetParameter(parameter, value, 0)
    chunks = []

    @_CALLBACK
    def collect(samples, count, _events):
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(collect)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # of breath; the clock's by default
    data = text.encode() + b"\0"
    if library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 0, 0, _UTF8, None, None) != 0:
        raise UserError(f"espeak-ng could not synthesise {text!r}")
    library.espeak_Synchronize()
    return np.frombuffer(b"".join(chunks), np.int16)


def _choose(library: ctypes.CDLL, name: str) -> None:
    failed = library.espeak_SetVoiceByName(name.encode())
    library.espeak_GetCurrentVoice.restype = ctypes.POINTER(_Description)
    # espeak-ng ignores an unknown variant; it is only missing from the identifier (gmw/en-US+f2).
    voice = "" if failed else library.espeak_GetCurrentVoice().contents.identifier.decode()
    if failed or voice.partition("+")[2] != name.partition("+")[2]:
        raise UserError(f"espeak-ng has no voice {name!r}; see the folders lang and voices in {_paths()[1]}")


_found_paths: tuple[str, str] | None = None


def _paths() -> tuple[str, str]:
    global _found_paths
    if _found_paths is None:
        try:
            import espeakng_loader
        except ImportError:
            raise UserError("the demo corpus needs espeak-ng: pip install 'w2l_jax[demo]'") from None
        _found_paths = espeakng_loader.get_library_path(), _short(espeakng_loader.get_data_path())
    return _found_paths


def _short(path: str) -> str:
    """Returns a short enough path to the same folder."""
    if len(os.fsencode(path)) <= _LONGEST_DATA_PATH:
        return path
    folder = tempfile.mkdtemp(prefix="espeak")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    link = pathlib.Path(folder, "espeak-ng-data")
    link.symlink_to(path)
    return str(link)


if __name__ == "__main__":  # python launch/demo_corpus/speak.py hello.wav "the weather is fine today" [voice]
    import sys

    import soundfile

    soundfile.write(sys.argv[1], *speak(sys.argv[2], Voice(*(sys.argv[3:] or ["en-us+f2"]))))
