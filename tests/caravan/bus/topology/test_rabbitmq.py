"""Queues on a real RabbitMQ: made once, drift found and repaired by policy, the rest left to a person; and what its
management API may answer.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aio_pika
import httpx2
import pytest

from caravan.bus import Subscription
from caravan.bus.topology import (
    BrokerObject,
    BrokerUnavailable,
    ObjectRef,
    RabbitExchange,
    Topology,
    TopologyError,
    build_topology,
)
from caravan.bus.topology.drift import Difference, DriftKind, find_differences
from caravan.bus.topology.rabbitmq import apply_topology, find_missing, observe_objects
from caravan.messages import RetryPolicy
from tests.caravan.bus.topology.sample import build_sample_topology
from tests.contract.bus_messages import make_queue
from tests.services.gateway.stand_ins import listening
from tests.support.backends import Broker


async def find_rabbitmq_drift(vhost: Broker, desired: Topology) -> list[Difference]:
    observed: dict[ObjectRef, BrokerObject] = await observe_objects(vhost.management_url, vhost.url)
    return find_differences(desired.rabbitmq_objects, observed)


async def test_what_is_applied_does_not_differ_and_applying_again_does_nothing(vhost: Broker) -> None:
    _, _, desired = build_sample_topology()
    assert set(await find_missing(vhost.url, desired)) == {
        ref for ref in desired.rabbitmq_objects if ref.kind in ("queue", "exchange")
    }
    result = await apply_topology(vhost.management_url, vhost.url, desired)
    assert (len(result.changes), result.unresolved) == (len(desired.rabbitmq_objects), ())
    assert await find_rabbitmq_drift(vhost, desired) == []
    assert await find_missing(vhost.url, desired) == []
    assert (await apply_topology(vhost.management_url, vhost.url, desired)).changes == ()


async def test_each_kind_of_drift_on_rabbitmq_is_found_and_repaired(vhost: Broker) -> None:
    _, readers, desired = build_sample_topology()
    await apply_topology(vhost.management_url, vhost.url, desired)
    work_queue, bound = desired.queues[0], readers[2].name
    async with httpx2.AsyncClient(base_url=vhost.management_url) as management:
        vhost_name = httpx2.URL(vhost.url).path.strip("/")
        changed = {"pattern": "^nothing$", "definition": {"max-length": 5}, "priority": 1, "apply-to": "queues"}
        (
            await management.put(f"/api/policies/{vhost_name}/{work_queue.limits_policy.name}", json=changed)
        ).raise_for_status()
        (await management.delete(f"/api/queues/{vhost_name}/{bound}")).raise_for_status()
        (
            await management.put(
                f"/api/queues/{vhost_name}/stranger", json={"durable": True, "arguments": {"x-queue-type": "quorum"}}
            )
        ).raise_for_status()
    found = {(difference.kind, difference.object_ref) for difference in await find_rabbitmq_drift(vhost, desired)}
    assert found >= {
        (DriftKind.DIFFERENT, work_queue.limits_policy.object_ref),
        (DriftKind.MISSING, ObjectRef("queue", bound)),
        (DriftKind.FOREIGN, ObjectRef("queue", "stranger")),
    }
    assert (DriftKind.MISSING, desired.bindings[0].object_ref) in found, "a binding goes with its queue"
    assert (await apply_topology(vhost.management_url, vhost.url, desired)).unresolved == ()
    assert [str(difference) for difference in await find_rabbitmq_drift(vhost, desired)] == ["foreign: queue stranger"]


async def test_an_argument_that_beats_the_policy_is_drift_that_only_a_person_removes(vhost: Broker) -> None:
    _, _, desired = build_sample_topology()
    work_queue = desired.queues[0]
    async with httpx2.AsyncClient(base_url=vhost.management_url) as management:
        vhost_name = httpx2.URL(vhost.url).path.strip("/")
        body = {"durable": True, "arguments": {**work_queue.arguments, "x-max-length": 7}}
        (await management.put(f"/api/queues/{vhost_name}/{work_queue.name}", json=body)).raise_for_status()
    unresolved = (await apply_topology(vhost.management_url, vhost.url, desired)).unresolved
    assert unresolved == (
        f"different: queue {work_queue.name}: x-max-length is 7, declared absent: drain it, delete it, and apply again",
    )


async def test_a_retry_tier_brings_back_and_a_full_queue_refuses_by_policy_alone(vhost: Broker) -> None:
    bounded = replace(make_queue(), max_length=2, retry=RetryPolicy(delays=(0.05,)))
    desired = build_topology([bounded], [Subscription("test", bounded)])
    await apply_topology(vhost.management_url, vhost.url, desired)
    async with await aio_pika.connect(vhost.url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.default_exchange.publish(aio_pika.Message(b"back"), f"{bounded.name}.retry.1")
        work_queue = await channel.get_queue(bounded.name)
        arrived: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        tag = await work_queue.consume(arrived.put)
        message = await asyncio.wait_for(arrived.get(), 10)
        assert message.body == b"back"
        await message.ack()
        await work_queue.cancel(tag)

        async def overfill() -> None:
            for number in range(20):
                await channel.default_exchange.publish(aio_pika.Message(str(number).encode()), bounded.name)

        with pytest.raises(aio_pika.exceptions.DeliveryError):
            await overfill()


@dataclass
class ManagementApi:
    """As RabbitMQ has it: lists in pages, and everything refused with `status` where that is set."""

    names: list[str] = field(default_factory=list)
    status: int = 200
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path, Authorization header."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        path = scope["raw_path"].decode().partition("?")[0]
        self.requests.append((scope["method"], path, headers.get(b"authorization", b"").decode()))
        query = dict(part.split("=") for part in scope["query_string"].decode().split("&") if part)
        content: Any = []
        if "page" in query:
            size = 2
            names = self.names if path.startswith("/api/exchanges") else []
            start = (int(query["page"]) - 1) * size
            items = [{"name": name, "type": "topic"} for name in names[start : start + size]]
            content = {"items": items, "page_count": -(-len(names) // size)}
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})


@asynccontextmanager
async def serve_management(api: ManagementApi) -> AsyncIterator[str]:
    async with listening(api) as url:
        yield url.replace("http://", "http://somebody:a-password@")


async def test_every_page_is_read_and_the_brokers_own_exchanges_are_left_out() -> None:
    api = ManagementApi(["", "amq.topic", "a", "b", "c"])
    async with serve_management(api) as url:
        observed = await observe_objects(url, "amqp://localhost/shop")
    assert set(observed) == {ObjectRef("exchange", name) for name in "abc"}


async def test_names_are_quoted_in_paths_and_the_default_virtual_host_is_a_slash() -> None:
    api = ManagementApi()
    async with serve_management(api) as url:
        await apply_topology(url, "amqp://localhost", Topology(exchanges=(RabbitExchange("a/b?c"),)))
    assert [path for method, path, _ in api.requests if method == "PUT"] == ["/api/exchanges/%2F/a%2Fb%3Fc"]


async def test_the_user_is_the_management_urls_own_else_that_of_amqp() -> None:
    api = ManagementApi()
    async with listening(api) as url:
        await observe_objects(url.replace("http://", "http://somebody:a-password@"), "amqp://other:word@localhost")
        assert {header for _, _, header in api.requests} == {httpx2.BasicAuth("somebody", "a-password")._auth_header}
        api.requests.clear()
        await observe_objects(url, "amqp://other:word@localhost")
        assert {header for _, _, header in api.requests} == {httpx2.BasicAuth("other", "word")._auth_header}


@pytest.mark.parametrize(
    ("status", "message"), [(401, "refuses this user: it needs the tag `management`"), (400, r"GET api/\w+/%2F.*: 400")]
)
async def test_a_refusal_says_what_to_do_and_not_the_password(status: int, message: str) -> None:
    async with serve_management(ManagementApi(status=status)) as url:
        with pytest.raises(TopologyError, match=message) as refused:
            await observe_objects(url, "amqp://localhost")
    assert "a-password" not in str(refused.value)


async def test_an_unavailable_management_api_is_named_without_its_password() -> None:
    with pytest.raises(
        BrokerUnavailable, match=r"management API at http://127.0.0.1:1 .*CARAVAN_RABBITMQ_MANAGEMENT_URL"
    ) as unavailable:
        await observe_objects("http://caravan:a-password@127.0.0.1:1", "amqp://localhost")
    assert "a-password" not in str(unavailable.value)
