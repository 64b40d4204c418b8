"""The entry point of messages for the idempotency contract: a consumer with its inbox, on whatever bus.

A message's id is its key. A known id is dropped, whatever its body: ids are made once, in the transaction that the
message tells of, so another body under the same
id can only be a fault of the sender, and the first one stands.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from caravan.bus import Bus, HandlingResult, IncomingMessage
from caravan.clock import new_id
from caravan.consumers import Consumers
from caravan.database import INBOX_RETENTION, Database, UnitOfWork
from caravan.inbox import Inbox
from caravan.messages import (
    Channel,
    Command,
    Delivery,
    Event,
    Exchange,
    Message,
    OutgoingMessage,
    Queue,
    RetryPolicy,
    Source,
    Topic,
    encode_message,
)
from tests.contract.idempotency_contract import Clock, EntryPoint, Gate
from tests.support.shop import wait_until

QUICK = RetryPolicy(delays=(0.05, 0.05))
KEY = "one key, so that what comes later is done later"


class Do(Command):
    text: str


class Done(Event):
    text: str


def make_topic() -> tuple[Topic, Topic]:
    channel = Topic(f"actions-{new_id()}", owner="test", events=(Done,), key="one", purpose="test", retry=QUICK)
    return channel, channel


def make_queue() -> tuple[Queue, Queue]:
    channel = Queue(f"test.actions-{new_id()}", owner="test", commands=(Do,), key="one", purpose="test", retry=QUICK)
    return channel, channel


def make_exchange() -> tuple[Exchange, Source]:
    channel = Exchange(f"actions-{new_id()}", owner="test", routes={"action.done": Done}, key="one", purpose="test")
    return channel, channel.bind("test", "action.*", retry=QUICK)


CHANNELS: dict[str, Callable[[], tuple[Channel, Source]]] = {
    "topic": make_topic,
    "queue": make_queue,
    "exchange": make_exchange,
}


class MessageEntryPoint(EntryPoint):
    retention: timedelta = INBOX_RETENTION

    def __init__(
        self, database: Database, clock: Clock, gate: Gate, bus: Bus, channel: Channel, source: Source
    ) -> None:
        super().__init__(database, clock, gate)
        self.bus = bus
        self.channel = channel
        consume = Consumers("test")

        @consume(source, batch=20)
        async def handle_message(_: Any, uow: UnitOfWork, delivery: Delivery[Message]) -> None:
            message = delivery.message
            assert isinstance(message, Do | Done)
            await self.insert_effect(uow, delivery.id, message.text)

        context: Any = SimpleNamespace(service="test", database=database)
        self.subscription = consume.handlers[0].subscription
        self._inbox = Inbox(consume.handlers[0], context)
        self._reader_task: asyncio.Task[None] | None = None

    async def _process_batch(self, batch: list[IncomingMessage]) -> list[HandlingResult]:
        results = await self._inbox.process_batch(batch)
        await self.gate.pass_through("after commit")
        return results

    async def start_reader(self) -> None:
        self._reader_task = asyncio.create_task(self.bus.consume(self.subscription, self._process_batch))

    async def stop_reader(self) -> None:
        if self._reader_task is not None:
            self._reader_task.cancel()
            await asyncio.gather(self._reader_task, return_exceptions=True)

    async def submit(self, key: UUID, text: str) -> None:
        """Publish it, and something after it: when that is done, this has been dealt with."""
        after = new_id()
        await self.bus.publish([self._make_outgoing(key, text), self._make_outgoing(after, "after")])
        await wait_until(lambda: self.list_effects(after), seconds=40)

    async def submit_elsewhere(self, key: UUID, text: str) -> None:
        """As a reader that was taken for dead, and still has the message in hand."""
        await self._inbox.process_batch([IncomingMessage(KEY, self._make_outgoing(key, text).body, 1)])

    async def replace_worker(self) -> None:
        await self.stop_reader()
        await self.start_reader()

    def is_body_mismatch(self, response: Any) -> bool:
        return response is None

    def _make_outgoing(self, key: UUID, text: str) -> OutgoingMessage:
        message = Do(text=text) if isinstance(self.channel, Queue) else Done(text=text)
        return encode_message(
            message,
            self.channel,
            key=KEY,
            source="test",
            time=self.clock(),
            traceparent=None,
            actor=None,
            message_id=key,
        )


@asynccontextmanager
async def open_message_entry_point(
    database: Database, bus: Bus, kind: str, clock: Clock
) -> AsyncIterator[MessageEntryPoint]:
    channel, source = CHANNELS[kind]()
    entry_point = MessageEntryPoint(database, clock, Gate(), bus, channel, source)
    await bus.declare_channels([channel], [entry_point.subscription])
    await entry_point.start_reader()
    try:
        yield entry_point
    finally:
        await entry_point.stop_reader()
