"""What services answer to the calls of an operation (`service_calls.py`): whole, as events, or as a refusal."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import orjson

from caravan.errors import ServiceUnavailable
from caravan.live_streams import NOTHING_MORE
from services.gateway.graphql.policy import JsonObject


class ServiceRefused(Exception):
    """A service answered with a problem document (RFC 9457). `retry_after`: its header of this name."""

    def __init__(self, document: JsonObject, retry_after: str) -> None:
        super().__init__(document.get("detail") or document.get("title") or "refused")
        self.document = document
        self.retry_after = retry_after


class BodySender:
    """The body of a request, as the service's application asks for it."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body

    async def receive(self) -> MutableMapping[str, Any]:
        if self._body is None:
            await asyncio.Event().wait()  # whoever asked stays until the operation ends, which cancels this
        body, self._body = self._body or b"", None
        return {"type": "http.request", "body": body, "more_body": False}


class AnswerReader:
    """Takes a whole answer."""

    def __init__(self) -> None:
        self.status = 0
        self.body = bytearray()
        self._retry_after = ""

    async def send_message(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._retry_after = dict(message["headers"]).get(b"retry-after", b"").decode("latin-1")
        else:
            self.body += message.get("body", b"")

    def parse(self, service: str) -> Any:
        if self.status >= 400:
            raise _build_refusal(service, self.status, bytes(self.body), self._retry_after)
        return orjson.loads(self.body) if self.body else None


class EventReader:
    """Takes server-sent events apart. A reader that is too slow stops its service, not the other way round."""

    def __init__(self, events: asyncio.Queue[bytes | Exception | None]) -> None:
        self.events = events
        self.status = 0
        self.body = b""
        """What has come and is no whole event yet."""
        self.has_ended = False
        """Nothing more can come: the service has said so."""

    async def send_message(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.has_ended = self.status == 204
            return
        self.body += message.get("body", b"")
        if self.status >= 400:
            return
        *blocks, self.body = self.body.split(b"\n\n")
        for block in blocks:
            self.has_ended |= block + b"\n\n" == NOTHING_MORE
            data = [line[6:] for line in block.split(b"\n") if line.startswith(b"data: ")]
            # After `reset` the changes come from the first again, and their versions say so.
            if data and not block.startswith(b"event: reset"):
                await self.events.put(b"\n".join(data))

    def check_status(self, service: str) -> None:
        if self.status >= 400:
            raise _build_refusal(service, self.status, self.body)


def _build_refusal(service: str, status: int, body: bytes, retry_after: str = "") -> Exception:
    try:
        document = {**orjson.loads(body), "status": status}
    except (orjson.JSONDecodeError, TypeError):
        return ServiceUnavailable(f"{service} answered {status} without saying why; try again")
    return ServiceRefused(document, retry_after)
