"""The active consumer of a queue. What failed stays unacknowledged, so the broker gives it back in its place when this consumer is gone: order survives a restart.

A copy of it waits in `<queue>.retry.<tier>` until it is due: there everybody can see what is tried again, when, and how often it was; and after a restart
the copy brings the number of attempts back. A copy is never handled itself.
"""

import asyncio
from typing import Any

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from caravan.bus import Incoming, Process, Subscription
from caravan.bus.rabbit.letters import dead_letter, header, message, number
from caravan.bus.rabbit.links import ACKNOWLEDGE_SECONDS, CONNECT_SECONDS, TROUBLE, Publisher
from caravan.bus.reader import PARKED_MAX, Reader
from caravan.bus.topology import dead_letter_queue, retry_queue
from caravan.clock import Clock
from caravan.telemetry import log


class QueueReader(Reader):
    def __init__(self, channel: AbstractChannel, publish: Publisher, clock: Clock, subscription: Subscription, process: Process) -> None:
        super().__init__(subscription, process)
        self.channel = channel
        self._publish = publish
        self._clock = clock
        self.prefetch = PARKED_MAX + 2 * subscription.batch
        self._arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue(self.prefetch)
        self.tag = ""
        self._closed = False
        self.seen_without = 0
        """Looks in a row at which the broker knew no consumer of the queue."""

    async def run(self) -> None:
        await self._begin()
        loop = asyncio.get_running_loop()
        while not self.stopping:
            batch = self.parking.due(loop.time(), self.subscription.batch)
            batch += await self._fresh(0 if batch else self.parking.patience(loop.time()))
            if batch:
                await self.handle(batch)
            self.check()

    async def _begin(self) -> None:
        """Raises ConnectionError when the broker does not answer: a quorum queue without a leader lets everybody wait."""
        self.channel.close_callbacks.add(self._channel_closed)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.channel.set_qos(prefetch_count=self.prefetch)
                queue = await self.channel.get_queue(self.subscription.name, ensure=False)
                self.tag = await queue.consume(self._arrive)
        except TimeoutError as error:
            asked = f"RabbitMQ has not begun to deliver from {self.subscription.name} within {CONNECT_SECONDS:g} s"
            raise ConnectionError(f"{asked}; has the queue a leader? (rabbitmq-queues quorum_status)") from error

    async def _arrive(self, received: AbstractIncomingMessage) -> None:
        self._arrived.put_nowait(received)  # the broker sends no more than the prefetch, so it can't be full

    def _channel_closed(self, *_: Any) -> None:
        """A reader that waits for messages begins anew at once."""
        self._closed = True
        self.wake()

    def check(self) -> None:
        if self._closed or self.channel.is_closed:
            raise ConnectionError("the channel was closed; what was not acknowledged comes again")

    async def _fresh(self, patience: float) -> list[Incoming]:
        fresh: list[Incoming] = []
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        while len(fresh) < self.subscription.batch:
            try:
                if not fresh and patience:
                    # What comes but has to wait doesn't put off what is due by then.
                    received = await self.wait_for(self._arrived.get(), end - loop.time())
                else:
                    received = self._arrived.get_nowait()
            except asyncio.QueueEmpty:
                break
            if received is None:
                break
            incoming = Incoming(str(header(received, "x-key", "")), received.body, number(received, "x-attempt", 1), received)
            if header(received, "x-copy-of", None) is not None:
                await self._copy_came_back(incoming, fresh)
            elif not self.parking.line_up(incoming):
                fresh.append(incoming)
        return fresh

    async def _copy_came_back(self, copy: Incoming, fresh: list[Incoming]) -> None:
        """Its original runs by the clock. Is there none, it was done; after a restart it runs as the attempt that the copy says."""
        original = header(copy.handle, "x-copy-of", "")
        first = self.parking.first(copy.key)
        if first is not None and first.handle.message_id == original:
            self.parking.raise_attempt(copy.key, copy.attempt)
        for place, incoming in enumerate(fresh):  # a restart that took longer than the pause brings both at once
            if incoming.handle.message_id == original:
                fresh[place] = incoming._replace(attempt=max(incoming.attempt, copy.attempt))
        await _acknowledge(copy.handle)

    async def note_attempt(self, incoming: Incoming, delay: float) -> None:
        headers = {"x-attempt": incoming.attempt, "x-copy-of": incoming.handle.message_id or ""}
        tier = retry_queue(self.subscription.name, incoming.attempt - 1)
        try:
            await self._publish(tier, message(incoming.body, incoming.key, incoming.handle.message_id or "", headers))
        except TROUBLE as error:  # it is seen by fewer people, and tried again all the same
            log.warning("no copy in the retry tier", queue=tier, error=repr(error))

    async def finish(self, incoming: Incoming) -> None:
        await _acknowledge(incoming.handle)

    async def bury(self, incoming: Incoming, reason: str) -> None:
        letter = dead_letter(self.subscription.channel, incoming, reason, self._clock())
        await self._publish(dead_letter_queue(self.subscription.name), letter)
        await _acknowledge(incoming.handle)


async def _acknowledge(received: AbstractIncomingMessage) -> None:
    """Not waiting until it has left the socket's buffer; what comes after it on the channel, such as its closing, comes later there too.

    Raises TimeoutError when the connection is gone: nobody empties the client's buffer any more, and one that is full lets its users wait for ever.
    """
    assert received.delivery_tag is not None
    async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
        await received.channel.basic_ack(received.delivery_tag, wait=False)
