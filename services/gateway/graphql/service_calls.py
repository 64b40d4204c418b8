"""The calls that one operation of the graph makes: requests of the services' public APIs, with the caller's token.

They go the way of a client's request: its public route (`admission.py`), then `routing/`, so that the rules of a
routing snapshot, limits, deadlines, breakers and retries are the same. Equal reads of one operation are made once.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import httpx2
import orjson
from pydantic import BaseModel

from caravan.auth import Caller
from caravan.client import Operation, authorization
from caravan.deadlines import Deadline
from caravan.errors import BadRequest, DeadlineExceeded, ServiceUnavailable, Unauthorized
from caravan.http import BODY_BOUNDED, Scope, Send
from caravan.refusals import REFUSAL_STATUSES, extract_reason
from caravan.telemetry import log
from services.gateway.admission import Admission, read_host, require_token
from services.gateway.graphql.answers import AnswerReader, BodySender, EventReader
from services.gateway.limits import READ_METHODS
from services.gateway.routing.dispatch import Dispatcher, ForwardRequest
from services.gateway.routing.forwarding import Headers, build_onward_headers
from services.gateway.routing.rules import RouteMatch, rewrite_scope
from services.gateway.use_cases import GatewayContext

Req = TypeVar("Req", bound=BaseModel)
Res = TypeVar("Res", bound=BaseModel)
Query = dict[str, str | int | bool | None]
Body = tuple[bytes, bytes]
"""With its content type."""
NO_BODY: Body = (b"", b"")
MAX_WAITING_EVENTS = 100
CALLS_AT_ONCE = 16
"""Of one operation, which may make a thousand: the others wait here, where they are in nobody's way, and not in the
gateway's short queue for a service.
"""
UNKNOWN_OUTCOME = "; whether it was done is not known: read it, or send it again with the same key"


class ServiceCalls:
    """`made` counts the calls by service, for the cost and for tests. `was_interrupted`: a live stream has ended before
    its end. `tags`: of the cache, for what was joined.
    """

    def __init__(
        self,
        admission: Admission,
        dispatcher: Dispatcher,
        context: GatewayContext,
        scope: Scope,
        caller: Caller | None,
        seconds: float,
    ) -> None:
        """`scope`: the client's request, whose address, host and token are passed on. `seconds`: the time for all calls
        together, live streams excepted.
        """
        self._admission = admission
        self._dispatcher = dispatcher
        self._context = context
        self._scope = scope
        self._host = read_host(scope)
        self._peer: str = scope["client"][0] if scope.get("client") else "unknown"
        self._seconds = seconds
        self._expires_at = asyncio.get_running_loop().time() + seconds
        self._reads: dict[str, asyncio.Future[Any]] = {}
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self.caller = caller
        self.made: Counter[str] = Counter()
        self.was_interrupted = False
        self.tags: set[str] = set()

    async def read(self, service: str, path: str, query: Query | None = None) -> Any:
        """The JSON that a GET answers. Raises ServiceRefused, or the Problem of a service that doesn't answer."""
        query_string = _encode_query(query)
        return await self._share_read(
            f"{service} {path}?{query_string}",
            lambda: self._exchange(service, "GET", path, query_string, [], NO_BODY),
        )

    async def ask(self, operation: Operation[Req, Res], request: Req) -> Res:
        """What a service answers to other services: where anybody may know it, and REST has no read of many."""
        answer: Res = await self._share_read(
            f"{operation.service} {operation.name} {request.model_dump_json()}",
            lambda: self._ask_service(operation, request),
        )
        return answer

    async def write(self, service: str, method: str, path: str, headers: dict[str, str], body: Body) -> Any:
        """The JSON that a write answers, None where it answers nothing. What was read before it is read anew."""
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise BadRequest(f"{' and '.join(headers)} may hold printable ASCII characters only")
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        try:
            return await asyncio.ensure_future(self._exchange(service, method, path, "", encoded, body))
        finally:
            self._reads.clear()

    async def listen(self, service: str, path: str, after: int) -> AsyncIterator[Any]:
        """The events of a live stream, as they come, those after a version."""
        events: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(MAX_WAITING_EVENTS)
        answer = EventReader(events)
        task = asyncio.ensure_future(self._forward_stream(service, path, after, answer))
        try:
            while (event := await events.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield orjson.loads(event)
            self.was_interrupted = not answer.has_ended
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def cancel_reads(self) -> None:
        """What is still asked for an operation that has ended."""
        for task in self._reads.values():
            task.cancel()

    async def _share_read(self, key: str, read: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        if key not in self._reads:
            self._reads[key] = asyncio.ensure_future(read())
        return await asyncio.shield(self._reads[key])

    async def _ask_service(self, operation: Operation[Req, Res], request: Req) -> Res:
        async with self._bound_call(operation.service, is_read=True):
            return await self._context.call(operation, request)

    async def _exchange(self, service: str, method: str, path: str, query: str, headers: Headers, body: Body) -> Any:
        answer = AnswerReader()
        async with self._bound_call(service, is_read=method in READ_METHODS):
            await self._forward(service, method, path, query, headers, body, answer)
        return answer.parse(service)

    async def _forward_stream(self, service: str, path: str, after: int, answer: EventReader) -> None:
        self.made[service] += 1
        last_event = [(b"last-event-id", b"%d" % after)]
        try:
            await self._forward(service, "GET", path, "", last_event, NO_BODY, answer, stream=True)
            answer.check_status(service)
        except httpx2.TransportError as error:
            log.warning("a live stream was interrupted", target=service, error=repr(error))
            await answer.events.put(None)
        except Exception as error:  # it is raised where the events are read
            await answer.events.put(error)
        else:
            await answer.events.put(None)

    @asynccontextmanager
    async def _bound_call(self, service: str, *, is_read: bool) -> AsyncIterator[None]:
        """A call within the time that the operation has left. It fails alone: what the operation has got so far, and
        what it has written, is answered.
        """
        seconds_left = self._expires_at - asyncio.get_running_loop().time()
        if seconds_left <= 0:
            raise DeadlineExceeded(f"{service} was not asked: {self._say_limit()}")
        self.made[service] += 1
        deadline = Deadline(seconds_left)
        try:
            async with deadline, self._slots:
                yield
        except TimeoutError:
            if not deadline.has_passed:
                raise
            raise DeadlineExceeded(f"{self._say_limit()}{'' if is_read else UNKNOWN_OUTCOME}") from None
        except httpx2.TransportError as error:
            log.warning("an answer was cut off", target=service, error=repr(error))
            if is_read:
                raise ServiceUnavailable(f"the answer of {service} was cut off; try again") from None
            raise DeadlineExceeded(f"the answer of {service} was cut off{UNKNOWN_OUTCOME}") from None

    def _say_limit(self) -> str:
        return f"the operation took longer than {self._seconds:g} s; ask for less at a time"

    async def _forward(
        self,
        service: str,
        method: str,
        path: str,
        query: str,
        headers: Headers,
        body: Body,
        answer: AnswerReader | EventReader,
        *,
        stream: bool = False,
    ) -> None:
        """As `app.py` passes on the same request of a client: to where its path leads, if its rule lets the caller."""
        match = await self._admission.match_route(path, method, self._host)
        operation = f"{method} {match.template}"
        try:
            await self._admit(match, method)
        except Unauthorized as refused:
            self._admission.note_refusal(operation, self._peer, self.caller, refused.status, refused.detail)
            raise
        request = self._build_request(match, method, path, query, headers, body, answer.send_message)
        await self._dispatcher.forward_request(request, stream=stream)
        if answer.status in REFUSAL_STATUSES:
            reason = extract_reason(bytes(answer.body))
            self._admission.note_refusal(operation, self._peer, self.caller, answer.status, reason)

    async def _admit(self, match: RouteMatch, method: str) -> None:
        """The operation itself was counted as one read: its reads count where a rule has a limit of its own."""
        caller = self.caller if match.rule.auth != "None" else None
        if caller is None:
            require_token(match.rule)
        if method not in READ_METHODS or match.rule.rate_limit is not None:
            rate_class = self._context.resources.rate_classes.choose_class(method, match.template)
            await self._admission.count_request(match.rule, rate_class, self._peer, caller)

    def _build_request(
        self, match: RouteMatch, method: str, path: str, query: str, headers: Headers, body: Body, send: Send
    ) -> ForwardRequest:
        kept = [header for header in self._scope["headers"] if header[0] in (b"host", b"user-agent")]
        content, content_type = body
        if content:
            kept += [(b"content-type", content_type), (b"content-length", b"%d" % len(content))]
        onward = build_onward_headers(
            [*kept, (b"accept", b"*/*"), *headers],
            address=self._peer,
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
            BODY_BOUNDED: True,
        }
        return ForwardRequest(
            match.service, rewrite_scope(match.rule, scope), onward, self._peer, BodySender(content).receive, send
        )


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
