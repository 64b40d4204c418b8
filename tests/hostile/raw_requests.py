"""Requests that a client writes byte by byte, to a shop whose services have a process each."""

import re
from collections import Counter
from collections.abc import Iterable

SESSION_SECONDS = 2


def build_post(path: str, who: dict[str, str], *headers: bytes) -> bytes:
    own = [b"%s: %s" % (name.encode(), value.encode()) for name, value in who.items()]
    return (
        b"\r\n".join(
            [b"POST %s HTTP/1.1" % path.encode(), b"host: shop", b"content-type: application/json", *own, *headers]
        )
        + b"\r\n"
    )


def build_get(path: str) -> bytes:
    return b"GET %s HTTP/1.1\r\nhost: shop\r\n" % path.encode("latin-1")


def count_statuses(answers: Iterable[bytes]) -> Counter[int]:
    return Counter(int(found) for answer in answers for found in re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", answer))
