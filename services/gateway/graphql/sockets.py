"""One socket of a client, by the protocol graphql-transport-ws: `connection_init` with the token, then any number of
operations beside each other, each with an id.

A socket is a live stream (`streams.py`): one of a bounded number, which ends after some minutes, or with its session.
Its place is that of one of its subscriptions; each further one takes another. What an operation may do is decided as
for a request of its own; what a connection may cost is bounded before this (`caravan/runtime/websocket.py`).
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import orjson
from graphql import OperationType

from caravan.errors import BadRequest, CapacityExceeded, Forbidden, Problem, TooManyRequests, Unauthorized
from caravan.http import Receive, Send, convert_to_problem
from caravan.http.client_ip import get_network
from caravan.refusals import REFUSAL_STATUSES
from services.gateway.admission import require_token
from services.gateway.graphql.errors import PATH, format_problem
from services.gateway.graphql.execution import RequestRefused
from services.gateway.graphql.requests import ALL_OPERATIONS, parse_request
from services.gateway.graphql.setup import Graph
from services.gateway.graphql.socket_messages import (
    BAD_REQUEST,
    COUNTED_CODES,
    DUPLICATE_ID,
    FORBIDDEN,
    INIT_TIMEOUT,
    INTERNAL_ERROR,
    SERVICE_RESTART,
    SUBPROTOCOL,
    TIME_OVER,
    TOO_MANY_INITS,
    TRY_AGAIN_LATER,
    UNAUTHORIZED,
    SocketClosed,
    parse_message,
    read_id,
    read_token,
)
from services.gateway.graphql.socket_operations import SocketClient, SocketOperation, StreamInterrupted
from services.gateway.metrics import CLOSED_SOCKETS, OPEN_SOCKETS
from services.gateway.streams import StreamSlot

INIT_SECONDS = 10.0
"""How long `connection_init` may take to come."""
MAX_OPERATIONS = 50
"""That one socket runs at the same time."""


class GraphSocket:
    def __init__(self, graph: Graph, client: SocketClient, receive: Receive, send: Send) -> None:
        self._graph = graph
        self._client = client
        self._receive = receive
        self._send = send
        self._streams = graph.context.resources.streams
        self._has_init = self._is_acknowledged = False
        self._slots = ExitStack()
        self._is_slot_in_use = False
        self._end: asyncio.Future[SocketClosed] = asyncio.get_running_loop().create_future()
        self._operations: dict[str, SocketOperation] = {}
        """Those that the client waits for."""
        self._tasks: dict[asyncio.Task[None], SocketOperation] = {}

    async def serve(self) -> None:
        """Until its end. Raises a Problem before it has begun, and OSError when the client has left."""
        with self._slots:
            self._take_slot()
            await self._send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
            init_timer = asyncio.get_running_loop().call_later(INIT_SECONDS, self._check_init)
            reader = asyncio.ensure_future(self._read_messages())
            closed = SocketClosed(SERVICE_RESTART, "")
            OPEN_SOCKETS.inc()
            try:
                await asyncio.wait({reader, self._end}, return_when=asyncio.FIRST_COMPLETED)
                closed = self._end.result() if self._end.done() else reader.result()
                await self._finish(closed)
            finally:
                OPEN_SOCKETS.dec()
                CLOSED_SOCKETS.labels(closed.code if closed.code in COUNTED_CODES else "other").inc()
                init_timer.cancel()
                for task in (reader, *self._tasks):
                    task.cancel()
                await asyncio.gather(reader, *self._tasks, return_exceptions=True)

    async def _finish(self, closed: SocketClosed) -> None:
        """Writes that are under way are done to their end, as those of requests are. When the server stops, their
        answers are sent, and those to queries.
        """
        is_draining = closed.code == SERVICE_RESTART
        kept_types = {OperationType.MUTATION, OperationType.QUERY} if is_draining else {OperationType.MUTATION}
        under_way = [task for task, operation in self._tasks.items() if operation.type in kept_types]
        for task in self._tasks.keys() - under_way:
            task.cancel()
        if is_draining and under_way:
            await asyncio.wait(under_way)
        with suppress(OSError):
            await self._send({"type": "websocket.close", "code": closed.code, "reason": closed.reason})
        if under_way:
            await asyncio.wait(under_way)

    def _close(self, code: int, reason: str) -> None:
        if not self._end.done():
            self._end.set_result(SocketClosed(code, reason))

    def _check_init(self) -> None:
        if not self._has_init:
            self._close(INIT_TIMEOUT, f"connection_init did not come within {INIT_SECONDS:g} s")

    def _take_slot(self) -> None:
        """The socket's own place, for its caller as known by now."""
        self._slots.close()
        slot = self._slots.enter_context(
            self._streams.reserve_slot(self._client.caller, get_network(self._client.peer))
        )
        slot.ended.add_done_callback(partial(self._end_with_slot, slot))

    @contextmanager
    def _hold_slot(self) -> Iterator[None]:
        """The place of one subscription. Raises TooManyRequests, or CapacityExceeded."""
        if not self._is_slot_in_use:
            self._is_slot_in_use = True
            try:
                yield
            finally:
                self._is_slot_in_use = False
            return
        with self._streams.reserve_slot(self._client.caller, get_network(self._client.peer)) as slot:
            slot.ended.add_done_callback(partial(self._end_with_slot, slot))
            yield

    def _end_with_slot(self, slot: StreamSlot, _: asyncio.Future[None]) -> None:
        if slot.is_session_over:
            self._close(FORBIDDEN, "the session has ended; sign in again")
        else:
            self._close(TIME_OVER, "its time is over; connect again and go on after the version that you have seen")

    async def _read_messages(self) -> SocketClosed:
        """Until the client leaves or breaks a rule, or the server stops."""
        try:
            while (message := await self._receive())["type"] == "websocket.receive":
                await self._take_message(parse_message(message.get("text")))
            return SocketClosed(message["code"], message.get("reason") or "")
        except SocketClosed as closed:
            return closed
        except OSError:
            return SocketClosed(1000, "")
        except (Unauthorized, Forbidden) as refused:
            self._note_refusal(refused)
            return SocketClosed(FORBIDDEN, refused.detail)
        except (TooManyRequests, CapacityExceeded) as refused:
            return SocketClosed(TRY_AGAIN_LATER, refused.detail)
        except Exception as error:
            problem = convert_to_problem(error, PATH)
            return SocketClosed(TRY_AGAIN_LATER if problem.status == 503 else INTERNAL_ERROR, problem.detail)

    async def _take_message(self, message: dict[str, Any]) -> None:
        """Each counts as a read. Raises SocketClosed, or the Problem for which the socket ends."""
        if message["type"] == "subscribe":
            await self._subscribe(message)
            return
        await self._count_message()
        match message["type"]:
            case "connection_init":
                await self._initialise(message.get("payload"))
            case "complete":
                self._cancel_operation(read_id(message))
            case "ping":
                await self._send_text(b'{"type":"pong"}')
            case "pong":
                pass
            case other:
                raise SocketClosed(BAD_REQUEST, f"there is no message of the type {other[:40]}")

    async def _count_message(self) -> None:
        client = self._client
        await self._graph.admission.count_request(client.rule, client.rate_class, client.peer, client.caller)

    async def _initialise(self, payload: Any) -> None:
        if self._has_init:
            raise SocketClosed(TOO_MANY_INITS, "connection_init comes once")
        self._has_init = True
        client, token = self._client, read_token(payload)
        if token is not None:
            client.caller = await self._graph.admission.identify_caller(
                client.rule, client.rate_class, client.peer, token
            )
            client.authorization = token
            self._take_slot()
        if client.caller is None:
            require_token(client.rule)
        self._is_acknowledged = True
        await self._send_text(b'{"type":"connection_ack"}')

    async def _subscribe(self, message: dict[str, Any]) -> None:
        if not self._is_acknowledged:
            raise SocketClosed(UNAUTHORIZED, "send connection_init first, and wait for connection_ack")
        operation_id = read_id(message)
        if operation_id in self._operations:
            raise SocketClosed(DUPLICATE_ID, f"an operation {operation_id} is running; take another id")
        try:
            request = parse_request(message.get("payload"))
        except BadRequest as refused:
            raise SocketClosed(BAD_REQUEST, refused.detail) from None
        try:
            await self._count_message()
            if len(self._tasks) >= MAX_OPERATIONS:
                raise TooManyRequests(f"a socket runs {MAX_OPERATIONS} operations at a time", retry_after=1)
            accepted = self._graph.executor.accept_operation(request, self._client.caller, ALL_OPERATIONS)
        except RequestRefused as refused:
            if refused.status in REFUSAL_STATUSES:
                self._note_refusal(refused)
            await self._send_error(operation_id, refused.errors)
        except Problem as problem:
            await self._send_error(operation_id, [format_problem(problem)])
        else:
            self._start(SocketOperation(self._graph, self._client, operation_id, accepted, self._send_text))

    def _start(self, operation: SocketOperation) -> None:
        task = asyncio.create_task(operation.run(self._hold_slot()), name=f"{operation.type.value} of a socket")
        self._operations[operation.id] = operation
        self._tasks[task] = operation
        task.add_done_callback(self._forget_operation)

    def _forget_operation(self, task: asyncio.Task[None]) -> None:
        operation = self._tasks.pop(task)
        if self._operations.get(operation.id) is operation:
            del self._operations[operation.id]
        if not task.cancelled() and isinstance(task.exception(), StreamInterrupted):
            self._close(
                SERVICE_RESTART,
                "a stream was interrupted; connect again and go on after the version that you have seen",
            )

    def _cancel_operation(self, operation_id: str) -> None:
        """A write is done to its end, but nobody waits for its answer."""
        operation = self._operations.pop(operation_id, None)
        if operation is None:
            return
        operation.is_awaited = False
        for task, running in self._tasks.items():
            if running is operation and operation.type is not OperationType.MUTATION:
                task.cancel()

    def _note_refusal(self, refused: Problem | RequestRefused) -> None:
        client = self._client
        reason = refused.detail if isinstance(refused, Problem) else str(refused)
        self._graph.admission.note_refusal(client.operation, client.peer, client.caller, refused.status, reason)

    async def _send_error(self, operation_id: str, errors: list[Any]) -> None:
        await self._send_text(orjson.dumps({"id": operation_id, "type": "error", "payload": errors}))

    async def _send_text(self, message: bytes) -> None:
        await self._send({"type": "websocket.send", "text": message.decode()})
