"""RabbitMQ's kinds on a real API server and a real RabbitMQ, with the operator as a process."""

from urllib.parse import urlsplit

import pytest
from caravan_operator.commands.rabbitmq_import import import_from_rabbitmq

from tests.operator.cluster.apiserver import Namespace, OperatorProcess
from tests.operator.cluster.brokers import SideRabbit
from tests.operator.cluster.waiting import wait_for_value

REF = {"connectionRef": {"name": "rabbit"}}
QUEUE, EXCHANGE, BINDING, POLICY = "RabbitMQQueue", "RabbitMQExchange", "RabbitMQBinding", "RabbitMQPolicy"


async def test_a_topology_in_any_order_becomes_real(
    operator: OperatorProcess, connected: Namespace, rabbit_side: SideRabbit, name: str
) -> None:
    await connected.create_object(
        BINDING, name, {**REF, "source": f"{name}.x", "destination": name, "routingKey": "order.*"}
    )
    await connected.wait_for_reason(BINDING, name, "DependencyMissing")
    limits = {
        "maxLength": 10,
        "messageTtl": "1m",
        "deadLetterExchange": "",
        "deadLetterRoutingKey": f"{name}.dlq",
        "deliveryLimit": 5,
    }
    await connected.create_object(QUEUE, name, {**REF, "limits": limits, "arguments": {"singleActiveConsumer": True}})
    await connected.create_object(EXCHANGE, f"{name}.x", {**REF, "type": "topic"})
    await connected.create_object(
        POLICY,
        name,
        {**REF, "pattern": f"^{name}[.]x$", "applyTo": "exchanges", "definition": {"alternateExchange": "amq.fanout"}},
    )
    for kind, resource in ((QUEUE, name), (EXCHANGE, f"{name}.x"), (BINDING, name), (POLICY, name)):
        await connected.wait_until_ready(kind, resource)
    queue = await rabbit_side.get_queue(name)
    assert queue["type"] == "quorum"
    assert queue["arguments"] == {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
    }
    assert (await rabbit_side.get_policy(f"caravan.queue.{name}"))["definition"] == {
        "max-length": 10,
        "message-ttl": 60000,
        "dead-letter-exchange": "",
        "dead-letter-routing-key": f"{name}.dlq",
        "delivery-limit": 5,
    }
    assert await rabbit_side.list_bindings(f"{name}.x", name) == ["order.*"]
    assert (await rabbit_side.get_policy(name))["apply-to"] == "exchanges"


async def test_a_queue_that_was_deleted_comes_back_with_its_bindings(
    operator: OperatorProcess, connected: Namespace, rabbit_side: SideRabbit, name: str
) -> None:
    await connected.create_object(EXCHANGE, name, {**REF, "type": "topic"})
    await connected.create_object(QUEUE, name, {**REF, "limits": {"maxLength": 10}})
    await connected.create_object(BINDING, name, {**REF, "source": name, "destination": name, "routingKey": "a"})
    await connected.wait_until_ready(BINDING, name)
    await rabbit_side.call_api("DELETE", "queues", "/", name)
    await wait_for_value(lambda: rabbit_side.list_bindings(name, name), ["a"])
    await rabbit_side.call_api("DELETE", "bindings", "/", "e", name, "q", name, "a")
    await wait_for_value(lambda: rabbit_side.list_bindings(name, name), ["a"])
    await connected.wait_until_ready(QUEUE, name)


async def test_limits_change_and_drift_of_their_policy_is_put_back(
    operator: OperatorProcess, connected: Namespace, rabbit_side: SideRabbit, name: str
) -> None:
    await connected.create_object(QUEUE, name, {**REF, "limits": {"maxLength": 10}})
    await connected.wait_until_ready(QUEUE, name)
    await connected.change_spec(QUEUE, name, {"limits": {"maxLength": 20}})
    await wait_for_value(lambda: _get_definition(rabbit_side, name), {"max-length": 20})
    body = {"pattern": ".*", "definition": {"max-length": 1}, "priority": 1, "apply-to": "all"}
    await rabbit_side.call_api("PUT", "policies", "/", f"caravan.queue.{name}", body=body)
    await wait_for_value(lambda: _get_definition(rabbit_side, name), {"max-length": 20})
    await connected.change_spec(QUEUE, name, {"limits": None})
    await wait_for_value(lambda: _get_definition(rabbit_side, name), None)


async def _get_definition(rabbit_side: SideRabbit, name: str) -> object:
    policy = await rabbit_side.get_policy(f"caravan.queue.{name}")
    return policy and policy["definition"]


async def test_a_policy_of_somebody_else_that_wins_is_told(
    operator: OperatorProcess, connected: Namespace, rabbit_side: SideRabbit, name: str
) -> None:
    await connected.create_object(QUEUE, name, {**REF, "limits": {"maxLength": 10}})
    await connected.wait_until_ready(QUEUE, name)
    body = {"pattern": f"^{name}$", "definition": {"max-length": 1}, "priority": 9000, "apply-to": "queues"}
    await rabbit_side.call_api("PUT", "policies", "/", f"theirs-{name}", body=body)
    found = await connected.wait_for_reason(QUEUE, name, "PolicyConflict")
    assert found["status"]["policyConflict"] == f"theirs-{name}"
    await rabbit_side.call_api("DELETE", "policies", "/", f"theirs-{name}")
    await connected.wait_until_ready(QUEUE, name)


async def test_an_immutable_difference_is_told_or_repaired_when_empty(
    operator: OperatorProcess, connected: Namespace, rabbit_side: SideRabbit, name: str
) -> None:
    await rabbit_side.call_api(
        "PUT", "queues", "/", name, body={"durable": True, "arguments": {"x-queue-type": "classic"}}
    )
    await connected.create_object(QUEUE, name, {**REF, "adoptionPolicy": "Adopt"})
    await connected.wait_for_reason(QUEUE, name, "ImmutableDrift")
    assert "type is classic, not quorum" in (await connected.get_condition(QUEUE, name))["message"]
    await rabbit_side.send_message(name)
    await connected.change_spec(QUEUE, name, {"onImmutableDrift": "RecreateIfEmpty"})
    await connected.wait_for_reason(QUEUE, name, "ImmutableDrift")
    assert (await rabbit_side.get_queue(name))["type"] == "classic", "a message was in it"
    await rabbit_side.call_api("DELETE", "queues", "/", name, "contents")
    await connected.wait_until_ready(QUEUE, name, seconds=40)
    assert (await rabbit_side.get_queue(name))["type"] == "quorum"


@pytest.mark.parametrize(
    ("policy", "message", "stays"), [("Retain", True, True), ("Delete", True, False), ("DeleteIfUnused", False, False)]
)
async def test_deletion(
    operator: OperatorProcess,
    connected: Namespace,
    rabbit_side: SideRabbit,
    name: str,
    policy: str,
    message: bool,
    stays: bool,
) -> None:
    await connected.create_object(QUEUE, name, {**REF, "deletionPolicy": policy, "limits": {"maxLength": 10}})
    await connected.wait_until_ready(QUEUE, name)
    if message:
        await rabbit_side.send_message(name)
    await connected.delete_object(QUEUE, name)
    await connected.wait_until_gone(QUEUE, name, seconds=40)
    assert (await rabbit_side.get_queue(name) is not None) == stays
    assert (await _get_definition(rabbit_side, name) is not None) == stays


async def test_everything_at_once_goes_in_the_right_order(
    operator: OperatorProcess, connected: Namespace, rabbit_side: SideRabbit, name: str
) -> None:
    specs = {
        EXCHANGE: {**REF, "type": "topic", "deletionPolicy": "DeleteIfUnused"},
        QUEUE: {**REF, "deletionPolicy": "Delete"},
        BINDING: {**REF, "source": name, "destination": name, "deletionPolicy": "Delete"},
        POLICY: {**REF, "pattern": f"^{name}$", "definition": {"maxLength": 1}, "deletionPolicy": "Delete"},
    }
    for kind, spec in specs.items():
        await connected.create_object(kind, name, spec)
    for kind in specs:
        await connected.wait_until_ready(kind, name)
    for kind in specs:
        await connected.delete_object(kind, name)
    for kind in specs:
        await connected.wait_until_gone(kind, name, seconds=40)
    assert await rabbit_side.get_queue(name) is None
    assert await rabbit_side.get_policy(name) is None
    assert await rabbit_side.call_api("GET", "exchanges", "/", name) is None


async def test_plan_and_report_change_nothing(
    operator: OperatorProcess, connected: Namespace, rabbit_side: SideRabbit, name: str
) -> None:
    await connected.create_object(QUEUE, name, {**REF, "mode": "Plan"})
    assert (await connected.wait_for_reason(QUEUE, name, "PlanPending"))["status"]["plan"] == [
        f"create quorum queue {name}"
    ]
    assert await rabbit_side.get_queue(name) is None
    await connected.create_object(
        POLICY, name, {**REF, "driftPolicy": "Report", "pattern": "^none$", "definition": {"maxLength": 1}}
    )
    await connected.wait_until_ready(POLICY, name)
    await rabbit_side.call_api("DELETE", "policies", "/", name)
    found = await connected.wait_for_reason(POLICY, name, "DriftReported")
    assert found["status"]["drift"] == [f"create policy {name}"]
    assert await rabbit_side.get_policy(name) is None


async def test_an_equal_queue_is_adopted_and_a_virtual_host_must_be_allowed(
    operator: OperatorProcess, connected: Namespace, rabbit_side: SideRabbit, name: str
) -> None:
    await rabbit_side.call_api(
        "PUT", "queues", "/", name, body={"durable": True, "arguments": {"x-queue-type": "quorum"}}
    )
    await connected.create_object(QUEUE, name, REF)
    assert (await connected.wait_until_ready(QUEUE, name))["status"]["origin"] == "Adopted"
    await connected.change_spec("RabbitMQConnection", "rabbit", {"vhosts": ["shop"]})
    await connected.wait_for_reason(QUEUE, name, "VhostNotAllowed")
    await connected.change_spec("RabbitMQConnection", "rabbit", {"vhosts": None})
    await connected.wait_until_ready(QUEUE, name)


async def test_an_import_adopts_what_is_there_unchanged(
    operator: OperatorProcess, connected: Namespace, rabbit_side: SideRabbit, name: str
) -> None:
    await rabbit_side.call_api("PUT", "exchanges", "/", name, body={"type": "topic", "durable": True})
    arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True}
    await rabbit_side.call_api("PUT", "queues", "/", name, body={"durable": True, "arguments": arguments})
    await rabbit_side.call_api(
        "PUT", "queues", "/", f"{name}-limited", body={"durable": True, "arguments": {**arguments, "x-max-length": 5}}
    )
    await rabbit_side.call_api(
        "POST", "bindings", "/", "e", name, "q", name, body={"routing_key": "a.*", "arguments": {}}
    )
    policy = {
        "pattern": f"^{name}$",
        "definition": {"message-ttl": 90000, "max-in-memory-length": 1},
        "priority": 5,
        "apply-to": "queues",
    }
    await rabbit_side.call_api("PUT", "policies", "/", name, body=policy)
    url = urlsplit(rabbit_side.url)
    address = f"http://{url.hostname}:{url.port}"
    documents, skipped = await import_from_rabbitmq(
        address, "rabbit", "/", f"^{name}", url.username or "", url.password or ""
    )
    assert [line.partition(":")[0] for line in skipped] == [f"queue {name}-limited"]
    assert len(documents) == 4
    for document in documents:
        await connected.create_object(document["kind"], document["metadata"]["name"], document["spec"])
    for document in documents:
        found = await connected.wait_until_ready(document["kind"], document["metadata"]["name"])
        assert found["status"]["origin"] == "Adopted"
    assert (await rabbit_side.get_policy(name))["definition"] == policy["definition"]
