"""Serve a web page for live transcription."""

import contextlib
import dataclasses
import http
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import cli
import latest
import w2l_jax
from w2l_jax.errors import UserError

DESCRIPTION = """Serve a web page with a record button, live words and downloads, on this machine only.

  python launch/live_page.py      and open the address that it prints in a browser
"""

_PAGES = Path(__file__).parent / "pages"
_FILES = {"/": ("live.html", "text/html"), "/live.js": ("live.js", "text/javascript")}
_LONGEST_MESSAGE = 2**20


@dataclasses.dataclass(frozen=True)
class Options:
    run: str = latest.LATEST
    """Run folder, .safetensors file or included network (default: the last trained run, else `english`)."""
    checkpoint: str = "best"
    """Checkpoint: best, last or a stored step."""
    lm: str = ""
    """Folder of a language model, or none for greedy decoding (default: the run's own)."""
    host: str = "127.0.0.1"
    """Address to serve at; others open it to the network, where browsers record only over https."""
    port: int = 8000
    """Port to serve at; 0 picks a free one."""


def main(argv: list[str] | None = None) -> None:
    options = cli.parse(Options, argv, description=DESCRIPTION)
    cli.use_compilation_cache()
    recognizer = w2l_jax.load(latest.choose(options.run), options.checkpoint, lm=options.lm)
    with serve(recognizer, options.host, options.port) as server, contextlib.suppress(KeyboardInterrupt):
        print(f"http://{options.host}:{port(server)}/   (Ctrl-C ends)", flush=True)
        server.serve_forever()


def serve(recognizer: w2l_jax.Recognizer, host: str, number: int) -> Any:
    """A server of `websockets` (one thread per client); compiles the network first."""
    try:
        from websockets.sync.server import serve
    except ImportError:
        raise UserError("the page needs websockets: pip install 'w2l_jax[live]'") from None
    recognizer.stream([])
    try:
        return serve(_person(recognizer), host, number, process_request=_page, max_size=_LONGEST_MESSAGE)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host={host} --port={number}: {error}; choose another port") from None


def port(server: Any) -> int:
    """The port at which a server answers."""
    return server.socket.getsockname()[1]


def _page(connection: Any, request: Any) -> Any:
    """Answers with a file of the page; None for the WebSocket, from the page itself only."""
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    if request.path == "/stream":
        same = request.headers.get("Origin") in (None, f"http://{request.headers.get('Host')}")
        return None if same else connection.respond(http.HTTPStatus.FORBIDDEN, "another page\n")
    if request.path not in _FILES:
        return connection.respond(http.HTTPStatus.NOT_FOUND, "no such page\n")
    name, kind = _FILES[request.path]
    content = (_PAGES / name).read_bytes()
    head = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(content)), "Connection": "close"}
    return Response(200, "OK", Headers(head), content)


def _person(recognizer: w2l_jax.Recognizer) -> Callable[[Any], None]:
    """Serves one connection: receives a message with the rate, samples s16le and `end`; sends events."""
    from websockets.exceptions import ConnectionClosed

    def answer(connection: Any) -> None:
        with contextlib.suppress(ConnectionClosed):  # a tab that is closed
            try:
                rate = round(json.loads(connection.recv())["rate"])
                for event in recognizer.stream(_blocks(connection), rate):
                    connection.send(json.dumps(_plain(event), ensure_ascii=False))
            except (UserError, ValueError, KeyError, TypeError) as error:
                connection.close(1008, str(error)[:100])

    return answer


def _blocks(connection: Any) -> Iterator[np.ndarray]:
    for message in connection:
        if isinstance(message, str):
            return
        yield np.frombuffer(message, "<i2")


def _plain(event: w2l_jax.Event) -> dict[str, Any]:
    words = [{"word": word.word, "confidence": word.confidence} for word in event.words]
    return {"kind": event.kind, "start": event.start, "end": event.end, "text": event.text, "words": words}


if __name__ == "__main__":
    cli.run(main)
