"""What goes over the wire to the Kubernetes API: retries, versions, statuses, claims; and that nothing goes out, there
or to a broker, without the Lease.
"""

from typing import Any

import pytest
from caravan_operator.backends.kafka import Kafka
from caravan_operator.backends.kafka_client import KafkaLogin
from caravan_operator.backends.kubernetes import Kubernetes
from caravan_operator.backends.management import RabbitLogin
from caravan_operator.backends.rabbitmq import RabbitMQ
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.lease import LeaseLost
from caravan_operator.controller.resource_writer import ResourceWriter, StaleResource
from caravan_operator.controller.status_writer import StatusWriter
from caravan_operator.reconcile.kafka_topic import CreateTopic, DeleteTopic, Topic
from caravan_operator.reconcile.rabbitmq_call import Call
from caravan_operator.status.conditions import SYNCED, Condition
from caravan_operator.status.reasons import Reason

from tests.operator.api_script import PATH, Script, build_object
from tests.operator.resources import START, make_resource

IN_SYNC = [Condition(SYNCED, True, Reason.IN_SYNC)]


def make_resource_writer(
    kubernetes: Kubernetes, cache: ResourceCache | None = None, fence: Any = lambda: None
) -> ResourceWriter:
    return ResourceWriter(kubernetes, cache or ResourceCache(), fence)


def make_status_writer(kubernetes: Kubernetes, cache: ResourceCache | None = None) -> StatusWriter:
    return StatusWriter(kubernetes, make_resource_writer(kubernetes, cache), lambda: START, "test")


async def test_a_patch_names_the_version_that_was_read(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers(f"PATCH {PATH}/status", (200, build_object()))
    cache = ResourceCache()
    cache.put(make_resource())
    status_writer = make_status_writer(kubernetes, cache)
    written = await status_writer.write_status(make_resource(), IN_SYNC, {"partitions": 3})
    await status_writer.close()
    ((sent, headers),) = server.list_requests(f"PATCH {PATH}/status")
    assert sent["metadata"] == {"resourceVersion": "1", "uid": "uid-shop-orders"}
    assert sent["status"]["partitions"] == 3
    assert headers["Content-Type"] == "application/merge-patch+json"
    assert headers["Authorization"] == "Bearer first"
    assert written.resource_version == "2"
    assert cache.get(written.key) == written


async def test_a_status_that_says_nothing_new_is_not_sent(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers(f"PATCH {PATH}/status", (200, build_object()))
    status_writer = make_status_writer(kubernetes)
    await status_writer.write_status(make_resource(), IN_SYNC, {})
    first = server.list_requests(f"PATCH {PATH}/status")[0][0]["status"]
    await status_writer.write_status(make_resource(status=first), IN_SYNC, {})
    await status_writer.close()
    assert len(server.list_requests(f"PATCH {PATH}/status")) == 1


@pytest.mark.parametrize("status", [404, 409])
async def test_who_comes_too_late_looks_again(server: Script, kubernetes: Kubernetes, status: int) -> None:
    server.set_answers(f"PATCH {PATH}", (status, {}))
    with pytest.raises(StaleResource):
        await make_resource_writer(kubernetes).write_claim(make_resource(), finalizer=True)


async def test_a_claim_and_the_finalizer_are_one_patch(server: Script, kubernetes: Kubernetes) -> None:
    server.set_answers(f"PATCH {PATH}", (200, build_object()))
    await make_resource_writer(kubernetes).write_claim(make_resource(), finalizer=True)
    ((sent, _),) = server.list_requests(f"PATCH {PATH}")
    assert sent["metadata"]["annotations"] == {"messaging.caravan.dev/claim": "uid-shop-orders"}
    assert sent["metadata"]["finalizers"] == ["messaging.caravan.dev/external-object"]


@pytest.fixture
def fence() -> Any:
    def refuse_write() -> None:
        raise LeaseLost("paused for too long")

    return refuse_write


async def test_nothing_is_written_to_kubernetes_without_the_lease(
    server: Script, kubernetes: Kubernetes, fence: Any
) -> None:
    writer = make_resource_writer(kubernetes, fence=fence)
    for attempt in (
        writer.write_claim(make_resource(), finalizer=True),
        StatusWriter(kubernetes, writer, lambda: START, "test").write_status(make_resource(), IN_SYNC, {}),
        writer.set_finalizer(make_resource(), present=True),
    ):
        with pytest.raises(LeaseLost):
            await attempt
    assert server.requests == []


async def test_nothing_is_written_to_kafka_without_the_lease(fence: Any) -> None:
    kafka = Kafka(KafkaLogin({"bootstrap.servers": "127.0.0.1:1"}, ()), {"requestTimeout": "1s"}, fence)
    for action in (CreateTopic(Topic("orders", 1)), DeleteTopic("orders")):
        with pytest.raises(LeaseLost):
            await kafka.apply_actions([(action,)])


async def test_nothing_is_written_to_rabbitmq_without_the_lease(server: Script, fence: Any) -> None:
    rabbit = RabbitMQ(RabbitLogin(server.url, "user", "password", None), {}, fence)
    with pytest.raises(LeaseLost):
        await rabbit.apply_actions(
            [(Call("PUT", "/api/queues/%2F/q", "create"), Call("DELETE", "/api/queues/%2F/q", "delete"))]
        )
    await rabbit.close()
    assert server.requests == []
