"""Problem documents that are written to a connection, where no application answers."""

import orjson
import pytest

from caravan.runtime.connection_problems import build_response


@pytest.mark.parametrize(("status", "says_when"), [(400, False), (429, True), (503, True)])
def test_it_is_a_whole_answer_that_ends_the_connection(status: int, says_when: bool) -> None:
    head, _, body = build_response(status, "Bad request", "say it again").partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    headers = dict(field.split(b": ", 1) for field in fields)
    document = orjson.loads(body)
    assert line.startswith(b"HTTP/1.1 %d " % status)
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"connection"] == b"close"
    assert headers[b"content-length"] == b"%d" % len(body)
    assert headers[b"x-request-id"].decode() == document["trace_id"]
    assert (b"retry-after" in headers) == says_when
    assert (document["status"], document["detail"]) == (status, "say it again")
    assert document["type"].endswith("/bad-request")
