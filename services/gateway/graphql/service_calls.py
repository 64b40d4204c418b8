"""The calls that one operation of the graph makes: requests of the services' public APIs, with the caller's token.

They go the way that a client's request goes from `app.py` on, so that deadlines, breakers and retries are the same.
Equal reads of one operation are made once.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, MutableMapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import orjson
from pydantic import BaseModel

from caravan.auth import Caller
from caravan.client import Operation, OperationClient, authorization
from caravan.errors import BadRequest, ServiceUnavailable
from caravan.http import Scope
from services.gateway.graphql.policy import JsonObject
from services.gateway.limits import RateClasses, RateLimiter
from services.gateway.routing.dispatch import Dispatcher, ForwardRequest
from services.gateway.routing.forwarding import Headers, build_onward_headers

Req = TypeVar("Req", bound=BaseModel)
Res = TypeVar("Res", bound=BaseModel)
Query = dict[str, str | int | bool | None]
Body = tuple[bytes, bytes]
"""With its content type."""
NO_BODY: Body = (b"", b"")
MAX_WAITING_EVENTS = 100


class ServiceRefused(Exception):
    """A service answered with a problem document (RFC 9457)."""

    def __init__(self, document: JsonObject, headers: dict[str, str]) -> None:
        super().__init__(document.get("detail") or document.get("title") or "refused")
        self.document = document
        self.headers = headers


class ServiceCalls:
    """`made` counts the calls by service, for the cost and for tests."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        operations: OperationClient,
        scope: Scope,
        caller: Caller | None,
        classes: RateClasses,
        limiter: RateLimiter,
    ) -> None:
        """`scope`: the client's request, whose address and token are passed on."""
        self._dispatcher = dispatcher
        self._operations = operations
        self._scope = scope
        self._classes = classes
        self._limiter = limiter
        self._reads: dict[str, asyncio.Future[Any]] = {}
        self.caller = caller
        self.made: Counter[str] = Counter()

    async def read(self, service: str, path: str, query: Query | None = None) -> Any:
        """The JSON that a GET answers. Raises ServiceRefused, or the Problem of a service that doesn't answer."""
        query_string = _encode_query(query)
        key = f"{service} {path}?{query_string}"
        if key not in self._reads:
            self._reads[key] = asyncio.ensure_future(self._exchange(service, "GET", path, query_string, [], NO_BODY))
        return await asyncio.shield(self._reads[key])

    async def ask(self, operation: Operation[Req, Res], request: Req) -> Res:
        """What a service answers to other services: where anybody may know it, and REST has no read of many."""
        self.made[operation.service] += 1
        return await self._operations(operation, request)

    async def write(
        self, service: str, method: str, template: str, path: str, headers: dict[str, str], body: Body
    ) -> Any:
        """The JSON that a write answers, None where it answers nothing. It counts against the limit of its path, as
        the same request by REST does. `template`: the path with the names of its parameters.
        """
        await self._take_token(method, template)
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise BadRequest(f"{' and '.join(headers)} may hold printable ASCII characters only")
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        return await asyncio.ensure_future(self._exchange(service, method, path, "", encoded, body))

    async def listen(self, service: str, path: str, after: int) -> AsyncIterator[Any]:
        """The events of a live stream, as they come, those after a version."""
        events: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(MAX_WAITING_EVENTS)
        answer = _EventReader(events)
        task = asyncio.ensure_future(self._forward_stream(service, path, after, answer))
        try:
            while (event := await events.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield orjson.loads(event)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _forward_stream(self, service: str, path: str, after: int, answer: "_EventReader") -> None:
        self.made[service] += 1
        try:
            await self._dispatcher.forward_request(
                self._build_request(
                    service, "GET", path, "", [(b"last-event-id", b"%d" % after)], NO_BODY, answer.send_message
                ),
                stream=True,
            )
            answer.check_status(service)
        except Exception as error:  # it is raised where the events are read
            await answer.events.put(error)
        else:
            await answer.events.put(None)

    def cancel_reads(self) -> None:
        """What is still asked for an operation that has ended."""
        for task in self._reads.values():
            task.cancel()

    async def _take_token(self, method: str, template: str) -> None:
        rate_class = self._classes.choose_class(method, template)
        if self.caller is not None and self.caller.role == "admin":
            rate_class = self._classes.admins
        by_address = self.caller is None or rate_class.is_by_address
        key = self._scope["client"][0] if self.caller is None or by_address else self.caller.subject
        await self._limiter.take_token(rate_class, key)

    async def _exchange(self, service: str, method: str, path: str, query: str, headers: Headers, body: Body) -> Any:
        self.made[service] += 1
        answer = _AnswerReader()
        await self._dispatcher.forward_request(
            self._build_request(service, method, path, query, headers, body, answer.send_message)
        )
        return answer.parse(service)

    def _build_request(
        self, service: str, method: str, path: str, query: str, headers: Headers, body: Body, send: Any
    ) -> ForwardRequest:
        kept = [header for header in self._scope["headers"] if header[0] in (b"host", b"user-agent")]
        content, content_type = body
        if content:
            kept += [(b"content-type", content_type), (b"content-length", b"%d" % len(content))]
        address = self._scope["client"][0] if self._scope.get("client") else "unknown"
        onward = build_onward_headers(
            [*kept, (b"accept", b"*/*"), *headers],
            address=address,
            scheme=self._scope["scheme"],
            authorization=authorization.get(),
        )
        scope = {key: self._scope[key] for key in ("type", "asgi", "http_version", "scheme", "server", "client")}
        scope |= {
            "method": method,
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": query.encode(),
            "root_path": "",
            "state": {},
        }
        return ForwardRequest(service, scope, onward, address, _BodyReceiver(content).receive, send)


class _BodyReceiver:
    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body

    async def receive(self) -> MutableMapping[str, Any]:
        if self._body is None:
            await asyncio.Event().wait()  # whoever asked stays until the operation ends, which cancels this
        body, self._body = self._body or b"", None
        return {"type": "http.request", "body": body, "more_body": False}


class _AnswerReader:
    def __init__(self) -> None:
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    async def send_message(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]
            }
        else:
            self._body += message.get("body", b"")

    def parse(self, service: str) -> Any:
        if self._status >= 400:
            raise _build_refusal(service, self._status, bytes(self._body), self._headers)
        return orjson.loads(self._body) if self._body else None


class _EventReader:
    """Takes server-sent events apart. A reader that is too slow stops its service, not the other way round."""

    def __init__(self, events: asyncio.Queue[bytes | Exception | None]) -> None:
        self.events = events
        self._status = 0
        self._buffer = b""

    async def send_message(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            return
        self._buffer += message.get("body", b"")
        if self._status >= 400:
            return
        *blocks, self._buffer = self._buffer.split(b"\n\n")
        for block in blocks:
            data = [line[6:] for line in block.split(b"\n") if line.startswith(b"data: ")]
            # After `reset` the changes come from the first again, and their versions say so.
            if data and not block.startswith(b"event: reset"):
                await self.events.put(b"\n".join(data))

    def check_status(self, service: str) -> None:
        if self._status >= 400:
            raise _build_refusal(service, self._status, self._buffer, {})


def _build_refusal(service: str, status: int, body: bytes, headers: dict[str, str]) -> Exception:
    try:
        document = orjson.loads(body)
        return ServiceRefused({**document, "status": status}, headers)
    except (orjson.JSONDecodeError, TypeError):
        return ServiceUnavailable(f"{service} answered {status} without saying why; try again")


def _encode_query(query: Query | None) -> str:
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return urlencode({name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()})


def fill_path(template: str, parameters: dict[str, Any]) -> str:
    """A path with its parameters, each one segment of it. Raises BadRequest for what would lead elsewhere."""
    path = template
    for name, value in parameters.items():
        text = str(value)
        if not text or "/" in text or text in (".", "..") or not text.isprintable():
            raise BadRequest(f"{name} is not one that can be part of an address")
        path = path.replace("{" + name + "}", text)
    return path
