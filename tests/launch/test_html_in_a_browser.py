"""The page in a headless Chromium, if installed: a click sorts a table, a click on a word plays it."""

import http.server
import json
import queue
import shutil
import subprocess
import threading

import numpy as np
import pytest

from pages import html as report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

# What a reader does and sees; the result is sent to the server of the page.
READER = """
const column = n => [...document.querySelectorAll("tbody tr")].map(row => row.cells[n].textContent);
const click = element => element.dispatchEvent(new MouseEvent("click", {bubbles: true}));
const [name, rate] = document.querySelectorAll("th button");
const seen = {errors: [], sorted: []};
window.addEventListener("error", event => seen.errors.push(event.message));
for (const head of [rate, rate, name]) { click(head); seen.sorted.push(column(0).join(" ")); }
seen.aria = [...document.querySelectorAll("th")].map(head => head.getAttribute("aria-sort"));
seen.wide = document.querySelector("svg").getBoundingClientRect().width;
const audio = document.querySelector("audio");
audio.addEventListener("playing", () => { seen.from = audio.currentTime; });
audio.addEventListener("pause", () => {
  seen.to = audio.currentTime;
  fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
});
click(document.querySelector(".word"));
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_click_sorts_and_a_click_plays(tmp_path):
    rows = [{"name": "b", "rate": "9.5% [1.0, 2.0]"}, {"name": "c", "rate": "10.0%"}, {"name": "a", "rate": "1,200"}]
    wave_N = 0.1 * np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    word = '<button class="word" data-start="0.5" data-end="1.0">word</button>'
    figure = report.figure(lambda figure: figure.subplots().plot([1, 2]), "line", (5, 3))
    content = f"{report.table(rows, 'rates')}{figure}<article>{word}{report.audio(wave_N, 16000)}</article>"
    page = report.page("t", [("s", content)]).replace("</body>", f"<script>{READER}</script></body>")
    answers: queue.Queue = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode() if self.path == "/" else b"")

        def do_POST(self):
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        address = f"http://127.0.0.1:{server.server_port}/"
        browser = subprocess.Popen(
            [BROWSER, *flags, f"--user-data-dir={tmp_path}", "--remote-debugging-port=0", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            seen = answers.get(timeout=60)
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
    assert seen["errors"] == []
    assert seen["sorted"] == ["b c a", "a c b", "a b c"]  # by number ascending, descending, then by name
    assert seen["aria"] == ["ascending", None]
    assert seen["wide"] == pytest.approx(5 * 96, rel=0.01)
    assert 0.45 < seen["from"] < 0.7 and 1.0 <= seen["to"] < 1.5
