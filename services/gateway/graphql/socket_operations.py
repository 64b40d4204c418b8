"""One operation of a socket: run as if it were a request of its own, its answers sent as messages with its id."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from graphql import OperationType
from opentelemetry.trace import SpanKind

from caravan import telemetry
from caravan.auth import Caller
from caravan.client import authorization
from caravan.clock import new_id
from caravan.discovery.routing_snapshot import Route as Rule
from caravan.http import Scope, convert_to_problem
from services.gateway.graphql.errors import PATH, format_problem
from services.gateway.graphql.execution import AcceptedOperation
from services.gateway.graphql.setup import Graph
from services.gateway.limits import RateClass
from services.gateway.routing.trie import OWN_SERVICE

SendMessage = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class SocketClient:
    """Who is at the other end, as the handshake and then the first message say. `scope`: the handshake as a request.
    `operation`: its method and the template of its path, for what is noted of refusals.
    """

    scope: Scope
    rule: Rule
    rate_class: RateClass
    operation: str
    peer: str
    caller: Caller | None
    authorization: str | None


class StreamInterrupted(Exception):
    """A service ended a live stream that was not at its end."""


class SocketOperation:
    """`is_awaited`: the client waits for its answers."""

    def __init__(
        self, graph: Graph, client: SocketClient, operation_id: str, accepted: AcceptedOperation, send: SendMessage
    ) -> None:
        self._graph = graph
        self._client = client
        self._accepted = accepted
        self._encoded_id = orjson.dumps(operation_id)
        self._send = send
        self.id = operation_id
        self.type: OperationType = accepted.node.operation
        self.is_awaited = True

    async def run(self, slot: AbstractContextManager[None]) -> None:
        """`slot`: what a subscription holds meanwhile. Raises StreamInterrupted."""
        telemetry.request_id.set(str(new_id()))
        authorization.set(self._client.authorization)
        with telemetry.start_span(f"{self.type.value} {OWN_SERVICE}", SpanKind.SERVER):
            try:
                if self.type is OperationType.SUBSCRIPTION:
                    with slot:
                        await self._follow_stream()
                else:
                    await self._send_answer(b"next", await self._compute_answer())
                await self._send_answer(b"complete")
            except (OSError, StreamInterrupted):  # the client has left, or has to come again
                raise
            except Exception as error:
                await self.refuse([format_problem(convert_to_problem(error, PATH))])

    async def refuse(self, errors: list[Any]) -> None:
        await self._send_answer(b"error", orjson.dumps(errors))

    async def _compute_answer(self) -> bytes:
        graph, client = self._graph, self._client
        if self.type is OperationType.QUERY:
            answer = await graph.answer_query(self._accepted, client.scope, client.caller)
            return answer.cached.value or b""
        calls = graph.make_calls(client.scope, client.caller)
        return orjson.dumps(await graph.executor.run_operation(self._accepted, calls))

    async def _follow_stream(self) -> None:
        calls = self._graph.make_calls(self._client.scope, self._client.caller)
        async with aclosing(self._graph.executor.subscribe(self._accepted, calls)) as results:
            async for result in results:
                await self._send_answer(b"next", orjson.dumps(result))
        if calls.was_interrupted:
            raise StreamInterrupted

    async def _send_answer(self, message_type: bytes, payload: bytes | None = None) -> None:
        if self.is_awaited:
            rest = b"" if payload is None else b',"payload":' + payload
            await self._send(b'{"id":%s,"type":"%s"%s}' % (self._encoded_id, message_type, rest))
