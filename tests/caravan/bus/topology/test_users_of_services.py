"""Each service is a user of its own in RabbitMQ: its rights fit what it declares, and open no other service's queue."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import aio_pika
import httpx2
import pytest
import yaml
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import ProbableAuthenticationError
from aiormq.exceptions import ChannelAccessRefused
from yarl import URL

from caravan.bus.rabbitmq import RabbitBus
from caravan.bus.topology import get_dead_letter_queue, get_retry_queue
from caravan.bus.topology.rabbitmq import apply_topology
from caravan.clock import new_id
from caravan.messages import Exchange, OutgoingMessage, Topic
from caravan.runtime import list_subscriptions
from cli.topology import build_declared_topology
from services.payments.messages import CAPTURE_PAYMENT
from services.processing.messages import CANCEL_ORDER
from services.registry import SERVICES, load_services
from tests.charts.conftest import ROOT, of_kind, rendered
from tests.support.backends import Broker


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What compose's `secrets` gives RabbitMQ to start with, and each service as its URL."""
    place = tmp_path_factory.mktemp("secrets")
    script = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["secrets"]["command"][-1].replace(
        "$$", "$"
    )
    for folder in ("kept", "for"):
        script = script.replace(f"/{folder}", f"{place}/{folder}")
        (place / folder).mkdir()
    subprocess.run(["sh", "-euc", script], check=True, cwd=place)
    urls = {name: URL((place / "for" / name / "CARAVAN_RABBITMQ_URL").read_text()) for name in SERVICES}
    return {"urls": urls, **json.loads((place / "for/rabbitmq/definitions.json").read_text())}


def rights(definitions: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {right.pop("user"): right for right in map(dict, definitions["permissions"])}


def test_compose_and_the_chart_give_the_same_rights(composed: dict[str, Any]) -> None:
    of_chart = json.loads(of_kind(rendered("backends"), "Secret")["caravan-backends"]["stringData"]["definitions.json"])
    assert rights(of_chart) == rights(composed)


def test_each_logs_in_as_itself_and_the_user_of_all_services_is_shut(composed: dict[str, Any]) -> None:
    users = {user["name"]: user for user in composed["users"]}
    assert users.keys() == {"caravan", "shop", *SERVICES} == rights(composed).keys()
    assert users["shop"] == {"name": "shop", "password_hash": "", "tags": []}
    passwords = {users[name]["password"] for name in ("caravan", *SERVICES)}
    assert len(passwords) == 1 + len(SERVICES)
    for name in SERVICES:
        assert (composed["urls"][name].user, composed["urls"][name].password) == (
            name,
            users[name]["password"],
        )
        assert not users[name]["tags"]


def test_rights_fit_what_is_declared(composed: dict[str, Any]) -> None:
    given = rights(composed)
    for queue in build_declared_topology(1).queues:
        assert [name for name in SERVICES if re.search(given[name]["read"], queue.name)] == [
            queue.name.partition(".")[0]
        ]
    for service in load_services():
        for channel in service.channels:
            if isinstance(channel, Exchange):
                assert [name for name in SERVICES if re.search(given[name]["write"], channel.name)] == [service.name]
    assert all(re.search(given[name]["write"], "amq.default") and given[name]["configure"] == "^$" for name in SERVICES)


@pytest.fixture
async def shop(rabbitmq: Broker, composed: dict[str, Any]) -> AsyncIterator[dict[str, str]]:
    """The URL of each user, on a virtual host of its own with the topology of all services."""
    vhost, run = f"test-{new_id()}", new_id()
    async with httpx2.AsyncClient(base_url=rabbitmq.management_url, timeout=30) as management:
        (await management.put(f"/api/vhosts/{vhost}")).raise_for_status()
        users = [user | {"name": f"{user['name']}-{run}"} for user in composed["users"]]
        permissions = [right | {"user": f"{right['user']}-{run}", "vhost": vhost} for right in composed["permissions"]]
        (
            await management.post("/api/definitions", json={"users": users, "permissions": permissions})
        ).raise_for_status()
        admin = URL(rabbitmq.url).with_path(f"/{vhost}")
        await apply_topology(rabbitmq.management_url, str(admin), build_declared_topology(1))
        yield {
            name: str(
                admin.with_user(f"{name}-{run}").with_password(composed["urls"].get(name, URL("amqp://x:x@x")).password)
            )
            for name in (*SERVICES, "shop")
        }
        await management.delete(f"/api/vhosts/{vhost}")
        for user in users:
            await management.delete(f"/api/users/{user['name']}")


async def test_a_service_can_do_what_it_does_as_its_user(shop: dict[str, str]) -> None:
    """Asks whether its channels are there, sends commands and announces, reads its queues, keeps copies in the retry
    tiers and its dead letters.
    """
    tried: list[str] = []
    for service in load_services():
        bus = RabbitBus(shop[service.name], "test")
        await bus.start()
        own = [reader for reader in list_subscriptions([service]) if not isinstance(reader.source, Topic)]
        channels = [channel for channel in service.channels if not isinstance(channel, Topic)]
        assert await bus.find_missing(channels, own) == []
        announced = [
            OutgoingMessage("exchange", channel.name, next(iter(channel.routes)), "k", new_id(), b"{}")
            for channel in channels
            if isinstance(channel, Exchange)
        ]
        commands = [
            OutgoingMessage("queue", queue.name, "", "k", new_id(), b"{}") for queue in (CAPTURE_PAYMENT, CANCEL_ORDER)
        ]
        await bus.publish([*announced, *commands])
        for reader in own:
            queues = [
                *(get_retry_queue(reader.name, tier) for tier in range(1, reader.retry.max_attempts)),
                get_dead_letter_queue(reader.name),
            ]
            await bus.publish(
                [OutgoingMessage("queue", name, "", "k", new_id(), b"{}") for name in (reader.name, *queues)]
            )
            (dead_letter,) = await bus.list_dead_letters([reader])
            assert await bus.redrive([dead_letter]) == 1
            assert await first_of(shop[service.name], reader.name) == b"{}"
            tried.append(reader.name)
        await bus.measure_lag(own)
        await bus.close()
    assert set(tried) == {
        queue.name
        for queue in build_declared_topology(1).queues
        if ".retry." not in queue.name and not queue.name.endswith(".dlq")
    }


async def first_of(url: str, queue: str) -> bytes:
    arrived: asyncio.Queue[bytes] = asyncio.Queue()
    async with asyncio.timeout(20), aio_pika.Connection(URL(url)) as connection:
        await connection.connect()
        await read(await connection.channel(), queue, lambda message: arrived.put(message.body))
        return await arrived.get()


async def read(
    channel: AbstractChannel, queue: str, take: Callable[[AbstractIncomingMessage], Awaitable[None]]
) -> None:
    await (await channel.get_queue(queue, ensure=False)).consume(take)


async def refused(url: str, doing: Callable[[AbstractChannel], Awaitable[Any]]) -> bool:
    async with aio_pika.Connection(URL(url)) as connection:
        await connection.connect()
        try:
            await doing(await connection.channel())
        except ChannelAccessRefused:
            return True
    return False


async def test_a_service_reads_no_queue_of_another_and_makes_and_removes_none(shop: dict[str, str]) -> None:
    for queue in ("payments.capture", "payments.capture.retry.1", "payments.capture.dlq"):
        for name in SERVICES:
            if name != "payments":
                assert await refused(shop[name], partial(read, queue=queue, take=nothing)), (name, queue)
    for url in (shop["payments"], shop["gateway"], shop["orders"]):
        assert await refused(url, lambda channel: channel.declare_queue("payments.mine"))
        assert await refused(url, lambda channel: channel.declare_exchange("payments"))
        assert await refused(url, lambda channel: channel.queue_delete("payments.capture"))
        assert await refused(url, lambda channel: bind(channel, "payments.capture", "orders"))
    assert await refused(shop["payments"], lambda channel: announce(channel, "orders"))
    async with aio_pika.Connection(URL(shop["shop"])) as connection:
        with pytest.raises(ProbableAuthenticationError):
            await connection.connect()


async def nothing(message: AbstractIncomingMessage) -> None: ...


async def bind(channel: AbstractChannel, queue: str, exchange: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).bind(exchange, "order.created")


async def announce(channel: AbstractChannel, exchange: str) -> None:
    await (await channel.get_exchange(exchange, ensure=False)).publish(aio_pika.Message(b"{}"), "order.created")
