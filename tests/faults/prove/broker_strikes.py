"""The strikes on Kafka and RabbitMQ, and on the messages that they carry."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx2

from caravan.bus.brokers import BrokerBus
from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.rabbitmq import RabbitBus
from caravan.messages import Topic
from caravan.runtime import list_subscriptions
from services.registry import load_services
from tests.faults.prove.broker_messages import (
    capture_commands,
    count_members,
    publish_commands,
    publish_records,
    read_records,
)
from tests.faults.prove.brokers import Brokers
from tests.faults.prove.bus_strikes import EVIDENCE_SECONDS, REPEATED, Strike, count_refused, see_refused
from tests.faults.prove.plan import PlannedFault
from tests.faults.prove.shop import ProvenShop
from tests.faults.prove.small_disk import fill_disk, free_disk
from tests.faults.prove.wires import BROKEN, POISON
from tests.support.shop import wait_until

GROUP_SECONDS = 60.0
"""A member that goes without a word is waited for by the group so long, at most."""
FULL_AT = 3
"""Messages that a full queue holds."""
ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "0.00001"), ("set_vm_memory_high_watermark", "0.4")),
    "disk": (("set_disk_free_limit", "900000GB"), ("set_disk_free_limit", "50MB")),
}
"""What raises RabbitMQ's alarm, and what ends it."""


class BrokerStrikes:
    def __init__(self, shop: ProvenShop, brokers: Brokers) -> None:
        self._shop = shop
        self._brokers = brokers
        self.by_kind: dict[str, Strike] = {
            "kill kafka": self._kill,
            "freeze kafka": self._freeze,
            "kill rabbitmq": self._kill,
            "freeze rabbitmq": self._freeze,
            "rebalance": self._rebalance,
            "repeated deliveries": self._repeat,
            "reordered deliveries": self._repeat,
            "poison": self._poison,
            "queue full": self._fill_queue,
            "rabbitmq out of memory": self._raise_alarm,
            "rabbitmq disk full": self._raise_alarm,
            "kafka disk full": self._fill_disk,
        }

    async def _last(self, fault: PlannedFault) -> None:
        """The length of the fault; not a wait for something."""
        await asyncio.sleep(fault.seconds)

    async def _kill(self, fault: PlannedFault) -> str:
        node = self._brokers.find(fault.target)
        node.send_signal(signal.SIGKILL)
        code = await node.wait_until_ended(EVIDENCE_SECONDS)
        await self._last(fault)
        return f"exit {code}, {await self._start_again(fault.target)}"

    async def _start_again(self, name: str) -> str:
        began = time.monotonic()
        await self._brokers.find(name).start()
        return f"serves again {time.monotonic() - began:.1f} s after its start"

    async def _freeze(self, fault: PlannedFault) -> str:
        stopped = await self._brokers.find(fault.target).freeze(fault.seconds)
        return f"{stopped} processes stopped" if stopped else ""

    async def _rebalance(self, fault: PlannedFault) -> str:
        groups = [
            subscription.name
            for service in load_services()
            if service.name == fault.target
            for subscription in list_subscriptions([service])
            if isinstance(subscription.source, Topic)
        ]

        async def has_joined() -> int:
            counts = await count_members(self._brokers.kafka_url, groups)
            return sum(count >= 2 for count in counts)

        second = await self._shop.launch(fault.target, f"{fault.target}-second", CARAVAN_PORT="0")
        try:
            joined = await wait_until(has_joined, seconds=GROUP_SECONDS, every=0.5)
            await self._last(fault)
        finally:
            second.terminate()
            await asyncio.wait_for(second.wait(), GROUP_SECONDS)
        return f"a second member in {joined} of {len(groups)} groups, exit {second.returncode}"

    async def _repeat(self, fault: PlannedFault) -> str:
        chance = random.Random(fault.number)
        commands = await capture_commands(self._brokers)
        records = await read_records(self._brokers.kafka_url, REPEATED)
        if fault.kind == "reordered deliveries":
            chance.shuffle(records)
            chance.shuffle(commands)
        refused = await count_refused(self._shop.backends)
        await publish_records(self._brokers.kafka_url, records)
        await publish_commands(self._brokers, commands)
        return (
            f"{len(records)} messages of topics and {len(commands)} commands again, "
            f"{await see_refused(self._shop.backends, refused)}"
        )

    async def _poison(self, fault: PlannedFault) -> str:
        key = f"{POISON}{fault.number}"
        subscriptions = list_subscriptions(load_services())
        topics = {each.channel for each in subscriptions if isinstance(each.source, Topic)}
        queues = [each.name for each in subscriptions if not isinstance(each.source, Topic)]
        await publish_records(self._brokers.kafka_url, [(topic, key.encode(), BROKEN, []) for topic in sorted(topics)])
        await publish_commands(self._brokers, [_build_poison(queue, key) for queue in queues])
        async with self._open_bus() as bus:

            async def have_died() -> int:
                dead = await bus.list_dead_letters(subscriptions, key=key, limit=1000)
                assert len(dead) == len(subscriptions), f"{len(dead)} of {len(subscriptions)} have died"
                return len(dead)

            return f"{await wait_until(have_died, seconds=GROUP_SECONDS, every=0.5)} dead letters, one of each reader"

    @asynccontextmanager
    async def _open_bus(self) -> AsyncIterator[BrokerBus]:
        """Beside the proxies."""
        kafka = KafkaBus(KafkaServers(self._brokers.kafka_url), "proof")
        bus = BrokerBus(kafka, RabbitBus(self._brokers.rabbitmq_url, "proof"))
        await bus.start()
        try:
            yield bus
        finally:
            await bus.close()

    async def _fill_queue(self, fault: PlannedFault) -> str:
        """Its reader is stopped, and it holds next to nothing: the senders' outboxes keep the rest."""
        owner = fault.target.partition(".")[0]
        policy = "/api/operator-policies/%2F/proof"
        await self._shop.stop(owner)
        try:
            await self._brokers.ask_rabbitmq(
                "PUT",
                policy,
                {
                    "pattern": f"^{fault.target.replace('.', '[.]')}$",
                    "definition": {"max-length": FULL_AT},
                    "apply-to": "queues",
                },
            )
            offsets = {log: log.stat().st_size for log in self._shop.data.glob("*.log")}

            async def is_refused() -> int:
                return sum(
                    b"channel paused" in line and fault.target.encode() in line
                    for log, offset in offsets.items()
                    for line in log.read_bytes()[offset:].splitlines()
                )

            async def count_held() -> int:
                queue = await self._brokers.ask_rabbitmq("GET", f"/api/queues/%2F/{fault.target}")
                return int(queue.get("messages", 0))  # not there until RabbitMQ has counted them

            await wait_until(is_refused, seconds=GROUP_SECONDS, every=0.5)
            await self._last(fault)
            held = await wait_until(count_held, seconds=EVIDENCE_SECONDS, every=0.5)
            return f"it holds {held}, and refused its senders {await is_refused()} times"
        finally:
            await self._brokers.ask_rabbitmq("DELETE", policy)
            await self._shop.start(owner)

    async def _raise_alarm(self, fault: PlannedFault) -> str:
        """`target`: memory or disk."""
        begin, end = ALARMS[fault.target]

        async def list_blocked() -> list[str]:
            async with httpx2.AsyncClient(base_url=self._brokers.management_url, timeout=20) as management:
                alarms = (await management.get("/api/health/checks/alarms")).json().get("alarms", [])
            assert any(fault.target in each["resource"] for each in alarms), alarms
            connections = await self._brokers.ask_rabbitmq("GET", "/api/connections")
            return [each["name"] for each in connections if each.get("state") in ("blocked", "blocking")]

        await self._brokers.control_rabbitmq(*begin)
        try:
            blocked = await wait_until(list_blocked, seconds=GROUP_SECONDS, every=0.5)
            await self._last(fault)
        finally:
            await self._brokers.control_rabbitmq(*end)
        return f"the alarm for {fault.target} is on, {len(blocked)} connections blocked"

    async def _fill_disk(self, fault: PlannedFault) -> str:
        """A broker with a single disk ends by itself when it can't write: it is started again when there is space."""
        node, disk = self._brokers.kafka, self._brokers.kafka.folder / "logs"
        offset = len(node.read_log().encode())
        fill_disk(disk)
        try:
            with suppress(AssertionError):
                await node.wait_until_ended(GROUP_SECONDS)
            await self._last(fault)
        finally:
            free_disk(disk)
        complaints = node.read_log(offset).count("No space left on device")
        code = node.process.poll() if node.process else None
        if code is None:
            return f"{complaints} writes refused, it ran on" if complaints else ""
        return f"{complaints} writes refused, exit {code}, {await self._start_again('kafka')}"


def _build_poison(queue: str, key: str) -> dict[str, object]:
    properties = {"delivery_mode": 2, "headers": {"x-key": key}, "message_id": key}
    return {"queue": queue, "properties": properties, "body": BROKEN}
