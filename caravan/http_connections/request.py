"""A request as it is written to a connection, headers checked once."""

import re

import httpx2

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
_FORBIDDEN_IN_TARGET = re.compile(rb"[^\x21-\x7e]")


def write_request(request: httpx2.Request, body: bytes) -> bytes:
    """Raises LocalProtocolError for what no server would read as it is meant."""
    if request.url.scheme not in ("http", "https"):
        raise httpx2.UnsupportedProtocol(f"{request.url.scheme} is not spoken here")
    target, headers = request.url.raw_path, request.headers.raw
    if _FORBIDDEN_IN_TARGET.search(target):
        raise httpx2.LocalProtocolError("the path has characters that must be encoded")
    for name, _ in headers:
        if not _NAME.fullmatch(name):
            raise httpx2.LocalProtocolError(f"{name!r} is no name of a header")
    if _FORBIDDEN_IN_VALUE.search(b"".join([value for _, value in headers])):
        raise httpx2.LocalProtocolError("the value of a header has control characters")
    lines = [name + b": " + value for name, value in headers if name.lower() not in _LENGTHS]
    if len(lines) < len(headers):  # whatever was said of it
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([request.method.encode() + b" " + target + b" HTTP/1.1", *lines, b"", body])
