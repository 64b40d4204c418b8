"""What the FastStream subscribers of Kafka and RabbitMQ have in common: a whole batch is one message of FastStream's.

The subscribers are in `kafka/subscriber.py` and `rabbitmq/subscriber.py`. Their readers drive them: FastStream's own
loop can't hold a key back, goes on after an error, and acknowledges more than was finished. It is imported here and in
those two packages only, and not at all where the embedded bus carries the messages.
"""

from typing import Any, Protocol, cast

from faststream import BaseMiddleware
from faststream.message import StreamMessage
from faststream.response import Response

from caravan.bus import HandlingResult, IncomingMessage
from caravan.bus.observation import BatchObserver


class ObserverMiddleware(BaseMiddleware[Any, Any]):
    """Has each batch observed by its subscriber's `BatchObserver`: the metrics' names are ours, not FastStream's."""

    async def consume_scope(self, call_next: Any, msg: StreamMessage[Any]) -> Any:
        observer: BatchObserver = self.context.get_local("handler_").observer
        return await observer.observe_batch(cast("list[IncomingMessage]", msg.body), call_next(msg))


async def get_batch(message: StreamMessage[Any]) -> Any:
    """The decoder of both: the batch is handed on as it came, because the inbox decodes each message by itself and
    must be able to count one that can't be decoded. Returning `message` would make it refer to itself, as FastStream
    keeps what a decoder returns, and leave it to the garbage collector.
    """
    return message.body


class _Pipeline(Protocol):
    async def process_message(self, msg: Any) -> Response: ...


async def run_pipeline(subscriber: _Pipeline, batch: list[IncomingMessage]) -> list[HandlingResult]:
    """Run a batch through the middlewares and the handler. Raises what they raised, for the reader to try again.

    A middleware that swallowed an exception would leave no results, and the reader would take that for nothing to do.
    """
    results = (await subscriber.process_message(batch)).body
    if not isinstance(results, list):
        raise RuntimeError("a middleware of the broker swallowed an exception: what came of the batch is unknown")
    return results
