"""Names from outside, put into paths and keys. It is done here alone, so that no name can change the path that it is
part of.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

MAX_NAME_BYTES = 255
"""RabbitMQ counts bytes where Kubernetes counts characters."""
MAX_EXTERNAL_ID = 600
"""Characters of `status.externalId`."""
DOT_SEGMENTS = frozenset({".", ".."})
"""Segments that every HTTP server resolves before it looks, quoted or not: an object with such a name has no
address.
"""


class UnusableSpec(ValueError):
    """A name that can't be used where it was given; `field` is where, the text the rule."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}")
        self.field = field


def build_path(*segments: str) -> str:
    """An absolute path of exactly these segments, percent-encoded. Raises UnusableSpec for one that no path can
    hold.
    """
    for segment in segments:
        if not segment or segment in DOT_SEGMENTS:
            raise UnusableSpec("a path's segment", f"can't be {segment!r}")
    try:
        return "/" + "/".join(quote(segment, safe="") for segment in segments)
    except UnicodeEncodeError:
        raise UnusableSpec("a path's segment", "can't hold half a surrogate pair") from None


def check_addressable(spec: Mapping[str, Any], *fields: str) -> None:
    """Raises UnusableSpec for the first of these fields that RabbitMQ's management API can't address."""
    for field in fields:
        name = spec.get(field, "-")
        if name in DOT_SEGMENTS:
            raise UnusableSpec(f"spec.{field}", f"can't be {name!r}: the management API has no address for it")
        if not name and field != "routingKey":
            raise UnusableSpec(f"spec.{field}", "can't be empty")
        if len(name.encode(errors="replace")) > MAX_NAME_BYTES:
            raise UnusableSpec(f"spec.{field}", f"can't be longer than {MAX_NAME_BYTES} bytes in UTF-8")


def truncate_external_id(identity: str) -> str:
    """An identity for the status, which has a bound for it."""
    return identity[:MAX_EXTERNAL_ID]


def build_identity(kind: str, *names: str) -> str:
    """One key for an object: different names never make the same one. Only `%` and `:` look otherwise than they are."""
    return ":".join([kind, *(name.replace("%", "%25").replace(":", "%3A") for name in names)])
