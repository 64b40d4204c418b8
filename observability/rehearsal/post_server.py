"""A small HTTP server that takes what others send: notifications of Alertmanager, spans and lines of log by OTLP."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from observability.rehearsal.monitoring import find_free_port


class PostServer:
    """`with PostServer(answer) as server:` listens; `stop` and `start` as often as one likes, on the same port.

    `answer` gets path and body of each POST, in a thread of its own, and returns the status. A connection ends with its
    request, so that a server that was stopped is gone for everybody.
    """

    def __init__(self, answer: Callable[[str, bytes], int] = lambda _path, _body: 200) -> None:
        self._answer = answer
        self._port = find_free_port()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        if self._server is None:
            self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._build_handler())
            threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _build_handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(answer(self.path, body))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler
