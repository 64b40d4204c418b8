"""The messages, channels and readers with which the promises of the bus are tested."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import orjson

from caravan.bus import DONE, BatchHandler, Bus, DeadLetter, HandlingResult, IncomingMessage, Result, Subscription
from caravan.clock import new_id, utc_now
from caravan.messages import (
    Command,
    Event,
    Exchange,
    MalformedMessage,
    OutgoingMessage,
    Queue,
    RetryPolicy,
    Topic,
    decode_message,
    encode_message,
)


class Ping(Command):
    number: int


class Happened(Event):
    number: int


class Later(Event):
    number: int


QUICK = RetryPolicy(delays=(0.05, 0.05))


WAIT_SECONDS = 30
"""A group of three readers takes a few seconds to form."""


def make_topic(retry: RetryPolicy = QUICK) -> Topic:
    return Topic(f"topic-{new_id()}", owner="test", events=(Happened, Later), key="id", purpose="test", retry=retry)


def make_queue(retry: RetryPolicy = QUICK) -> Queue:
    return Queue(f"test.queue-{new_id()}", owner="test", commands=(Ping,), key="id", purpose="test", retry=retry)


def make_outgoing(
    channel: Topic | Queue | Exchange, number: int, key: str, identifier: UUID | None = None
) -> OutgoingMessage:
    message = Ping(number=number) if isinstance(channel, Queue) else Happened(number=number)
    return encode_message(
        message, channel, key=key, source="test", time=utc_now(), traceparent=None, actor=None, message_id=identifier
    )


def make_raw_outgoing(channel: Topic | Queue, key: str, body: bytes) -> OutgoingMessage:
    """As a foreign producer might send it."""
    return OutgoingMessage("queue" if isinstance(channel, Queue) else "topic", channel.name, "", key, new_id(), body)


def read_message_number(incoming: IncomingMessage | DeadLetter) -> int:
    return int(orjson.loads(incoming.body)["data"]["number"])


class Recorder:
    """A handler that notes what it saw; `decide` says what becomes of each."""

    def __init__(self, decide: Callable[[IncomingMessage], HandlingResult] = lambda _: DONE) -> None:
        self.messages: list[IncomingMessage] = []
        self.numbers_by_key: dict[str, list[int]] = defaultdict(list)
        self.decide = decide

    async def process_batch(self, batch: list[IncomingMessage]) -> list[HandlingResult]:
        results = []
        blocked_keys: set[str] = set()
        for incoming in batch:
            if incoming.key in blocked_keys:
                results.append(HandlingResult(Result.BLOCKED))
                continue
            self.messages.append(incoming)
            outcome = self.decide(incoming)
            results.append(outcome)
            if outcome.result is Result.DONE:
                self.numbers_by_key[incoming.key].append(read_message_number(incoming))
            elif outcome.result is Result.RETRY:
                blocked_keys.add(incoming.key)
        return results

    async def decode_batch(self, batch: list[IncomingMessage]) -> list[HandlingResult]:
        """As the inbox does: what can't be read is dead at once."""
        results = [DONE] * len(batch)
        for index, incoming in enumerate(batch):
            try:
                if not incoming.key:
                    raise MalformedMessage("no key")
                decode_message(incoming.body, {Ping.type: Ping, Happened.type: Happened})
                self.numbers_by_key[incoming.key].append(read_message_number(incoming))
            except MalformedMessage as error:
                results[index] = HandlingResult(Result.DEAD, str(error))
        return results

    def make_counter(self) -> Callable[[], Awaitable[int]]:
        async def count_numbers() -> int:
            return sum(len(numbers) for numbers in self.numbers_by_key.values())

        return count_numbers


@asynccontextmanager
async def run_consumers(bus: Bus, *readers: tuple[Subscription, BatchHandler]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(bus.consume(subscription, process)) for subscription, process in readers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


SLOW = RetryPolicy(delays=(3.0, 3.0))


LATE = 0.6
"""Seconds that a busy machine may be late."""


def is_unlucky(incoming: IncomingMessage) -> bool:
    return incoming.attempt == 1 and read_message_number(incoming) % 20 == 0


def drop_repetitions(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


async def lag_of(bus: Bus, reader: Subscription) -> dict[str, int] | None:
    """None while the broker can't be asked: one that has just begun knows no coordinator of a group yet."""
    try:
        return await bus.measure_lag([reader])
    except ConnectionError:
        return None


async def has_recorded(recorder: Recorder, count: int) -> bool:
    return len(recorder.messages) >= count


async def has_distinct(recorder: Recorder, count: int) -> bool:
    return sum(len(set(numbers)) for numbers in recorder.numbers_by_key.values()) >= count


async def fetch_dead_letters(bus: Bus, reader: Subscription, count: int) -> list[DeadLetter]:
    dead_letters = await bus.list_dead_letters([reader])
    return dead_letters if len(dead_letters) >= count else []


async def has_at_least(recorder: Recorder, count: int) -> bool:
    return await recorder.make_counter()() >= count
