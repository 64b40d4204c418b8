"""A live stream says that it is one, and that nobody may keep it back."""

from collections.abc import AsyncIterator

from caravan.http.streams import EVENT_STREAM_TYPE, EventStream


async def test_a_stream_is_neither_stored_nor_buffered() -> None:
    async def events() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"

    stream = EventStream(events())
    assert stream.headers["content-type"].startswith(EVENT_STREAM_TYPE)
    assert stream.headers["cache-control"] == "no-store"
    assert stream.headers["x-accel-buffering"] == "no"
    assert [chunk async for chunk in stream.body_iterator] == [b"data: 1\n\n"]
