"""A stand-in for an SMS gateway with Twilio's API, in a process of its own: `python -m
tests.services.notifications.sms_gateway` prints its port.

The number says what becomes of a message. `GET /messages` lists what was sent; a key that comes again sends nothing.
"""

import json
import time
from base64 import b64decode
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

ACCOUNT, TOKEN = "AC1", "s/ecret"
PATH = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
ANSWERS: dict[str, tuple[int, dict[str, Any]]] = {
    "+440000400": (400, {"code": 21211, "message": "Invalid 'To' Phone Number", "status": 400}),
    "+440000422": (422, {}),
    "+440000429": (429, {"code": 20429, "message": "Too Many Requests", "status": 429}),
    "+440000500": (500, {"message": "oops"}),
    "+440000503": (503, {}),
    "+440000302": (302, {}),
    "+440000201": (201, {"status": "failed", "error_code": 30006}),
}
SILENT, CUT_OFF, ENDLESS = "+440000000", "+440000001", "+440000002"
sent: list[dict[str, str]] = []
answered: dict[str, dict[str, str]] = {}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(200, sent)

    def do_POST(self) -> None:
        form = {
            name: values[0]
            for name, values in parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()).items()
        }
        kind, _, credentials = self.headers.get("authorization", "").partition(" ")
        if kind != "Basic" or b64decode(credentials).decode() != f"{ACCOUNT}:{TOKEN}":
            self._answer(401, {"code": 20003, "message": "Authenticate", "status": 401})
        elif self.path != PATH:
            self._answer(404, {"code": 20404, "message": "not found", "status": 404})
        elif form["To"] in ANSWERS:
            self._answer(*ANSWERS[form["To"]])
        else:
            self._take(form)

    def _take(self, form: dict[str, str]) -> None:
        key = self.headers["idempotency-key"]
        is_new = key not in answered
        if is_new:
            answered[key] = form
            sent.append({**form, "key": key})
        if form["To"] == SILENT and is_new:
            time.sleep(30)
        if form["To"] == CUT_OFF and is_new:
            self.connection.close()
            return
        if form["To"] == ENDLESS:
            self._answer_without_end()
            return
        self._answer(201, {"sid": f"SM{len(sent)}", "status": "queued", "error_code": None})

    def _answer_without_end(self) -> None:
        self.send_response(201)
        self.send_header("content-length", str(2**40))
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(b" " * 2**16)

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
