"""The consumer of a queue as FastStream's subscriber: it consumes on the reader's own channel, which alone ends it."""

from typing import Any
from unittest.mock import AsyncMock

from caravan.bus import Subscription
from caravan.bus.rabbitmq.connections import RabbitConnection
from caravan.bus.rabbitmq.subscriber import add_subscriber
from caravan.messages import Command, Queue


class Count(Command):
    number: int


async def test_it_consumes_on_the_channel_and_ends_with_it() -> None:
    """Cancelled before, the next consumer would start while this one's messages are not back in their places."""
    connection = RabbitConnection("amqp://nobody:nothing@nowhere/", "test")
    connection._setup_logger()
    channel, receive, handler = AsyncMock(), AsyncMock(), AsyncMock()
    queue = channel.get_queue.return_value
    subscription = Subscription("reader", Queue("test.count", "test", (Count,), "number", "test"))
    subscriber: Any = add_subscriber(connection, subscription, handler, channel, receive)
    await subscriber.start()
    channel.get_queue.assert_awaited_once_with("test.count", ensure=False)
    queue.consume.assert_awaited_once_with(receive)
    await subscriber.stop()
    queue.cancel.assert_not_awaited()
    channel.close.assert_awaited_once()
