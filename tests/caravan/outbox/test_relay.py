"""The relay sends what was committed in the order of its keys, and forgets it only when the bus has taken it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from caravan.bus import PublishError, PublishFailure
from caravan.clock import new_id, utc_now
from caravan.database import Database
from caravan.leadership import Leadership
from caravan.messages import Event, OutgoingMessage, Topic, encode_message
from caravan.outbox import OutboxRelay, count_pending
from caravan.outbox import relay as outbox_relay
from caravan.runtime import Backends
from tests.support.database import count_statements, open_kernel_database
from tests.support.faults import switch_faults
from tests.support.shop import wait_until

NAME = "kernel_relay"


class Noted(Event):
    text: str


NOTED = Topic("noted", owner="kernel", events=(Noted,), key="text", purpose="test")
OTHER = Topic("other-noted", owner="kernel", events=(Noted,), key="text", purpose="test")


class RecordingBus:
    """Takes what is published, unless the channel is full, the body refused, or all of it away."""

    def __init__(self) -> None:
        self.taken: list[OutgoingMessage] = []
        self.full_channels: set[str] = set()
        self.refused_text = b"\x00"
        self.error: Exception | None = None

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        if self.error is not None:
            raise self.error
        failed_keys: set[tuple[str, str]] = set()
        failures = []
        for message in messages:
            is_refused = self.refused_text in message.body
            if is_refused or message.channel in self.full_channels or (message.channel, message.key) in failed_keys:
                failed_keys.add((message.channel, message.key))
                failures.append(PublishFailure(message, "too large" if is_refused else "full", permanent=is_refused))
            else:
                self.taken.append(message)
        if failures:
            raise PublishError(failures)

    def list_texts(self, channel: Topic = NOTED) -> list[str]:
        texts = [message.body.partition(b'"text":"')[2].partition(b'"')[0] for message in self.taken]
        return [text.decode() for text, m in zip(texts, self.taken, strict=True) if m.channel == channel.name]


@pytest.fixture(scope="module")
async def database(backends: Backends) -> AsyncIterator[Database]:
    async with open_kernel_database(backends, NAME) as opened:
        yield opened


@pytest.fixture
async def bus(database: Database) -> RecordingBus:
    await database.fetch("TRUNCATE outbox")
    return RecordingBus()


@asynccontextmanager
async def run_relay(database: Database, backends: Backends, bus: Any) -> AsyncIterator[OutboxRelay]:
    leadership = Leadership(backends.get_database_url(NAME), NAME)
    relay = OutboxRelay(database, bus, leadership)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await leadership.close()


async def commit(database: Database, *texts: str, key: str = "k", channel: Topic = NOTED) -> None:
    async with database.unit_of_work() as uow:
        for text in texts:
            uow.emit(channel, Noted(text=text), key=key)


async def wait_for_texts(bus: RecordingBus, *texts: str, channel: Topic = NOTED) -> None:
    async def has_taken() -> bool:
        return bus.list_texts(channel) == [*texts]

    await wait_until(has_taken)


async def wait_for_empty_outbox(database: Database) -> None:
    async def is_empty() -> bool:
        return await count_pending(database) == 0

    await wait_until(is_empty)


async def test_what_was_committed_is_sent_as_it_was_written_and_then_removed(
    database: Database, backends: Backends, bus: RecordingBus
) -> None:
    message_id = new_id()
    async with database.unit_of_work() as uow:
        uow.emit(NOTED, Noted(text="a"), key="k", message_id=message_id)
    async with run_relay(database, backends, bus):
        await wait_for_texts(bus, "a")
        await wait_for_empty_outbox(database)
    expected = encode_message(
        Noted(text="a"),
        NOTED,
        key="k",
        source=database.service,
        time=utc_now(),
        traceparent=None,
        actor=None,
        message_id=message_id,
    )
    assert [message[:5] for message in bus.taken] == [expected[:5]]


async def test_two_relays_keep_the_order_of_a_key_and_send_each_row_once(
    database: Database, backends: Backends, bus: RecordingBus
) -> None:
    texts = [str(number) for number in range(100)]
    async with run_relay(database, backends, bus), run_relay(database, backends, bus):
        for text in texts:
            await commit(database, text)
        await wait_for_texts(bus, *texts)
        await wait_for_empty_outbox(database)


async def test_one_statement_removes_what_was_sent_and_looks_for_more(
    database: Database, backends: Backends, bus: RecordingBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_relay, "UNREMOVED_SECONDS", 60.0)
    monkeypatch.setattr(outbox_relay, "LINGER_SECONDS", 0.0)
    async with run_relay(database, backends, bus):
        await commit(database, "warm")
        await wait_for_texts(bus, "warm")
        before = count_statements(database)
        for number in range(1, 21):
            await commit(database, str(number))
            await wait_for_texts(bus, "warm", *(str(each) for each in range(1, number + 1)))
        assert count_statements(database) - before <= 2 * 20 + 3, "one to write and one to relay each"


async def test_a_bus_that_is_away_loses_and_doubles_nothing(
    database: Database, backends: Backends, bus: RecordingBus
) -> None:
    bus.error = ConnectionRefusedError("no broker")
    async with run_relay(database, backends, bus):
        await commit(database, "a", "b")
        await commit(database, "c")
        assert await count_pending(database) == 3
        bus.error = None
        await wait_for_texts(bus, "a", "b", "c")


async def test_a_channel_that_takes_nothing_stops_no_other_and_is_tried_again(
    database: Database, backends: Backends, bus: RecordingBus
) -> None:
    bus.full_channels = {NOTED.name}
    async with run_relay(database, backends, bus):
        await commit(database, "a")
        await commit(database, "b", channel=OTHER)
        await wait_for_texts(bus, "b", channel=OTHER)
        assert bus.list_texts() == []
        await commit(database, "c")
        bus.full_channels = set()
        await wait_for_texts(bus, "a", "c")
        await wait_for_empty_outbox(database)


async def test_a_row_that_is_refused_for_good_is_kept_with_its_reason_and_blocks_only_its_key(
    database: Database, backends: Backends, bus: RecordingBus
) -> None:
    bus.refused_text = b'"huge"'
    async with run_relay(database, backends, bus):
        await commit(database, "huge", "behind")
        await commit(database, "free", key="other")
        await commit(database, "apart", channel=OTHER)
        await wait_for_texts(bus, "free")
        await wait_for_texts(bus, "apart", channel=OTHER)

        async def list_refused() -> list[str]:
            return [row[0] for row in await database.fetch("SELECT reason FROM outbox WHERE refused_at IS NOT NULL")]

        assert await wait_until(list_refused) == ["too large"]
        await commit(database, "later")
        await commit(database, "free too", key="other")
        await wait_for_texts(bus, "free", "free too")

        async def is_rest_removed() -> bool:
            return await count_pending(database) == 3

        await wait_until(is_rest_removed)
    async with run_relay(database, backends, bus):
        await commit(database, "free as well", key="other")
        await wait_for_texts(bus, "free", "free too", "free as well")


async def test_who_stops_sends_first_what_is_committed(
    database: Database, backends: Backends, bus: RecordingBus
) -> None:
    leadership = Leadership(backends.get_database_url(NAME), NAME)
    relay: Any = OutboxRelay(database, bus, leadership)  # type: ignore[arg-type]
    await commit(database, *(str(number) for number in range(600)))
    relay.stop()
    async with asyncio.timeout(20):
        await relay.run()
    assert len(bus.taken) == 600
    assert await count_pending(database) == 0
    await leadership.close()


async def test_a_fault_has_each_message_of_an_outbox_refused(
    database: Database, backends: Backends, bus: RecordingBus
) -> None:
    async def is_refused() -> bool:
        return bool(await database.fetchval("SELECT count(*) FROM outbox WHERE refused_at IS NOT NULL"))

    await commit(database, "a")
    with switch_faults(f"message-refused:{database.service}"):
        async with run_relay(database, backends, bus):
            await wait_until(is_refused)
    assert bus.taken == []
    await commit(database, "behind it")
    await database.execute("UPDATE outbox SET created_at = created_at - interval '1 hour'")
    async with run_relay(database, backends, bus) as relay:
        await commit(database, "b", key="another")
        await wait_for_texts(bus, "b")
        await relay.update_gauges()
    assert relay._age_gauge._value.get() < 600, "the relay works: what waits behind a refused row is not its delay"
    assert relay._refused_gauge._value.get() == 1
