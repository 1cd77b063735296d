"""The page of live_page.py: in a headless Chromium with a fake microphone, if installed, and by its protocol."""

import base64
import contextlib
import itertools
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import soundfile

from tests.launch.test_html_in_a_browser import BROWSER
from tests.test_streaming import BURSTS, WAVE
from w2l_jax import load

client = pytest.importorskip("websockets.sync.client")
import live_page  # noqa: E402

SAMPLES = np.round(WAVE * 32767).astype("<i2")


@pytest.fixture(scope="module")
def address():
    with live_page.serve(load("english"), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{live_page.port(server)}"
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def open_stream(address):
    with client.connect(f"ws://{address}/stream") as connection:
        connection.send(json.dumps({"rate": 16_000}))
        yield connection


def test_concurrent_listeners_get_their_own_transcripts(address):
    """The second one later by a burst; both get what a stream of the library gives."""
    expected = [list(load("english").stream([wave_N])) for wave_N in (SAMPLES, SAMPLES[2 * 16_000 :])]
    with open_stream(address) as first, open_stream(address) as second:
        for start in range(0, len(SAMPLES), 2048):
            first.send(SAMPLES[start : start + 2048].tobytes())
            if start < len(SAMPLES) - 2 * 16_000:
                second.send(SAMPLES[2 * 16_000 :][start : start + 2048].tobytes())
        for connection, events in zip((first, second), expected, strict=True):
            connection.send("end")
            found = [json.loads(message) for message in connection]
            assert [(e["kind"], e["start"], e["text"]) for e in found] == [(e.kind, e.start, e.text) for e in events]


def test_a_closed_tab_ends_its_thread(address):
    before = threading.active_count()
    with open_stream(address) as connection:
        connection.send(SAMPLES[:16_000].tobytes())
        assert threading.active_count() > before
    deadline = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_anything_but_a_recording_is_refused(address):
    for message in ("nonsense", "{}", '{"rate": 0}'):
        with client.connect(f"ws://{address}/stream") as connection:
            connection.send(message)
            with pytest.raises(Exception, match="1008"):
                connection.recv()
            assert connection.close_code == 1008
    with pytest.raises(Exception, match="403"):
        client.connect(f"ws://{address}/stream", origin="http://other.example")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://{address}/../cli.py")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_in_a_browser(address, tmp_path):
    soundfile.write(tmp_path / "speech.wav", SAMPLES, 16_000)
    browser = subprocess.Popen(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
            "--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={tmp_path}/speech.wav%noloop",
            f"--user-data-dir={tmp_path}/profile", "about:blank",
        ],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    watchdog = threading.Timer(150, browser.kill)
    watchdog.start()
    try:
        tools = next(filter(None, (re.search(r"ws://([\d.:]+)/", line) for line in browser.stderr)))[1]
        request = urllib.request.Request(f"http://{tools}/json/new?http://{address}/", method="PUT")
        target = json.load(urllib.request.urlopen(request))["webSocketDebuggerUrl"]
        with client.connect(target, max_size=None, origin=None) as page:
            ask = asker(page)
            wait(ask, "document.readyState === 'complete' && !!document.getElementById('record')?.onclick")
            ask("Runtime.evaluate", expression="document.getElementById('record').click()", userGesture=True)
            lines = "[...document.querySelectorAll('#lines li > span')].map(span => span.textContent)"
            wait(ask, "document.getElementById('words').textContent !== ''")
            wait(ask, f"{lines}.length === {len(BURSTS)}")
            shot = base64.b64decode(ask("Page.captureScreenshot")["data"])
            (tmp_path / "page.png").write_bytes(shot)
            value(ask, "document.getElementById('record').click()")
            kinds = "['txt', 'srt', 'jsonl']"
            files = value(ask, f"Object.fromEntries({kinds}.map(kind => [kind, FILES[kind]().join('')]))")
            texts = value(ask, lines)
            wait(ask, "document.getElementById('status').textContent === '' && recording === null")
            sound = value(ask, "heard.samples / heard.rate")
            words = [{"word": "the", "confidence": 0.5}, {"word": "he", "confidence": 1}]
            final = json.dumps({"kind": "final", "start": 1, "end": 2, "text": "the he", "words": words})
            value(ask, f"show({final}, 0)")
            shaded = value(ask, "document.querySelector('#lines li:last-child > span').innerHTML")
    finally:
        watchdog.cancel()
        browser.terminate()
        browser.wait()
    assert files["txt"].splitlines() == texts and all(texts)
    assert re.match(r"1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n" + texts[0] + "\n\n2\n", files["srt"])
    rows = [json.loads(row) for row in files["jsonl"].splitlines()]
    assert [row["text"] for row in rows] == texts and rows[0]["audio_filepath"] == "live.wav"
    gaps = [b["offset"] - a["offset"] for a, b in itertools.pairwise(rows)]
    assert gaps == pytest.approx([b[0] - a[0] for a, b in itertools.pairwise(BURSTS)], abs=0.3)
    assert sound > BURSTS[-1][1]
    the, he = re.findall(r'<span title="confidence ([\d.]+)" style="opacity: ([\d.]+);">', shaded)
    assert the == ("0.50", "0.675") and he == ("1.00", "1")
    assert re.sub("<[^>]*>", "", shaded) == "the he"


def asker(page):
    numbers = itertools.count(1)

    def ask(method, **params):
        number = next(numbers)
        page.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(page.recv(timeout=60))).get("id") != number:
            pass
        return answer["result"]

    return ask


def value(ask, expression):
    found = ask("Runtime.evaluate", expression=expression, returnByValue=True, userGesture=True)
    assert "exceptionDetails" not in found, found
    return found["result"].get("value")


def wait(ask, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not value(ask, condition):
        assert time.monotonic() < deadline, (condition, value(ask, "document.body.innerText"))
        time.sleep(0.1)
