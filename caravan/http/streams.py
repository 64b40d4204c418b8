"""Server-Sent Events: how a service answers with a live stream."""

from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

EVENT_STREAM_TYPE = "text/event-stream"


class EventStream(StreamingResponse):
    """The route declares EVENTS as the content of its answer: the gateway bounds what is declared so."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        # A proxy that buffers would keep the events until there are enough of them.
        super().__init__(
            events, media_type=EVENT_STREAM_TYPE, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
