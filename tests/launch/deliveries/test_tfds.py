import functools
import http.server
import sys
import threading

import numpy as np
import pytest
import soundfile

from deliveries import catalog, librispeech
from tests.launch.deliveries.test_librispeech import EXPECTED, NO_AUDIO, TRANSCRIPTS, deliver, essence, pack
from w2l_jax.errors import UserError


@pytest.mark.parametrize("package", ["tensorflow", "tensorflow_datasets"])
def test_without_tensorflow_it_says_what_to_install(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"needs TensorFlow .*\(.*\): pip install 'w2l_jax\[tfds\]'"):
        catalog.read("tfds:librispeech", tmp_path)


def test_a_misspelt_folder_starts_no_download(tmp_path):
    with pytest.raises(UserError, match="no such folder; create it to let TFDS download"):
        catalog.read("tfds:librispeech", tmp_path / "none")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The miniature corpus in the form that TFDS accepts: a recording for every line, only FLAC, no byte order mark."""
    root = deliver(tmp_path_factory.mktemp("official"))
    for subset, speaker, chapter in TRANSCRIPTS:
        path = root / subset / speaker / chapter / f"{speaker}-{chapter}.trans.txt"
        lines = path.read_text("utf-8-sig").split("\n")
        kept = [line.strip().replace("\t", " ") for line in lines if " " in line or "\t" in line]
        path.write_text("".join(f"{line}\n" for line in kept if not line.startswith(NO_AUDIO)), "utf-8")
    for wav in list(root.rglob("*.wav")):
        soundfile.write(wav.with_suffix(".flac"), *soundfile.read(wav, dtype="int16"))
        wav.unlink()
    return root


@pytest.fixture(scope="module")
def server(official, tmp_path_factory):
    """Serves the archives of the miniature corpus on loopback; yields the address and the requested paths."""
    folder = pack(official, tmp_path_factory.mktemp("served"))
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/", asked, folder
        running.shutdown()


@pytest.fixture
def redirected(server, monkeypatch):
    """TFDS's own builder, downloading from `server`; TFDS knows no checksums of these addresses and checks none."""
    pytest.importorskip("tensorflow")
    from tensorflow_datasets.datasets.librispeech import librispeech_dataset_builder as builder

    address, asked, folder = server
    urls = {split: address + url.rsplit("/", 1)[1] for split, url in builder._DL_URLS.items()}
    monkeypatch.setattr(builder, "_DL_URLS", urls)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked.clear()
    return asked, folder


def sound(utterance):
    return soundfile.read(utterance.audio, dtype="int16")[0]


def check(reading, official):
    """The utterances are the same as without TFDS, to the sample."""
    expected = [row for row in EXPECTED if row[1]]
    assert sorted(essence(reading.utterances)) == sorted(expected)
    assert {s.reason for s in reading.skipped} == {"test-other"}
    plain = {u.id: u for u in librispeech.read(official).utterances}
    for utterance in reading.utterances:
        np.testing.assert_array_equal(sound(utterance), sound(plain[utterance.id]))
    return plain


def test_tfds_downloads_prepares_and_is_read(tmp_path, redirected, official):
    asked, _ = redirected
    reading = catalog.read("tfds:librispeech", tmp_path)
    plain = check(reading, official)
    assert sorted(path.strip("/") for path in asked) == sorted({f"{subset}.tar.gz" for subset, _, _ in TRANSCRIPTS})
    assert (tmp_path / "librispeech/lazy_decode").is_dir()
    assert (tmp_path / "librispeech_flac/train-clean-100/19/198/19-198-0000.flac").is_file()
    for utterance in reading.utterances:
        assert utterance.audio.read_bytes() == plain[utterance.id].audio.read_bytes()

    # Again: neither the server nor TFDS's records are needed.
    asked.clear()
    for records in (tmp_path / "librispeech").rglob("*.tfrecord*"):
        records.write_bytes(b"")
    assert catalog.read("tfds:librispeech", tmp_path) == reading
    assert not asked
    everything = catalog.read("tfds:librispeech", tmp_path, include_dev=True, include_test_other=True)
    assert {(u.split, u.source) for u in everything.utterances} == {
        ("train", "LibriSpeech"),
        ("test", "LibriSpeech"),
        ("test", "LibriSpeech test-other"),
    }

    # Damaged records are an error that names the folder, and leave nothing behind.
    elsewhere = tmp_path / "elsewhere"
    for records in (tmp_path / "librispeech").rglob("*.tfrecord*"):
        records.write_bytes(b"damaged" * 99)
    with pytest.raises(UserError, match=r"TFDS cannot provide librispeech \(.*delete .*librispeech and run this again"):
        catalog.read("tfds:librispeech", tmp_path, extract_to=elsewhere)
    assert not [path for path in elsewhere.iterdir() if path.is_dir()]


def test_data_prepared_as_decoded_audio_are_read(tmp_path, redirected, official, monkeypatch):
    """TFDS's `default` decodes FLAC with ffmpeg; here soundfile does."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.features import audio_feature

    monkeypatch.setattr(audio_feature, "_pydub_load_audio", lambda file, *_: soundfile.read(file, dtype="int16")[0])
    tfds.builder("librispeech/default", data_dir=tmp_path).download_and_prepare()
    redirected[0].clear()
    check(catalog.read("tfds:librispeech", tmp_path), official)
    assert not redirected[0]
    assert not (tmp_path / "librispeech/lazy_decode").exists()


def test_a_failed_download_is_a_user_error(tmp_path, redirected):
    _, folder = redirected
    hidden = (folder / "dev-clean.tar.gz").rename(folder / "hidden")
    try:
        with pytest.raises(UserError, match=rf"{tmp_path}: TFDS cannot provide librispeech \(.*404"):
            catalog.read("tfds:librispeech", tmp_path)
    finally:
        hidden.rename(folder / "dev-clean.tar.gz")
