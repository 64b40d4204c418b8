"""Where a member of a group begins on partitions that it is given: nothing that comes meanwhile is passed over."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError

from tests.caravan.bus.kafka.fake_kafka import FakeKafka
from tests.caravan.bus.kafka.group_member import FIRST, GROUP, Handler, run_member, send_bodies
from tests.caravan.bus.waiting import wait_for


async def test_a_message_that_comes_while_the_position_is_looked_up_is_read(fake_kafka: FakeKafka) -> None:
    handler, looked_up = Handler(), fake_kafka.withhold_answer("offsets for times")
    joining = asyncio.create_task(_join(fake_kafka, handler))
    await wait_for(lambda: bool(fake_kafka.consumers and fake_kafka.consumers[0].positions))
    send_bodies(fake_kafka, ("a", b"0"))
    looked_up.set()
    await joining
    assert handler.bodies == [b"0"]


async def _join(kafka: FakeKafka, handler: Handler) -> None:
    async with run_member(kafka, handler):
        await wait_for(lambda: kafka.committed[GROUP].get(FIRST) == 1)


async def test_a_partition_on_which_nothing_has_come_has_a_position(fake_kafka: FakeKafka) -> None:
    async with run_member(fake_kafka, Handler()):
        await wait_for(lambda: fake_kafka.committed[GROUP].get(FIRST) == 0)


@pytest.mark.parametrize("operation", ["offsets for times", "end offsets"])
async def test_a_reader_that_can_not_learn_where_to_begin_joins_anew(fake_kafka: FakeKafka, operation: str) -> None:
    fake_kafka.failures[operation] = KafkaConnectionError("gone")
    async with run_member(fake_kafka, Handler()) as member:
        with pytest.raises(ConnectionError, match="joins again"):
            async with asyncio.timeout(5):
                await member.running
