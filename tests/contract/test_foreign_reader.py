"""A consumer that knows only the published page and schemas reads what the shop sends."""

import ast
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, TopicPartition

from caravan.clock import new_id, utc_now
from caravan.money import Money
from caravan.outbox import count_pending
from caravan.runtime import Backends
from services.orders.messages import ORDER_CREATED, Address
from services.orders.model import OfferedProduct, create_order
from tests.contract.record import CORPUS
from tests.support.backends import Broker
from tests.support.kafka_tools import build_tool_command
from tests.support.shop import Shop, run_services, wait_until

PROGRAM = Path(__file__).parent / "foreign_reader.py"


def test_it_imports_nothing_of_ours() -> None:
    tree = ast.parse(PROGRAM.read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) == {"jsonschema"}


async def run_foreign_reader(
    topic: str, *consumer: str, count: int = 0, seconds: int = 20
) -> tuple[int, dict[str, Any]]:
    """Its exit status and what it printed."""
    options = ("--count", str(count), "--seconds", str(seconds), "--", *consumer)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), topic, *options, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, json.loads(out)


def make_printer_command(*lines: bytes) -> tuple[str, ...]:
    """In the place of Kafka's console consumer: a program that prints these lines whatever it is asked."""
    return (sys.executable, "-c", f"import sys; sys.stdout.buffer.writelines(line + bytes([10]) for line in {lines!r})")


async def test_recorded_events_are_as_published() -> None:
    lines = (CORPUS / "orders.OrderCreated.v2.jsonl").read_bytes().splitlines()
    status, report = await run_foreign_reader("order-created", *make_printer_command(*lines), count=len(lines))
    assert (status, report["read"], report["faults"]) == (0, len(lines), [])


async def test_what_is_not_as_published_is_named() -> None:
    line = (CORPUS / "orders.OrderCreated.v2.jsonl").read_bytes().splitlines()[0]
    event = orjson.loads(line)
    without, wrong, newer = (orjson.loads(line) for _ in range(3))
    del without["data"]["customer_name"]
    wrong["data"]["total"]["amount"] = "19.99"
    newer["dataversion"] = 7
    status, report = await run_foreign_reader(
        "order-created", *make_printer_command(*map(orjson.dumps, (without, wrong, newer)), b"{", b'{"type": "x"}')
    )
    assert status == 1
    faults = "\n".join(report["faults"])
    assert f"{event['subject']}: orders.OrderCreated: data: 'customer_name' is a required property" in faults
    assert "data.total.amount: '19.99' is not of type 'integer'" in faults
    assert "no schema is published for orders.OrderCreated version 7" in faults
    assert faults.count("no envelope") == 2


async def test_fewer_events_than_there_should_be_are_a_failure() -> None:
    assert (await run_foreign_reader("order-created", *make_printer_command(), count=1))[0] == 1


async def test_what_orders_publishes_on_kafka_is_read_with_kafkas_own_tools(
    kafka: Broker, rabbitmq: Broker, backends: Backends
) -> None:
    consumer = build_tool_command("kafka-console-consumer", kafka.url)
    where: dict[str, Any] = {
        "kafka_url": kafka.url,
        "rabbitmq_url": rabbitmq.url,
        "rabbitmq_management_url": rabbitmq.management_url,
    }
    async with run_services(backends, "orders", **where) as shop:
        offered = OfferedProduct("MUG", "Enamel mug", "kitchen", Money(amount=1250, currency="GBP"))
        address = Address(name="Ada", street="12 St James's Square", city="London", postcode="SW1Y 4JH", country="GB")
        keys = set()
        for number in range(1, 101):
            order = create_order(
                new_id(), new_id(), "ada@example.com", "Ada Lovelace", [(offered, number)], address, "card", utc_now()
            )
            await shop.send_message("orders", ORDER_CREATED, order, key=order.order_id)
            keys.add(str(order.order_id))
        await wait_until(lambda: _is_outbox_empty(shop))
    report: dict[str, Any] = {"keys": []}
    for _ in range(3):  # another shop's orders, published meanwhile, may come in the place of ours
        if not keys <= set(report["keys"]):
            count = await asyncio.to_thread(count_messages, kafka.url, "order-created")
            status, report = await run_foreign_reader(
                "order-created", *consumer, "--group", f"stranger-{new_id()}", count=count, seconds=30
            )
            assert (status, report["faults"]) == (0, [])
    assert keys <= set(report["keys"])


def count_messages(servers: str, topic: str) -> int:
    """What the reader would otherwise have to wait for in vain at the end."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": f"count-{new_id()}"})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        bounds = [consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10) for number in partitions]
        return sum(high - low for low, high in bounds)
    finally:
        consumer.close()


async def _is_outbox_empty(shop: Shop) -> bool:
    return await count_pending(shop.get_database("orders")) == 0
