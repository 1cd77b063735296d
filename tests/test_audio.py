import os
import shutil
import struct
import tracemalloc
import warnings

import av
import librosa
import numpy as np
import pytest
import soundfile

from w2l_jax import audio
from w2l_jax.audio import AudioError

TONE = (0.5 * np.sin(np.arange(16000) / 5)).astype(np.float32)


def test_audio_at_16_khz_is_read_unchanged(tmp_path):
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
    # A WAV named .flac is still a WAV: the content decides.
    soundfile.write(tmp_path / "real.wav", TONE, 16000)
    (tmp_path / "named.flac").write_bytes((tmp_path / "real.wav").read_bytes())
    assert len(audio.load(tmp_path / "named.flac")) == 16000


def test_bad_files_are_reported_with_a_reason(tmp_path):
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
    """A NIST sphere file of 16-bit samples, as in the Verbmobil corpora."""
    fields = f"channel_count -i 1\nsample_count -i {len(samples) if count is None else count}\nsample_rate -i 16000\n"
    fields += f"sample_n_bytes -i 2\nsample_byte_format -s2 {order}\nsample_coding -s{len(coding)} {coding}\nend_head\n"
    header = f"NIST_1A\n{size:7d}\n{fields}".encode().ljust(size)
    return header + samples.astype(">i2" if order == "10" else "<i2").tobytes()


@pytest.mark.parametrize("form", [{}, {"order": "10"}, {"size": 2048}, {"count": 7}])
def test_nist_sphere(tmp_path, form):
    samples = (TONE * 32767).astype(np.int16)
    (tmp_path / "a.nis").write_bytes(nist(samples, **form))
    np.testing.assert_array_equal(audio.load(tmp_path / "a.nis"), samples.astype(np.float32) / 32768)


def test_bad_nist_sphere_is_reported_with_a_reason(tmp_path):
    good = nist((TONE * 32767).astype(np.int16))
    shorten = nist(TONE[:0], coding="pcm,embedded-shorten-v2.00", count=16000) + b"ajkg" + bytes(5000)
    cases = {
        "cut.nis": (good[:-1], "truncated audio", "its header declares more audio than it holds"),
        "half.nis": (good[:9000], "truncated audio", "its header declares more audio than it holds"),
        "header.nis": (good[:1024], "truncated audio", "its header declares more audio than it holds"),
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
        ("ima.wav", {"subtype": "IMA_ADPCM"}),
        ("gsm.wav", {"subtype": "GSM610"}),
    ],
)
def test_a_piece_equals_that_part_of_the_recording(tmp_path, name, options):
    """To the bit, in formats that seek, in those that cannot, and in those with stateful decoders."""
    noise = np.cumsum(np.random.default_rng(0).normal(0, 0.02, 48000))
    soundfile.write(tmp_path / name, 0.5 * noise / abs(noise).max(), 16000, **options)
    whole = audio.load(tmp_path / name)
    for first, stop in ((0, 100), (1, 16001), (777, 40000), (31999, 32000), (20000, len(whole))):
        piece = audio.load(tmp_path / name, first / 16000, stop / 16000)
        np.testing.assert_array_equal(piece, whole[first:stop])
    np.testing.assert_array_equal(audio.load(tmp_path / name, 2.5), whole[40000:])


def test_a_piece_is_rounded_to_samples_of_the_file(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 44100).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype="FLOAT")
    piece = audio.load(tmp_path / "a.wav", 0.25001, 0.75)
    np.testing.assert_array_equal(piece, librosa.resample(samples[11025:33075], orig_sr=44100, target_sr=16000))


def test_pieces_outside_the_recording(tmp_path):
    soundfile.write(tmp_path / "a.wav", TONE, 16000)
    np.testing.assert_array_equal(audio.load(tmp_path / "a.wav", 0.5, 1.09), audio.load(tmp_path / "a.wav", 0.5))
    for start, end in ((0.5, 1.2), (1.0, None), (1.0, 1.05), (-0.1, 0.5), (0.5, 0.5), (0.6, 0.5), (3.0, 4.0)):
        with pytest.raises(AudioError, match=r"a\.wav: has no piece from .* it lasts 1\.000 s") as caught:
            audio.load(tmp_path / "a.wav", start, end)
        assert caught.value.reason == "outside the recording"


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.filterwarnings("ignore:.*recorded at")
def test_blocks_equal_librosas_result(tmp_path, monkeypatch, rate):
    """To the bit, for any division of the file into blocks."""
    for samples in (1, 777, rate + 1):
        waveform = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
        soundfile.write(tmp_path / "a.wav", waveform, rate, subtype="FLOAT")
        expected = librosa.resample(waveform, orig_sr=rate, target_sr=16000)
        for block in (100, 1000, 2**20):
            monkeypatch.setattr(audio, "_BLOCK", block)
            found = list(audio.blocks(tmp_path / "a.wav"))
            assert len(found) >= samples // block
            np.testing.assert_array_equal(np.concatenate(found), expected)


def test_damage_is_reported_when_its_block_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "_BLOCK", 1000)
    late = TONE.copy()
    late[5500] = np.nan
    soundfile.write(tmp_path / "late.wav", late, 16000, subtype="FLOAT")
    blocks = audio.blocks(tmp_path / "late.wav")
    assert sum(len(next(blocks)) for _ in range(5)) == 5000
    with pytest.raises(AudioError, match="NaN"):
        next(blocks)


SWEEP = (0.4 * np.sin(np.cumsum(np.linspace(0.1, 1.2, 16000 * 8)))).astype(np.float32)


def encode(path, samples, codec, container=None, rate=16000, **options):
    """Writes float32 samples [N] with one of ffmpeg's encoders, as telephones and browsers do."""
    with av.open(str(path), "w", format=container, container_options=options) as target:
        stream = target.add_stream(codec, rate=rate, layout="mono", bit_rate=64000)
        resampler = av.AudioResampler(stream.format, stream.layout, rate, stream.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
        frame.sample_rate, frame.pts = 16000, 0
        for piece in (frame, None):
            for part in resampler.resample(piece):
                target.mux(stream.encode(part))
        target.mux(stream.encode(None))


FORMATS = [
    ("a.m4a", "aac", {}),
    ("a.mp4", "aac", {"movflags": "faststart"}),
    ("a.mov", "alac", {}),
    ("a.webm", "libopus", {}),
    ("a.mka", "flac", {}),
    ("a.aac", "aac", {}),
    ("a.wma", "wmav2", {}),
    ("a.mp3", "libmp3lame", {"write_xing": "0"}),
    ("a.ts", "aac", {}),
]


@pytest.mark.parametrize(("name", "codec", "options"), FORMATS)
def test_formats_of_telephones_and_browsers(tmp_path, name, codec, options):
    """The encoded sound is read at its position; a piece equals that part of the recording."""
    encode(tmp_path / name, SWEEP, codec, **options)
    whole = audio.load(tmp_path / name)
    assert abs(len(whole) - len(SWEEP)) < 3000
    lag = np.argmax(np.correlate(whole[16000:40000], SWEEP[20000:36000], "valid")) - 4000
    assert abs(lag) <= 2200, lag
    n = min(len(whole), len(SWEEP)) - 4000
    assert np.corrcoef(whole[2500 + lag : n + lag], SWEEP[2500:n])[0, 1] > 0.99
    edge = slice(200, -200)  # if resampled, a piece starts and ends with silence around it
    lags = range(-8, 9) if name in ("a.webm", "a.wma") else [0]  # their times are milliseconds
    for first, stop in ((0, 1000), (777, 9000), (70001, 90000), (110000, 120000)):
        piece = audio.load(tmp_path / name, first / 16000, stop / 16000)
        assert abs(len(piece) - (stop - first)) <= 1
        wrong = [
            abs(piece[edge] - whole[200 + first + lag :][: len(piece[edge])]).max() for lag in lags if first + lag >= 0
        ]
        assert min(wrong) < (2e-3 if name == "a.wma" else 1e-4)  # WMA's decoder adds noise, by what came before


def wav(samples, size, riff=None, tail=b""):
    """A plain 16-bit WAV at 16 kHz whose data chunk claims `size` bytes."""
    content = (samples * 32767).astype("<i2").tobytes() + tail
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    riff = min(size + 36, 2**32 - 1) if riff is None else riff
    return b"RIFF" + struct.pack("<I", riff) + b"WAVE" + form + b"data" + struct.pack("<I", size) + content


@pytest.mark.parametrize(
    ("size", "riff"),
    [
        *((size, None) for size in (0x7F000000, 0x7FFFF000, 0x7FFFF024, 0x7FFFFF00, 0x7FFFFFFF, 0x7FFFFFDB)),
        *((size, None) for size in (0x80000000, 0x80000024, 0xFFFFFFFF, 0xFFFFFFDB, 0xFFFFFF00, 0xFFFFF000, 0, 1000)),
        *((0, riff) for riff in (0, 8, 36, 0xFFFFFFFF, 0x7FFFF024)),
        *((32000 + off, 32036) for off in (8, 36, 44, -8, -36, -44)),
    ],
)
def test_wrong_wav_headers(tmp_path, size, riff):
    """Placeholders of writers that could not seek back, sizes off by the header's own, headers never finalised."""
    (tmp_path / "a.wav").write_bytes(wav(TONE, size, riff))
    whole = audio.load(tmp_path / "a.wav")
    np.testing.assert_array_equal(whole, (TONE * 32767).astype(np.int16).astype(np.float32) / 32768)
    np.testing.assert_array_equal(audio.load(tmp_path / "a.wav", 0.25, 0.5), whole[4000:8000])
    assert audio.seconds(tmp_path / "a.wav") in (0.0, 1.0)


@pytest.mark.parametrize(("place", "value"), [(24, 1), (24, 999), (24, 2**31), (20, 0xFB8B), (32, 0x00400008)])
def test_wav_headers_with_impossible_rates_or_codecs(tmp_path, place, value):
    """At 1 Hz, a megabyte would be a year; a codec unknown to ffmpeg has no rate; 64 bits are none of NumPy's."""
    content = bytearray(wav(TONE, 32000))
    content[place : place + 4] = struct.pack("<I", value)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.wav: (not readable as audio|truncated or damaged)"):
        audio.load(tmp_path / "a.wav")


def test_tags_need_not_be_utf_8(tmp_path):
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        container.metadata["title"] = "Gruesse"
        frame = av.AudioFrame.from_ndarray(TONE[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    content = (tmp_path / "a.m4a").read_bytes()
    assert content.count(b"Gruesse") == 1
    (tmp_path / "a.m4a").write_bytes(content.replace(b"Gruesse", b"Gr\xfc\xdfe__"))
    assert abs(len(audio.load(tmp_path / "a.m4a")) - 16000) <= 2048


def test_a_thousand_channels_take_little_memory(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((40_000, 1000), np.int16), 16000)
    tracemalloc.start()
    assert sum(map(len, audio.blocks(tmp_path / "a.wav"))) == 40_000
    assert tracemalloc.get_traced_memory()[1] < 220e6
    tracemalloc.stop()


def test_chunks_after_the_samples_are_not_audio(tmp_path):
    tags = b"LIST" + struct.pack("<I", 6) + b"INFOab"
    (tmp_path / "a.wav").write_bytes(wav(TONE, 32000, tail=tags))
    assert len(audio.load(tmp_path / "a.wav")) == 16000
    (tmp_path / "none.wav").write_bytes(wav(TONE[:0], 0, tail=tags))
    with pytest.raises(AudioError, match="holds no samples"):
        audio.load(tmp_path / "none.wav")


def test_a_wav_that_claims_terabytes_takes_no_memory(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(TONE, 0xFFFFFFFF))
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[:4] = b"RF64"
    content[12:12] = b"ds64" + struct.pack("<IQQQI", 28, 2**45, 2**45, 2**44, 0)
    (tmp_path / "a.wav").write_bytes(content)
    tracemalloc.start()
    assert len(audio.load(tmp_path / "a.wav")) == 16000
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert audio.seconds(tmp_path / "a.wav") == 1.0


SIZES = {  # position of each format's size field, its struct format, and the bytes it counts besides the samples
    "aiff": (lambda content: content.index(b"SSND") + 4, ">I", 8),
    "caf": (lambda content: content.index(b"data") + 4, ">Q", 4),
    "au": (lambda content: 8, ">I", 0),
    "w64": (lambda content: content.index(b"data\xf3\xac\xd3\x11") + 16, "<Q", 24),
    "rf64": (lambda content: content.index(b"ds64") + 16, "<Q", 0),
}


@pytest.mark.parametrize("kind", SIZES)
def test_wrong_headers_of_other_formats(tmp_path, kind):
    """All of the sound is read, whatever a placeholder or an unfinished header claims."""
    path, (place_in, code, more) = tmp_path / f"a.{kind}", SIZES[kind]
    soundfile.write(path, TONE, 16000, format=kind.upper(), subtype="PCM_16")
    whole, content = audio.load(path), bytearray(path.read_bytes())
    place, width = place_in(content), struct.calcsize(code)
    assert struct.unpack_from(code, content, place) == (32000 + more,)
    placeholders = [0, 0x7FFFF000, 0x80000000, 2 ** (8 * width) - 1]
    for size in placeholders if kind == "au" else [*placeholders, 16000 + more]:
        struct.pack_into(code, content, place, size)
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(audio.load(path), whole)
            np.testing.assert_array_equal(audio.load(path, 0.25, 0.5), whole[4000:8000])
    struct.pack_into(code, content, place, 32000 + more)
    path.write_bytes(content[:-16000])
    with pytest.raises(AudioError, match="truncated: its header declares more audio than it holds"):
        audio.load(path)
    with pytest.warns(audio.AudioWarning, match=r"read up to 0\.\d s$"):
        part = audio.load(path, truncated="read")
    np.testing.assert_array_equal(part, whole[:8000])


def test_a_truncated_ogg_is_read_to_its_last_complete_page(tmp_path):
    """Each page holds a second of Opus; a cut between two pages looks like a recorded broadcast."""
    soundfile.write(tmp_path / "a.opus", SWEEP, 16000, format="OGG", subtype="OPUS")
    whole, content = audio.load(tmp_path / "a.opus"), (tmp_path / "a.opus").read_bytes()
    pages = [place for place in range(len(content)) if content[place : place + 5] == b"OggS\0"]
    (tmp_path / "a.opus").write_bytes(content[: pages[-2] + 100])
    with pytest.raises(AudioError, match="truncated"):
        audio.load(tmp_path / "a.opus")
    with pytest.warns(audio.AudioWarning, match=r"read up to \d\.\d s$"):
        part = audio.load(tmp_path / "a.opus", truncated="read")
    (tmp_path / "a.opus").write_bytes(content[: pages[-2]])
    np.testing.assert_array_equal(audio.load(tmp_path / "a.opus"), part)
    assert len(whole) - 2 * 16000 - 1000 < len(part) < len(whole)
    np.testing.assert_allclose(part[:-400], whole[: len(part) - 400], atol=1e-4)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.m4a", "a.mp3", "a.nis"])
def test_truncated_files_are_an_error_or_read_to_their_end(tmp_path, name):
    path = tmp_path / name
    if name == "a.nis":
        path.write_bytes(nist((SWEEP * 32767).astype(np.int16)))
    elif name in ("a.wav", "a.flac"):
        soundfile.write(path, SWEEP, 16000)
    else:
        encode(path, SWEEP, "aac" if name == "a.m4a" else "libmp3lame", movflags="faststart")
    whole = audio.load(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(AudioError, match="truncated") as caught:
        audio.load(path)
    assert caught.value.reason == "truncated audio"
    with pytest.warns(audio.AudioWarning, match=r"truncated.*; read up to [56]\.\d s$"):
        part = audio.load(path, truncated="read")
    assert 0.6 < len(part) / len(whole) < 0.8
    n = len(part) - 2000
    np.testing.assert_allclose(part[:n], whole[:n], rtol=0, atol=1e-4)


def join(path, *parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


@pytest.mark.parametrize("name", ["a.opus", "a.ogg", "a.flac", "a.wav", "a.mp3"])
def test_concatenated_recordings_in_one_file(tmp_path, name):
    """Chained Ogg, as from internet radio or `cat`, and similar files: all of it, and pieces of it."""
    options = {"format": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
    soundfile.write(tmp_path / f"1{name}", TONE, 16000, **options)
    soundfile.write(tmp_path / f"2{name}", np.concatenate([SWEEP[:24000]]), 16000, **options)
    join(tmp_path / name, tmp_path / f"1{name}", tmp_path / f"2{name}", tmp_path / f"1{name}")
    first, second = audio.load(tmp_path / f"1{name}"), audio.load(tmp_path / f"2{name}")
    whole = audio.load(tmp_path / name)
    if name == "a.mp3":  # nothing marks where one starts
        assert abs(len(whole) - 56000) < 6000
        return
    np.testing.assert_array_equal(whole, np.concatenate([first, second, first]))
    for start, stop in ((0, 800), (8000, 20000), (17000, 30000), (39000, 41000), (1000, 56000)):
        np.testing.assert_array_equal(audio.load(tmp_path / name, start / 16000, stop / 16000), whole[start:stop])
    assert audio.seconds(tmp_path / name) == 3.5
    with pytest.raises(AudioError, match=r"no piece from 3 s to 3\.7 s, it lasts 3\.500 s"):
        audio.load(tmp_path / name, 3, 3.7)


def test_links_with_different_rates(tmp_path):
    soundfile.write(tmp_path / "1.ogg", TONE, 16000)
    soundfile.write(tmp_path / "2.ogg", SWEEP[:24000], 32000)
    join(tmp_path / "a.ogg", tmp_path / "1.ogg", tmp_path / "2.ogg")
    assert len(audio.load(tmp_path / "a.ogg")) == 16000 + 12000


def test_flac_and_webm_from_a_pipe_without_a_length(tmp_path):
    soundfile.write(tmp_path / "a.flac", TONE, 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # STREAMINFO's 36-bit number of samples, 0 if written to a pipe
    content[22:26] = bytes(4)
    (tmp_path / "b.flac").write_bytes(content)
    whole = audio.load(tmp_path / "a.flac")
    np.testing.assert_array_equal(audio.load(tmp_path / "b.flac"), whole)
    np.testing.assert_array_equal(audio.load(tmp_path / "b.flac", 0.25, 0.5), whole[4000:8000])
    assert audio.seconds(tmp_path / "b.flac") == 0.0
    with pytest.raises(AudioError, match="no piece"):
        audio.load(tmp_path / "b.flac", 0.5, 3.0)
    encode(tmp_path / "live.webm", SWEEP, "libopus", live="1")
    assert abs(len(audio.load(tmp_path / "live.webm")) - len(SWEEP)) < 400


def test_channels_in_opposite_phase(tmp_path):
    quiet = 0.9 * TONE
    for channels, expected in (
        ([TONE, -TONE], TONE),
        ([-0.999 * TONE, TONE], -0.999 * TONE),
        ([quiet, -0.97 * quiet], quiet),
        ([TONE, np.zeros_like(TONE)], TONE / 2),
        ([TONE, -quiet], (TONE - quiet) / 2),
        ([TONE, -TONE, 0 * TONE], TONE),
    ):
        soundfile.write(tmp_path / "a.wav", np.stack(channels, 1), 16000, subtype="FLOAT")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            np.testing.assert_allclose(audio.load(tmp_path / "a.wav"), expected, atol=1e-7)
        cancels = int(abs(expected).max() > 0.4)
        assert [str(w.message) for w in caught] == cancels * [
            f"{tmp_path}/a.wav: its channels cancel each other (opposite phase); only the louder one is used"
        ]


def test_other_formats_are_not_opened(tmp_path):
    """A playlist with a recording's name opens no other file."""
    soundfile.write(tmp_path / "secret.wav", TONE, 16000)
    for content in (
        f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {tmp_path}/secret.wav\n",
        "just text",
        "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    ):
        (tmp_path / "a.m4a").write_text(content)
        with pytest.raises(AudioError, match=r"a\.m4a: not readable as audio"):
            audio.load(tmp_path / "a.m4a")


@pytest.mark.parametrize("name", [b"10:30.m4a", b"M\xe4rz.m4a", b"-.m4a", b"7", b"a.raw", "Ма\u0308rz %d.m4a".encode()])
def test_any_file_name(tmp_path, name):
    encode(tmp_path / "a.m4a", SWEEP, "aac")
    soundfile.write(tmp_path / "a.wav", TONE, 16000)
    for file in ("a.m4a", "a.wav"):
        path = tmp_path / os.fsdecode(name)
        shutil.copy(tmp_path / file, path)
        np.testing.assert_array_equal(audio.load(path), audio.load(tmp_path / file))
        assert audio.seconds(path) == pytest.approx(8 if file == "a.m4a" else 1, abs=0.1)


def test_hours_need_no_more_memory(tmp_path):
    encode(tmp_path / "a.m4a", np.tile(SWEEP, 60), "aac")
    tracemalloc.start()
    total = sum(len(block) for block in audio.blocks(tmp_path / "a.m4a"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(total - 60 * len(SWEEP)) < 3000
    assert peak < 25e6, "the file's samples are 31 MB"
