"""Problem documents for what is refused before there is a request that the application could answer: `connections.py`
and `websocket.py` write them to the connection themselves.
"""

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from caravan.errors import TYPE_BASE
from caravan.telemetry import new_traceparent

PROBLEM_TYPE = "application/problem+json"


def build_document(status: int, title: str, detail: str) -> tuple[bytes, str]:
    """The document, with its trace id."""
    trace_id = new_traceparent()[3:35]
    document = {
        "type": TYPE_BASE + title.lower().replace(" ", "-"),
        "title": title,
        "status": status,
        "detail": detail,
        "instance": "",
        "trace_id": trace_id,
    }
    return orjson.dumps(document), trace_id


def build_response(status: int, title: str, detail: str) -> bytes:
    """A whole answer, after which the connection is closed."""
    body, trace_id = build_document(status, title, detail)
    retry = b"retry-after: 1\r\n" if status in (429, 503) else b""
    fields = b"content-type: %s\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\nx-request-id: %s\r\n"
    head = fields % (PROBLEM_TYPE.encode(), trace_id.encode())
    return STATUS_LINE[status] + head + retry + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body
