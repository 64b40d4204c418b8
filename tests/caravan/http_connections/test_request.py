"""A request is written as it is meant, or not at all."""

import httpx2
import pytest

from caravan.http_connections.request import write_request

URL = "http://service/path"


def test_a_request_is_one_text() -> None:
    request = httpx2.Request("POST", f"{URL}?q=%C3%A4", headers={"x-a": "b"}, content=b"body")
    head, _, body = write_request(request, b"body").partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /path?q=%C3%A4 HTTP/1.1"
    assert set(head.lower().split(b"\r\n")[1:]) >= {b"host: service", b"x-a: b", b"content-length: 4"}
    assert body == b"body"


def test_a_body_that_came_in_pieces_has_a_length() -> None:
    request = httpx2.Request("POST", URL, content=iter([b"a", b"b"]))
    written = write_request(request, b"ab").lower()
    assert written.endswith(b"\r\ncontent-length: 2\r\n\r\nab")
    assert b"transfer-encoding" not in written


@pytest.mark.parametrize("declared", [b"1", b"400", b"4, 4"])
def test_a_body_has_one_length_which_is_its_own(declared: bytes) -> None:
    headers = [(b"content-length", declared), (b"Content-Length", declared), (b"transfer-encoding", b"chunked")]
    head = write_request(httpx2.Request("POST", URL, headers=headers, content=b"body"), b"body").lower()
    assert head.count(b"content-length") == 1
    assert b"\r\ncontent-length: 4\r\n" in head
    assert b"transfer-encoding" not in head


@pytest.mark.parametrize(
    ("headers", "rule"),
    [
        ([(b"x-a", b"1\r\nx-b: 2")], "control characters"),
        ([(b"x-a", b"1\n")], "control characters"),
        ([(b"x-a", b"\x00")], "control characters"),
        ([(b"x a", b"1")], "no name"),
        ([(b"x-a:", b"1")], "no name"),
        ([(b"", b"1")], "no name"),
    ],
)
def test_headers_that_would_be_read_as_something_else_are_refused(
    headers: list[tuple[bytes, bytes]], rule: str
) -> None:
    with pytest.raises(httpx2.LocalProtocolError, match=rule):
        write_request(httpx2.Request("GET", URL, headers=headers), b"")


def test_tabs_and_foreign_bytes_are_values() -> None:
    request = httpx2.Request("GET", URL, headers=[(b"x-a", b"1\t2"), (b"x-b", b"\xe4\xff")])
    assert b"x-b: \xe4\xff\r\n" in write_request(request, b"")


def test_a_path_is_encoded() -> None:
    url = httpx2.URL(URL).copy_with(raw_path=b"/a b HTTP/1.1")
    assert write_request(httpx2.Request("GET", url), b"").startswith(b"GET /a%20b%20HTTP/1.1 HTTP/1.1\r\n")


def test_another_scheme_is_not_spoken() -> None:
    with pytest.raises(httpx2.UnsupportedProtocol):
        write_request(httpx2.Request("GET", "ftp://service/"), b"")
