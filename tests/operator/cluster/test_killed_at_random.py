"""An operator that is killed at random ends where the specs are."""

import asyncio
import os
import random
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.operator.cluster.apiserver import Namespace, OperatorProcess
from tests.operator.cluster.brokers import SideKafka, SideRabbit
from tests.operator.cluster.kinds import KAFKA, QUEUE, RABBIT, TOPIC
from tests.support.shop import wait_until

pytestmark = pytest.mark.slow


KILLS = int(os.environ.get("TEST_OPERATOR_KILLS", "100"))
TOPICS_MAX = 40
"""Topics there are at a time, so that a machine on which the kills take longer ends with no more."""


async def _leads(operator: OperatorProcess, before: int) -> bool:
    assert operator.process is not None
    assert operator.process.returncode is None, (
        f"it ended with {operator.process.returncode}: {operator.read_log()[-3000:]}"
    )
    assert operator.read_log().count('"leading"') > before, operator.read_log()[-3000:]
    return True


@dataclass
class ChangingTopics:
    """Topics and queues of one name that are made, changed and deleted at random, and how they have to end."""

    connected: Namespace
    name: str
    chance: random.Random
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    retention_hours: dict[str, str] = field(default_factory=dict)
    """Of the topics that stay."""
    deleted: set[str] = field(default_factory=set)
    identities: dict[str, str] = field(default_factory=dict)
    """The id that a topic had first: one that is made twice gets another."""

    async def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            if len(self.retention_hours) < TOPICS_MAX:
                number += 1
                await self._create_pair(f"{self.name}-{number}", number)
            else:
                await self._delete_one()
            await asyncio.sleep(self.chance.uniform(0, 2.0))
            if self.retention_hours and self.chance.random() < 0.5:
                await self._change_one()
            if self.retention_hours and self.chance.random() < 0.3:
                await self._delete_one()
            for each in await self.connected.list_objects(TOPIC):
                if "topicId" in each.get("status", {}):
                    self.identities.setdefault(each["metadata"]["name"], each["status"]["topicId"])

    async def _create_pair(self, topic: str, number: int) -> None:
        policy = self.chance.choice(["Retain", "Delete"])
        hours = str(self.chance.randint(1, 9))
        await self.connected.create_object(
            TOPIC, topic, {**KAFKA, "partitions": 1, "config": {"retention": f"{hours}h"}, "deletionPolicy": policy}
        )
        await self.connected.create_object(
            QUEUE, topic, {**RABBIT, "limits": {"maxLength": number}, "deletionPolicy": policy}
        )
        self.retention_hours[topic] = hours

    async def _change_one(self) -> None:
        topic = self.chance.choice(sorted(self.retention_hours))
        self.retention_hours[topic] = str(self.chance.randint(1, 9))
        await self.connected.change_spec(TOPIC, topic, {"config": {"retention": f"{self.retention_hours[topic]}h"}})

    async def _delete_one(self) -> None:
        topic = self.chance.choice(sorted(self.retention_hours))
        del self.retention_hours[topic]
        self.deleted.add(topic)
        for kind in (TOPIC, QUEUE):
            await self.connected.delete_object(kind, topic)

    async def check_ends(self, kafka_side: SideKafka, rabbit_side: SideRabbit) -> None:
        for topic, hours in self.retention_hours.items():
            await self.connected.wait_until_ready(TOPIC, topic, seconds=120)
            await self.connected.wait_until_ready(QUEUE, topic, seconds=120)
            found = await kafka_side.read_topic(topic)
            assert found is not None
            assert found.config["retention.ms"].value == str(int(hours) * 3_600_000)
            assert self.identities.get(topic, found.id) == found.id, "made twice"
            assert await rabbit_side.get_queue(topic) is not None
        for topic in self.deleted:
            await self.connected.wait_until_gone(TOPIC, topic, seconds=60)
            await self.connected.wait_until_gone(QUEUE, topic, seconds=60)


async def test_killed_at_random_a_hundred_times_it_ends_where_the_specs_are(
    connected: Namespace, kafka_side: SideKafka, rabbit_side: SideRabbit, name: str
) -> None:
    chance = random.Random(11)
    running = OperatorProcess(connected.name, "--sweep", "2", "--lease", "3")
    topics = ChangingTopics(connected, name, chance)
    changing = asyncio.create_task(topics.run())
    tasks: list[asyncio.Task[None]] = [changing]
    try:
        for number in range(KILLS):
            leading = running.read_log().count('"leading"')
            await running.start()
            if number % 5:  # else: somewhere while it starts
                await wait_until(partial(_leads, running, leading), seconds=120)
            await asyncio.sleep(chance.uniform(0.0, 3.0))
            await running.kill()
        topics.stop.set()
        await changing
        # One that loses its Lease, as with an API server that says nothing for seconds, ends by design.
        tasks.append(asyncio.create_task(running.keep_running()))
        try:
            await topics.check_ends(kafka_side, rabbit_side)
        except AssertionError as error:
            raise AssertionError(f"{error}; the operator's log ends:\n{running.read_log()[-3000:]}") from error
    finally:
        topics.stop.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await running.stop()
