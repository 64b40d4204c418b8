"""Answers a subscription with Server-Sent Events, by the protocol GraphQL over SSE (distinct connections): `next` for
each answer, and `complete` when nothing more can come.

It is a live stream like those of REST, with the same bounds and the same ends (`streams.py`). An end without `complete`
tells the client to subscribe again, after the last version that it has seen.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import orjson

from caravan.auth import Caller
from caravan.http import EventStream, Receive, Scope, Send
from caravan.http.client_ip import get_network
from services.gateway.graphql.execution import AcceptedOperation, GraphExecutor
from services.gateway.graphql.service_calls import ServiceCalls
from services.gateway.streams import LiveStreams

HEARTBEAT_SECONDS = 15.0
COMPLETE = b"event: complete\ndata:\n\n"


class SubscriptionStream(EventStream):
    """Takes its place among the live streams when it begins to be sent, and gives it back when it ends."""

    def __init__(
        self,
        streams: LiveStreams,
        executor: GraphExecutor,
        operation: AcceptedOperation,
        calls: ServiceCalls,
        caller: Caller | None,
        address: str,
    ) -> None:
        super().__init__(self._iterate_events(executor, operation, calls))
        self._streams = streams
        self._caller = caller
        self._address = address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.reserve_slot(self._caller, get_network(self._address)) as self._slot:
            await super().__call__(scope, receive, send)

    async def _iterate_events(
        self, executor: GraphExecutor, operation: AcceptedOperation, calls: ServiceCalls
    ) -> AsyncGenerator[bytes, None]:
        results = executor.subscribe(operation, calls)
        result = asyncio.ensure_future(anext(results, None))
        try:
            while not self._slot.ended.done():
                waited_for: set[asyncio.Future[Any]] = {result, self._slot.ended}
                await asyncio.wait(waited_for, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if not result.done():
                    yield b": still here\n\n"
                    continue
                answer = result.result()
                if answer is None:
                    if not calls.was_interrupted:
                        yield COMPLETE
                    return
                yield format_next(orjson.dumps(answer))
                result = asyncio.ensure_future(anext(results, None))
        finally:
            result.cancel()
            await asyncio.gather(result, return_exceptions=True)
            await results.aclose()


def format_next(body: bytes) -> bytes:
    return b"event: next\ndata: %s\n\n" % body
