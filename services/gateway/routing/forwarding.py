"""What every forwarded request has: its headers, its deadline, and the call of a service in this process.
`upstreams.py` calls services of other processes.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from caravan import fault_attribution, telemetry
from caravan.deadlines import Deadline
from caravan.errors import DeadlineExceeded, Problem, ServiceUnavailable
from caravan.http import App, Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP_HEADERS = frozenset(
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
REPLACED_HEADERS = frozenset(
    {b"authorization", b"forwarded", b"traceparent", b"x-request-id", b"x-real-ip", b"x-user-authorization"}
)
"""What we set ourselves, or what only services may say."""
DROPPED_HEADERS = HOP_BY_HOP_HEADERS | REPLACED_HEADERS
PROTECTED_HEADERS = frozenset({b"host", b"content-length", b"content-type"})
"""What a client's Connection header can't take away."""
GATEWAY_HEADERS = frozenset({b"date", b"server", b"x-request-id", fault_attribution.FAULT_HEADER.encode()})
"""Answered by the gateway itself, or meant for it alone."""


def build_onward_headers(headers: Headers, *, address: str, scheme: str, authorization: str | None) -> Headers:
    """What the service gets to see: nothing that belongs to the client's connection, and nothing that only we may
    claim.
    """
    onward: Headers = []
    host = b""
    connection_names: set[bytes] = set()
    for header in headers:
        name = header[0]
        if name == b"connection":
            connection_names |= {part.strip().lower() for part in header[1].split(b",")}
        elif name not in DROPPED_HEADERS and not name.startswith((b"x-forwarded-", b"x-caravan-")):
            onward.append(header)
            if name == b"host":
                host = header[1]
    connection_names -= PROTECTED_HEADERS
    if connection_names and connection_names not in ({b"keep-alive"}, {b"close"}):
        onward = [header for header in onward if header[0] not in connection_names]
    if authorization is not None:
        onward.append((b"authorization", authorization.encode("latin-1")))
    onward += (
        (b"x-forwarded-for", address.encode("latin-1")),
        (b"x-forwarded-proto", scheme.encode("latin-1")),
        (b"x-forwarded-host", host),
        (b"x-request-id", (telemetry.request_id.get() or "").encode("latin-1")),
        (b"traceparent", (telemetry.traceparent.get() or "").encode("latin-1")),
    )
    return onward


@dataclass(frozen=True, slots=True)
class ResponseTimeout:
    """How long a service may take until its answer begins. A read that takes longer means an unavailable service;
    whether a write was done, nobody knows.
    """

    seconds: float
    is_read: bool

    def build_error(self, service: str) -> Problem:
        if self.is_read:
            return ServiceUnavailable(f"{service} did not answer within {self.seconds:g} s; try again", retry_after=2)
        return DeadlineExceeded(f"{service} did not answer within {self.seconds:g} s")


async def forward_in_process(
    app: App, scope: Scope, headers: Headers, address: str, receive: Receive, send: Send, timeout: ResponseTimeout
) -> None:
    """Call the service's application directly: the body, the answer's stream and the client's disconnect pass through
    as they are.
    """
    inner = {**scope, "headers": headers, "client": (address, 0)}
    try:
        async with Deadline(timeout.seconds) as deadline:

            async def send_message(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    deadline.clear_deadline()
                await send(message)

            await app(inner, receive, send_message)
    except TimeoutError:
        if not deadline.has_passed:
            raise
        raise timeout.build_error("the service") from None


def build_response_headers(service_headers: Headers) -> Headers:
    """What the client gets to see of a service's answer."""
    raw = [(name.lower(), value) for name, value in service_headers]
    connection_names = {
        part.strip().lower() for name, value in raw if name == b"connection" for part in value.split(b",")
    }
    return [
        (name, value)
        for name, value in raw
        if name not in HOP_BY_HOP_HEADERS and name not in GATEWAY_HEADERS and name not in connection_names
    ]
