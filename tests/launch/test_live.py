"""transcribe.py --live: several kinds of pipe, a terminal, and Ctrl-C in the middle of a word."""

import io
import json
import signal
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile

import live
from tests.conftest import ROOT, launch
from tests.test_streaming import BURSTS, WAVE
from w2l_jax import Break, Event
from w2l_jax.errors import UserError
from w2l_jax.recognizer import Word

SAMPLES = np.round(WAVE * 32767).astype("<i2")
COMMAND = [sys.executable, str(ROOT / "launch" / "transcribe.py"), "--live", "--run=english"]


def wav(samples, rate=16_000, subtype="PCM_16"):
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format="WAV", subtype=subtype)
    return bytearray(content.getvalue())


class Dribble(io.BytesIO):
    """A pipe that yields few bytes at a time, an odd number of them."""

    def read(self, size=-1):
        return super().read(min(size, 37))


def received(content, rate=16_000, pipe=io.BytesIO):
    rate, arriving = live.pipe(pipe(bytes(content)), rate)
    blocks = []
    while (block := arriving.get(timeout=10)) is not None:
        blocks.append(block)
    return rate, np.concatenate(blocks)


@pytest.mark.parametrize("pipe", [io.BytesIO, Dribble])
def test_raw_samples_and_wav(pipe):
    short = SAMPLES[:5000]
    unknown_length = wav(short)
    unknown_length[40:44] = struct.pack("<I", 0xFFFFFFFF)  # as written by a recorder that is still running
    stereo = np.stack([short, -short], axis=1)
    for content, rate in [(short.tobytes(), 22_050), (wav(short, 22_050), 22_050), (wav(stereo), 16_000)]:
        found_rate, found = received(content, 22_050, pipe)
        assert found_rate == rate
        np.testing.assert_array_equal(found, short)
    np.testing.assert_array_equal(received(unknown_length, pipe=pipe)[1], short)


def test_wav_that_is_not_16_bit():
    with pytest.raises(UserError, match="16-bit integers"):
        received(wav(WAVE[:100], subtype="FLOAT"))
    with pytest.raises(UserError, match="ends within its wav header"):
        received(wav(SAMPLES)[:30])


def test_a_terminal_rewrites_the_words_and_keeps_the_lines():
    out, meter = io.StringIO(), io.StringIO()
    screen = live.Screen("txt", out, meter)
    word = Word("gut", 0.1, 0.4)
    screen.show(Event("provisional", 0.1, 0.3, "gu", (word,)))
    list(screen.listen([np.array([0, -32768], np.int16), Break(0.1)]))
    screen.show(Event("final", 0.1, 0.4, "gut", (word,)))
    assert out.getvalue() == "gut\n"
    drawn = meter.getvalue().split("\r\x1b[K")
    assert "·" * 10 + " gu" in drawn and "▮" * 10 + " gu" in drawn and drawn[-1].strip() == "▮" * 10


def test_only_final_lines_are_written_to_a_pipe():
    out = io.StringIO()
    screen = live.Screen("txt", out, None)
    screen.show(Event("provisional", 0.1, 0.3, "gu"))
    screen.show(Event("message", 0.1, 0.3, "too loud"))
    screen.show(Event("final", 0.1, 0.4, "gut"))
    assert out.getvalue() == "gut\n"


def test_a_pipe_is_transcribed(tmp_path):
    done = subprocess.run([*COMMAND, "-"], input=bytes(wav(SAMPLES)), capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.decode().splitlines()) == len(BURSTS)


def test_ctrl_c_prints_the_last_words():
    process = subprocess.Popen(
        [*COMMAND, "--format=json", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        process.stdin.write(SAMPLES[: 2 * 16_000].tobytes())
        process.stdin.flush()
        events = [json.loads(process.stdout.readline())]
        process.send_signal(signal.SIGINT)
        events += map(json.loads, process.stdout)
        assert process.wait(timeout=60) == 0
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()
    assert events[0]["kind"] == "provisional"
    assert [event["kind"] for event in events].index("final") == len(events) - 1
    assert events[-1]["words"][-1]["end"] > 0.9


@pytest.mark.parametrize(
    ("options", "error"),
    [(["a.wav"], "not files"), (["--format=srt"], "txt or json"), (["--rate=0", "-"], "samples per second")],
)
def test_unsupported_options_of_live(options, error, tmp_path):
    done = launch("transcribe.py", "--live", *options, cwd=tmp_path)
    assert done.returncode == 1 and error in done.stderr and "Traceback" not in done.stderr
