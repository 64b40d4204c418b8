"""Passing a request on: what the service gets to see of it, how long it may take, and the application itself when the service shares this process.

`upstreams.py` is for services of other processes.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from caravan import faults, telemetry
from caravan.deadlines import Deadline
from caravan.errors import DeadlineExceeded, Problem, Unavailable
from caravan.http import App, Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
REPLACED = frozenset({b"authorization", b"forwarded", b"traceparent", b"x-request-id", b"x-real-ip", b"x-user-authorization"})
"""What we set ourselves, or what only services may say."""
DROPPED = HOP_BY_HOP | REPLACED
UNTOUCHABLE = frozenset({b"host", b"content-length", b"content-type"})
"""What a client's Connection header can't take away."""
OURS = frozenset({b"date", b"server", b"x-request-id", faults.FAULT.encode()})
"""Answered by the gateway itself, or meant for it alone."""


def onward_headers(headers: Headers, *, address: str, scheme: str, authorization: str | None) -> Headers:
    """What the service gets to see: nothing that belongs to the client's connection, and nothing that only we may claim."""
    kept: Headers = []
    host = b""
    named: set[bytes] = set()
    for header in headers:
        name = header[0]
        if name == b"connection":
            named |= {part.strip().lower() for part in header[1].split(b",")}
        elif name not in DROPPED and not name.startswith((b"x-forwarded-", b"x-caravan-")):
            kept.append(header)
            if name == b"host":
                host = header[1]
    named -= UNTOUCHABLE
    if named and named != {b"keep-alive"} and named != {b"close"}:
        kept = [header for header in kept if header[0] not in named]
    if authorization is not None:
        kept.append((b"authorization", authorization.encode("latin-1")))
    kept += (
        (b"x-forwarded-for", address.encode("latin-1")),
        (b"x-forwarded-proto", scheme.encode("latin-1")),
        (b"x-forwarded-host", host),
        (b"x-request-id", (telemetry.request_id.get() or "").encode("latin-1")),
        (b"traceparent", (telemetry.traceparent.get() or "").encode("latin-1")),
    )
    return kept


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a service may take until its answer begins. For a read, that is no more than a part of the shop that is away; whether a write was done,
    nobody knows."""

    seconds: float
    read: bool

    def passed(self, service: str) -> Problem:
        if self.read:
            return Unavailable(f"{service} did not answer within {self.seconds:g} s; try again", retry_after=2)
        return DeadlineExceeded(f"{service} did not answer within {self.seconds:g} s")


async def forward_here(app: App, scope: Scope, headers: Headers, address: str, receive: Receive, send: Send, limit: Limit) -> None:
    """Call the service's application directly: the body, the answer's stream and the client's disconnect pass through as they are."""
    inner = {**scope, "headers": headers, "client": (address, 0)}
    try:
        async with Deadline(limit.seconds) as running:

            async def answer(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    running.lift()
                await send(message)

            await app(inner, receive, answer)
    except TimeoutError:
        if not running.passed:
            raise
        raise limit.passed("the service") from None


def answered_headers(given: Headers) -> Headers:
    """What the client gets to see of a service's answer."""
    raw = [(name.lower(), value) for name, value in given]
    named = {part.strip().lower() for name, value in raw if name == b"connection" for part in value.split(b",")}
    return [(name, value) for name, value in raw if name not in HOP_BY_HOP and name not in OURS and name not in named]
