"""The active consumer of a queue. A failed message stays unacknowledged, so the broker returns it to its position when
this consumer is gone: the order survives a restart.

A copy of it waits in `<queue>.retry.<tier>` until it is due: that shows what is tried again, when, and how often it
was; after a restart the copy restores the number of attempts. A copy is never handled itself. The reader drives a
subscriber of FastStream's (`subscriber.py`), which consumes the queue and runs the batches.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from typing import Any

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from faststream.rabbit import RabbitBroker

from caravan.bus import BatchHandler, IncomingMessage, Subscription, cut_key
from caravan.bus.pipeline import run_pipeline
from caravan.bus.rabbitmq.connections import ACKNOWLEDGE_SECONDS, BROKER_ERRORS, CONNECT_SECONDS, Publisher
from caravan.bus.rabbitmq.messages import build_dead_letter, build_message, read_header, read_number
from caravan.bus.rabbitmq.subscriber import add_subscriber
from caravan.bus.reader import Reader
from caravan.bus.retry_buffer import RETRY_BUFFER_MAX
from caravan.bus.topology import get_dead_letter_queue, get_retry_queue
from caravan.clock import Clock
from caravan.telemetry import log


def build_incoming(received: AbstractIncomingMessage) -> IncomingMessage:
    return IncomingMessage(
        str(read_header(received, "x-key", "")),
        received.body,
        read_number(received, "x-attempt", 1),
        received,
        bool(received.redelivered),
    )


class QueueReader(Reader):
    def __init__(
        self,
        broker: RabbitBroker,
        channel: AbstractChannel,
        publisher: Publisher,
        clock: Clock,
        subscription: Subscription,
        handler: BatchHandler,
    ) -> None:
        self._subscriber = add_subscriber(broker, subscription, handler, channel, self._receive_delivery)
        super().__init__(subscription, partial(run_pipeline, self._subscriber))
        self.channel = channel
        self._publisher = publisher
        self._clock = clock
        self.prefetch = RETRY_BUFFER_MAX + 2 * subscription.batch
        self._deliveries: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue(self.prefetch)
        self._unfinished_tags: set[int] = set()
        """Of the deliveries that were taken and not acknowledged; those that still wait have higher ones."""
        self._closed = False
        self.checks_without_consumer = 0
        """Looks in a row at which the broker knew no consumer of the queue."""

    async def run(self) -> None:
        await self._start_consuming()
        loop = asyncio.get_running_loop()
        while not self.is_stopping:
            batch = self.retry_buffer.pop_due(loop.time(), self.subscription.batch)
            batch += await self._receive_batch(0 if batch else self.retry_buffer.seconds_until_due(loop.time()))
            if batch:
                await self.handle_batch(batch)
            self.check_ownership()

    async def _start_consuming(self) -> None:
        """Raises ConnectionError when the broker does not answer: a quorum queue without a leader lets everybody
        wait.
        """
        self.channel.close_callbacks.add(self._channel_closed)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.channel.set_qos(prefetch_count=self.prefetch)
                await self._subscriber.start()
        except TimeoutError as error:
            problem = f"RabbitMQ has not begun to deliver from {self.subscription.name} within {CONNECT_SECONDS:g} s"
            raise ConnectionError(f"{problem}; has the queue a leader? (rabbitmq-queues quorum_status)") from error

    async def close(self) -> None:
        await self._subscriber.stop()

    async def _receive_delivery(self, received: AbstractIncomingMessage) -> None:
        self._deliveries.put_nowait(received)  # the broker sends no more than the prefetch, so it can't be full

    def _channel_closed(self, *_: Any) -> None:
        """A reader that waits for messages begins anew at once."""
        self._closed = True
        self.wake()

    def check_ownership(self) -> None:
        if self._closed or self.channel.is_closed:
            raise ConnectionError("the channel was closed; what was not acknowledged comes again")

    async def _receive_batch(self, timeout_seconds: float) -> list[IncomingMessage]:
        batch: list[IncomingMessage] = []
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds
        while len(batch) < self.subscription.batch:
            try:
                if not batch and timeout_seconds:
                    # What comes but has to wait doesn't put off what is due by then.
                    received = await self.wait_for(self._deliveries.get(), end - loop.time())
                else:
                    received = self._deliveries.get_nowait()
            except asyncio.QueueEmpty:
                break
            if received is None:
                break
            self._unfinished_tags.add(get_tag(received))
            incoming = build_incoming(received)
            if read_header(received, "x-copy-of", None) is not None:
                await self._handle_retry_copy(incoming, batch)
            elif not self.retry_buffer.enqueue_behind(incoming):
                batch.append(incoming)
        return batch

    async def _handle_retry_copy(self, copy: IncomingMessage, batch: list[IncomingMessage]) -> None:
        """Its original runs by the clock. Is there none, it was done; after a restart it runs as the attempt that the
        copy says.
        """
        original = read_header(copy.handle, "x-copy-of", "")
        first = self.retry_buffer.peek_first(copy.key)
        if first is not None and first.handle.message_id == original:
            self.retry_buffer.raise_attempt(copy.key, copy.attempt)
        for index, incoming in enumerate(batch):  # a restart that took longer than the pause brings both at once
            if incoming.handle.message_id == original:
                batch[index] = incoming._replace(attempt=max(incoming.attempt, copy.attempt))
        await self.acknowledge_messages([copy])

    async def record_attempt(self, incoming: IncomingMessage, delay: float) -> None:
        headers = {"x-attempt": incoming.attempt, "x-copy-of": incoming.handle.message_id or ""}
        tier = get_retry_queue(self.subscription.name, incoming.attempt - 1)
        try:
            await self._publisher(
                tier, build_message(incoming.body, cut_key(incoming.key), incoming.handle.message_id or "", headers)
            )
        except BROKER_ERRORS as error:  # it is seen by fewer people, and tried again all the same
            log.warning("no copy in the retry tier", queue=tier, error=repr(error))

    async def acknowledge_messages(self, done: Sequence[IncomingMessage]) -> None:
        """What lies before all that is unfinished in one frame. Not waiting until it has left the socket's buffer; what
        comes after it on the channel, such as its closing, comes later there too.

        Raises TimeoutError when the connection is gone: nobody empties the client's buffer any more, and one that is
        full lets its users wait for ever.
        """
        tags = sorted(get_tag(incoming.handle) for incoming in done)
        self._unfinished_tags.difference_update(tags)
        first_unfinished = min(self._unfinished_tags, default=tags[-1] + 1)
        in_front = bisect_left(tags, first_unfinished)
        channel = done[0].handle.channel
        async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
            if in_front:
                await channel.basic_ack(tags[in_front - 1], multiple=True, wait=False)
            for tag in tags[in_front:]:
                await channel.basic_ack(tag, wait=False)

    async def dead_letter(self, incoming: IncomingMessage, reason: str) -> None:
        dead_letter_message = build_dead_letter(self.subscription.channel, incoming, reason, self._clock())
        await self._publisher(get_dead_letter_queue(self.subscription.name), dead_letter_message)
        await self.acknowledge_messages([incoming])


def get_tag(received: AbstractIncomingMessage) -> int:
    assert received.delivery_tag is not None
    return received.delivery_tag
