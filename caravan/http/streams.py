"""Server-Sent Events: how a service answers with a live stream."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

EVENT_STREAM_TYPE = "text/event-stream"


class EventStream(StreamingResponse):
    """The route declares EVENTS as the content of its answer: the gateway bounds what is declared so.

    It sends in the request's own task, beside one that waits for the client to leave; the framework's answer has a
    group of tasks for that, which costs more than all else of an open stream.
    """

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        # A proxy that buffers would keep the events until there are enough of them.
        super().__init__(
            events, media_type=EVENT_STREAM_TYPE, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        departure = asyncio.ensure_future(_wait_for_departure(receive))
        is_over = False

        def end_stream(_: asyncio.Future[None]) -> None:
            if not is_over:
                task.cancel()

        departure.add_done_callback(end_stream)
        try:
            async with aclosing(self._events):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for part in self._events:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                is_over = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if is_over or not departure.done() or task.uncancel():
                raise
        finally:
            is_over = True
            departure.cancel()


async def _wait_for_departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
