import audioread
import librosa
import numpy as np
import pytest
import soundfile

from w2l_jax import audio
from w2l_jax.audio import AudioError

TONE = (0.5 * np.sin(np.arange(16000) / 5)).astype(np.float32)


def test_reads_16_khz_as_it_is(tmp_path):
    soundfile.write(tmp_path / "a.wav", TONE, 16000, subtype="FLOAT")
    np.testing.assert_array_equal(audio.load(tmp_path / "a.wav"), TONE)


def test_averages_channels(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([TONE, -TONE / 2], 1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(audio.load(tmp_path / "a.wav"), TONE / 4, atol=1e-7)


def test_8_khz_warns_and_works(tmp_path):
    soundfile.write(tmp_path / "a.wav", TONE[::2], 8000)
    with pytest.warns(UserWarning, match="8000 Hz"):
        assert audio.load(tmp_path / "a.wav").shape == (16000,)


def test_every_format_by_content(tmp_path):
    for name in ("a.flac", "a.ogg", "a.mp3"):
        soundfile.write(tmp_path / name, TONE, 16000)
        assert abs(len(audio.load(tmp_path / name)) - 16000) < 3000
    # A WAV under a FLAC's name is still a WAV: the content decides.
    soundfile.write(tmp_path / "real.wav", TONE, 16000)
    (tmp_path / "named.flac").write_bytes((tmp_path / "real.wav").read_bytes())
    assert len(audio.load(tmp_path / "named.flac")) == 16000


def test_flac_without_a_length(tmp_path):
    soundfile.write(tmp_path / "a.flac", TONE, 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # STREAMINFO's 36-bit number of samples, which a pipe leaves at 0
    content[22:26] = bytes(4)
    (tmp_path / "b.flac").write_bytes(content)
    with pytest.raises(AudioError, match=r"b\.flac: does not say how long"):
        audio.load(tmp_path / "b.flac")


def test_bad_files_say_why(tmp_path):
    good = tmp_path / "good.wav"
    soundfile.write(good, TONE, 16000)
    content = good.read_bytes()
    soundfile.write(tmp_path / "good.flac", TONE, 16000)
    flac = (tmp_path / "good.flac").read_bytes()
    nan = TONE.copy()
    nan[7] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", TONE[:0], 16000)
    for name, data in {
        "cut.wav": content[: len(content) // 2],
        "cut.flac": flac[: len(flac) // 2],
        "empty.wav": b"",
        "text.wav": b"this is no audio at all",
    }.items():
        (tmp_path / name).write_bytes(data)
    expected = {
        "absent.wav": "missing audio",
        "empty.wav": "empty audio",
        "none.wav": "empty audio",
        "text.wav": "unreadable audio",
        "cut.wav": "truncated audio",
        "cut.flac": "truncated audio",
        "nan.wav": "non-finite audio",
    }
    for name, reason in expected.items():
        with pytest.raises(AudioError, match=name) as caught:
            audio.load(tmp_path / name)
        assert caught.value.reason == reason, name


def nist(samples, coding="pcm", order="01", count=None, size=1024):
    """A NIST sphere file of 16-bit samples, as the Verbmobil corpora have them."""
    fields = f"channel_count -i 1\nsample_count -i {len(samples) if count is None else count}\nsample_rate -i 16000\n"
    fields += f"sample_n_bytes -i 2\nsample_byte_format -s2 {order}\nsample_coding -s{len(coding)} {coding}\nend_head\n"
    header = f"NIST_1A\n{size:7d}\n{fields}".encode().ljust(size)
    return header + samples.astype(">i2" if order == "10" else "<i2").tobytes()


@pytest.mark.parametrize("form", [{}, {"order": "10"}, {"size": 2048}, {"count": 7}])
def test_nist_sphere(tmp_path, form):
    samples = (TONE * 32767).astype(np.int16)
    (tmp_path / "a.nis").write_bytes(nist(samples, **form))
    np.testing.assert_array_equal(audio.load(tmp_path / "a.nis"), samples.astype(np.float32) / 32768)


def test_bad_nist_sphere_says_why(tmp_path):
    good = nist((TONE * 32767).astype(np.int16))
    shorten = nist(TONE[:0], coding="pcm,embedded-shorten-v2.00", count=16000) + b"ajkg" + bytes(5000)
    cases = {
        "cut.nis": (good[:-1], "truncated audio", "its header promises more audio than it holds"),
        "half.nis": (good[:9000], "truncated audio", "its header promises more audio than it holds"),
        "header.nis": (good[:1024], "truncated audio", "its header promises more audio than it holds"),
        "none.nis": (nist(TONE[:0]), "empty audio", "holds no samples"),
        "shorten.nis": (shorten, "unreadable audio", "compressed with shorten: convert it, e.g. `sph2pipe -f wav"),
        "rate.nis": (
            good.replace(b"sample_rate", b"simple_rate"),
            "unreadable audio",
            "its header is wrong: convert it",
        ),
        "lines.nis": (good.replace(b"NIST_1A\n", b"NIST_1A\r\n"), "unreadable audio", "its header is wrong"),
        "nonsense.nis": (b"NIST_1A\n   1024\nend_head\n" + bytes(3000), "unreadable audio", "its header is wrong"),
    }
    for name, (content, reason, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AudioError, match=name) as caught:
            audio.load(tmp_path / name)
        assert caught.value.reason == reason, name
        assert message in str(caught.value), name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {}),
        ("a.flac", {}),
        ("a.nis", {"format": "NIST", "subtype": "PCM_16"}),
        ("a.ogg", {}),
        ("a.mp3", {}),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
        ("gsm.wav", {"subtype": "GSM610"}),
    ],
)
def test_a_piece_is_what_the_whole_holds_there(tmp_path, name, options):
    """To the sample, in formats that seek and in those that cannot or whose decoders remember."""
    rounding = 1e-7 if name == "a.mp3" else 0  # libmpg123 rounds by how it is asked
    noise = np.cumsum(np.random.default_rng(0).normal(0, 0.02, 48000))
    soundfile.write(tmp_path / name, 0.5 * noise / abs(noise).max(), 16000, **options)
    whole = audio.load(tmp_path / name)
    for first, stop in ((0, 100), (1, 16001), (777, 40000), (31999, 32000), (20000, len(whole))):
        piece = audio.load(tmp_path / name, first / 16000, stop / 16000)
        np.testing.assert_allclose(piece, whole[first:stop], rtol=0, atol=rounding)
    np.testing.assert_allclose(audio.load(tmp_path / name, 2.5), whole[40000:], rtol=0, atol=rounding)


def test_a_piece_at_another_rate_is_rounded_to_the_files_samples(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 44100).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype="FLOAT")
    piece = audio.load(tmp_path / "a.wav", 0.25001, 0.75)
    np.testing.assert_array_equal(piece, librosa.resample(samples[11025:33075], orig_sr=44100, target_sr=16000))


def test_pieces_that_are_not_there(tmp_path):
    soundfile.write(tmp_path / "a.wav", TONE, 16000)
    np.testing.assert_array_equal(audio.load(tmp_path / "a.wav", 0.5, 1.09), audio.load(tmp_path / "a.wav", 0.5))
    for start, end in ((0.5, 1.2), (1.0, None), (1.0, 1.05), (-0.1, 0.5), (0.5, 0.5), (0.6, 0.5), (3.0, 4.0)):
        with pytest.raises(AudioError, match=r"a\.wav: has no piece from .* it lasts 1\.000 s") as caught:
            audio.load(tmp_path / "a.wav", start, end)
        assert caught.value.reason == "outside the recording"


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.filterwarnings("ignore:.*recorded at")
def test_blocks_are_what_librosa_makes_of_the_whole(tmp_path, monkeypatch, rate):
    """To the bit, wherever the file is cut into blocks."""
    for samples in (1, 777, rate + 1):
        waveform = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
        soundfile.write(tmp_path / "a.wav", waveform, rate, subtype="FLOAT")
        expected = librosa.resample(waveform, orig_sr=rate, target_sr=16000)
        for block in (100, 1000, 2**20):
            monkeypatch.setattr(audio, "_BLOCK", block)
            found = list(audio.blocks(tmp_path / "a.wav"))
            assert len(found) >= samples // block
            np.testing.assert_array_equal(np.concatenate(found), expected)


def test_damage_shows_when_its_block_is_reached(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "_BLOCK", 1000)
    late = TONE.copy()
    late[5500] = np.nan
    soundfile.write(tmp_path / "late.wav", late, 16000, subtype="FLOAT")
    blocks = audio.blocks(tmp_path / "late.wav")
    assert sum(len(next(blocks)) for _ in range(5)) == 5000
    with pytest.raises(AudioError, match="NaN"):
        next(blocks)


def test_what_only_the_operating_system_decodes(tmp_path, monkeypatch):
    """Core Audio, GStreamer and MAD give blocks of 16-bit samples; ffmpeg is not asked."""
    samples = (TONE * 20000).astype("<i2")

    class Decoder:
        samplerate, channels = 16000, 2

        def __init__(self, path):
            if not path.endswith(".m4a"):
                raise audioread.DecodeError

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __iter__(self):
            return iter(np.split(np.repeat(samples, 2), [14, 5000]))

    class FFmpegAudioFile(Decoder):
        samplerate = 1

    (tmp_path / "a.m4a").write_bytes(b"not for libsndfile")
    monkeypatch.setattr(audioread, "available_backends", lambda: [FFmpegAudioFile, Decoder])
    np.testing.assert_allclose(audio.load(tmp_path / "a.m4a"), samples / 32768, atol=1e-7)
    np.testing.assert_allclose(audio.load(tmp_path / "a.m4a", 0.25, 0.5), samples[4000:8000] / 32768, atol=1e-7)
    (tmp_path / "a.txt").write_bytes(b"text")
    with pytest.raises(AudioError, match="not readable as audio"):
        audio.load(tmp_path / "a.txt")
