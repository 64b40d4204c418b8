"""The message door for the idempotency contract: a consumer with its inbox, on whatever bus.

A message's id is its key. A known id is dropped, whatever its body: ids are made once, in the transaction that the message tells of, so another body under the same
id can only be a fault of the sender, and the first one stands.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from caravan.bus import Bus, Incoming, Outcome
from caravan.clock import new_id
from caravan.database import INBOX_KEPT, Database, UnitOfWork
from caravan.inbox import Consumers, Inbox
from caravan.messages import Channel, Command, Delivery, Event, Exchange, Outgoing, Queue, Retry, Source, Topic, encode
from tests.contract.idempotency_contract import Clock, Door, Gate
from tests.shop import until

QUICK = Retry(delays=(0.05, 0.05))
KEY = "one key, so that what comes later is done later"


class Do(Command):
    text: str


class Done(Event):
    text: str


def topic() -> tuple[Topic, Topic]:
    made = Topic(f"deeds-{new_id()}", owner="test", events=(Done,), key="one", purpose="test", retry=QUICK)
    return made, made


def queue() -> tuple[Queue, Queue]:
    made = Queue(f"test.deeds-{new_id()}", owner="test", commands=(Do,), key="one", purpose="test", retry=QUICK)
    return made, made


def exchange() -> tuple[Exchange, Source]:
    made = Exchange(f"deeds-{new_id()}", owner="test", routes={"deed.done": Done}, key="one", purpose="test")
    return made, made.bind("test", "deed.*", retry=QUICK)


CHANNELS: dict[str, Callable[[], tuple[Channel, Source]]] = {"topic": topic, "queue": queue, "exchange": exchange}


class MessageDoor(Door):
    remembers: timedelta = INBOX_KEPT

    def __init__(self, database: Database, clock: Clock, gate: Gate, bus: Bus, channel: Channel, source: Source) -> None:
        super().__init__(database, clock, gate)
        self.bus = bus
        self.channel = channel
        consume = Consumers("test")

        @consume(source, batch=20)
        async def deed(_: Any, work: UnitOfWork, delivery: Delivery[Any]) -> None:
            await self.do(work, delivery.id, delivery.message.text)

        context: Any = SimpleNamespace(service="test", database=database)
        self.subscription = consume.declared[0].subscription
        self._inbox = Inbox(consume.declared[0], context)
        self._reading: asyncio.Task[None] | None = None

    async def _process(self, batch: list[Incoming]) -> list[Outcome]:
        outcomes = await self._inbox.process(batch)
        await self.gate.passes("after commit")
        return outcomes

    async def opens(self) -> None:
        self._reading = asyncio.create_task(self.bus.consume(self.subscription, self._process))

    async def closes(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def hand_in(self, key: UUID, text: str) -> None:
        """Publish it, and something after it: when that is done, this has been dealt with."""
        after = new_id()
        await self.bus.publish([self._outgoing(key, text), self._outgoing(after, "after")])
        await until(lambda: self.effects(after), seconds=40)

    async def again_elsewhere(self, key: UUID, text: str) -> None:
        """As a reader that was taken for dead, and still has the message in hand."""
        await self._inbox.process([Incoming(KEY, self._outgoing(key, text).body, 1)])

    async def dies(self) -> None:
        await self.closes()
        await self.opens()

    def says_other_body(self, told: Any) -> bool:
        return told is None

    def _outgoing(self, key: UUID, text: str) -> Outgoing:
        message = Do(text=text) if isinstance(self.channel, Queue) else Done(text=text)
        return encode(message, self.channel, key=KEY, source="test", time=self.clock(), traceparent=None, actor=None, identifier=key)


@asynccontextmanager
async def message_door(database: Database, bus: Bus, kind: str, clock: Clock) -> AsyncIterator[MessageDoor]:
    channel, source = CHANNELS[kind]()
    door = MessageDoor(database, clock, Gate(), bus, channel, source)
    await bus.declare([channel], [door.subscription])
    await door.opens()
    try:
        yield door
    finally:
        await door.closes()
