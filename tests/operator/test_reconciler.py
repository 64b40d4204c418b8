"""A pass over resources with brokers and an API server in memory: what it leaves in statuses, Events, metrics and the
queue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from caravan_operator.backends.broker import BrokerUnavailable, Refusal
from caravan_operator.backends.kubernetes import ApiError
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.connection_reconciler import ConnectionReconciler
from caravan_operator.controller.connections import BrokerClient, Connections
from caravan_operator.controller.deletions import Deletions
from caravan_operator.controller.queue import WorkQueue
from caravan_operator.controller.reconciler import Reconciler
from caravan_operator.controller.reporter import Reporter
from caravan_operator.controller.resource_writer import ResourceWriter
from caravan_operator.controller.stages.admit import Admission
from caravan_operator.controller.status_writer import StatusWriter
from caravan_operator.reconcile import parse_desired
from caravan_operator.reconcile.diff import Action
from caravan_operator.reconcile.kafka_topic import DeleteTopic
from caravan_operator.resources import CLAIM_ANNOTATION, FINALIZER, PAUSED_ANNOTATION
from caravan_operator.resources.names import UnusableSpec
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.conditions import ACCEPTED, CONNECTION_READY, DRIFTED, READY, SYNCED
from caravan_operator.status.reasons import Reason
from prometheus_client import REGISTRY

from tests.operator.brokers_in_memory import KafkaInMemory, RabbitInMemory
from tests.operator.resources import START, make_resource


class ApiInMemory:
    """Keeps what the operator writes; `errors` are answered once each, in their order."""

    def __init__(self) -> None:
        self.objects: dict[Key, Resource] = {}
        self.patches: list[tuple[str, dict[str, Any]]] = []
        self.events: list[tuple[str, str, str]] = []
        self.errors: list[ApiError] = []

    async def patch(self, resource: Resource, change: Mapping[str, Any], *, status: bool = False) -> Resource:
        if self.errors:
            raise self.errors.pop(0)
        stored = self.objects[resource.key]
        if stored.resource_version != resource.resource_version:
            raise ApiError(409, "changed")
        self.patches.append((resource.key.name, {**change}))
        metadata = change.get("metadata", {})
        merged = {**stored.status, **change.get("status", {})}
        self.objects[resource.key] = replace(
            stored,
            resource_version=str(int(stored.resource_version) + 1),
            annotations={**stored.annotations, **metadata.get("annotations", {})},
            finalizers=tuple(metadata.get("finalizers", stored.finalizers)),
            status={name: value for name, value in merged.items() if value is not None},
        )
        return self.objects[resource.key]

    async def request(self, method: str, path: str, body: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        assert (method, path.rpartition("/")[2]) == ("POST", "events")
        self.events.append((body["involvedObject"]["name"], body["reason"], body["message"]))
        return {}


class BrokerInMemory:
    """`refused` names topics whose changes it refuses, `unreadable` those that it can't be asked for; `frozen`: it
    takes changes and doesn't show them; `remaining_reads` is how many
    are answered before none is.
    """

    def __init__(self, server: KafkaInMemory | RabbitInMemory) -> None:
        self.server = server
        self.refused: set[str] = set()
        self.unreadable: set[str] = set()
        self.is_frozen = False
        self.remaining_reads = 1000
        self.calls: list[str] = []

    async def check_health(self) -> dict[str, Any]:
        self.count_read()
        return {"clusterId": "one", "brokers": 3}

    def count_read(self) -> None:
        if not self.remaining_reads:
            raise BrokerUnavailable(Reason.UNREACHABLE, "no answer")
        self.remaining_reads -= 1

    async def read_states(self, kind: str, desired: Sequence[Any], *, with_usage: bool = False) -> list[Any]:
        self.calls.append("read")
        self.count_read()
        return [
            Refusal("can't be read")
            if getattr(each, "name", "") in self.unreadable
            else self.server.read_state(each.name if isinstance(self.server, KafkaInMemory) else each)
            for each in desired
        ]

    async def apply_actions(
        self, action_lists: Sequence[tuple[Action, ...]], *, dry_run: bool = False
    ) -> list[Refusal | None]:
        if action_lists:
            self.calls.append("dry run" if dry_run else "apply")
        refusals: list[Refusal | None] = []
        for actions in action_lists:
            refused = [action for action in actions if any(name in action.summary for name in self.refused)]
            refusals.append(Refusal("not allowed") if refused else None)
            if not refused and not dry_run and not self.is_frozen:
                self.server.apply_actions(actions)
        return refusals

    async def close(self) -> None: ...


class OneBroker(Connections):
    def __init__(self, broker: BrokerInMemory) -> None:
        super().__init__(None, lambda: None, lambda: 0.0)  # type: ignore[arg-type]  # no API server is asked
        self.broker, self.fingerprint = broker, "hash-1"

    async def open_client(self, connection: Resource) -> BrokerClient:
        return BrokerClient(self.broker, self.fingerprint, ("uid", 1), 0.0)


class NoLabels:
    async def get_labels(self, *_: Any) -> None:
        return None


class Lab:
    """A reconciler and all that it works with; `now` moves by hand."""

    def __init__(self, kind: str = "KafkaConnection") -> None:
        self.now = 0.0
        self.api, self.cache, self.queue = ApiInMemory(), ResourceCache(), WorkQueue(lambda: self.now)
        self.server: Any = KafkaInMemory() if kind == "KafkaConnection" else RabbitInMemory()
        self.broker = BrokerInMemory(self.server)
        self.connections = OneBroker(self.broker)
        api: Any = self.api
        self.writer = ResourceWriter(api, self.cache, lambda: None)
        self.status_writer = StatusWriter(api, self.writer, lambda: START, "test")
        self.reconciler = self.build_reconciler()
        address = {"bootstrapServers": ["k:9092"]} if kind == "KafkaConnection" else {"managementUrl": "http://r"}
        self.connection = make_resource(kind, "broker", **address)
        self.add(self.connection)

    def build_reconciler(self) -> Reconciler:
        labels: Any = NoLabels()
        reporter = Reporter(self.writer, self.status_writer)
        deletions = Deletions(
            self.cache, self.queue, self.connections, labels, reporter, lambda: START, timedelta(minutes=10)
        )
        return Reconciler(
            self.cache,
            self.queue,
            self.connections,
            Admission(self.cache, labels),
            self.writer,
            reporter,
            ConnectionReconciler(self.cache, self.queue, self.connections, reporter),
            deletions,
        )

    def add(self, *resources: Resource) -> None:
        for resource in resources:
            stored = self.api.objects.get(resource.key)
            version = int(stored.resource_version) + 1 if stored else 1
            self.api.objects[resource.key] = written = replace(resource, resource_version=str(version))
            self.cache.put(written)

    async def run(self, *resources: Resource) -> None:
        """One pass, and until its Events are posted."""
        keys = [resource.key for resource in resources]
        self.queue.take_due_keys(self.connection.key, 1000, 1000)
        await self.reconciler.run(self.connection.key, keys)
        self.queue.mark_done([*self.cache_keys()])
        while tasks := self.status_writer._event_tasks:
            await next(iter(tasks))

    def cache_keys(self) -> list[Key]:
        return [resource.key for resource in self.cache]

    def get_status(self, resource: Resource) -> dict[str, Any]:
        return dict(self.api.objects[resource.key].status)

    def get_reason(self, resource: Resource, condition: str) -> tuple[str, str] | None:
        found = self.api.objects[resource.key].get_condition(condition)
        return (found["status"], found["reason"]) if found else None

    def list_queued(self, seconds: float = 1000.0) -> list[str]:
        """Names of what comes again within this time."""
        self.now += seconds
        keys = self.queue.take_due_keys(self.connection.key, 1000, 1000)
        self.queue.mark_done(keys)
        return sorted(key.name for key in keys)


class Counts:
    """How far metrics of one kind have moved since this was made."""

    def __init__(self, kind: str = "KafkaTopic") -> None:
        self.kind = kind
        self.before = self.read_values()

    def read_values(self) -> dict[str, float]:
        samples = {
            **{
                result: ("caravan_operator_reconcile_total", {"result": result})
                for result in ("success", "error", "requeue", "waiting")
            },
            "errors": ("caravan_operator_reconcile_errors_total", {}),
            **{
                outcome: ("caravan_operator_drift_total", {"outcome": outcome}) for outcome in ("corrected", "reported")
            },
            **{
                action: ("caravan_operator_external_writes_total", {"action": action})
                for action in ("CreateTopic", "AddPartitions", "AlterConfig", "Call", "delete")
            },
        }
        return {
            name: REGISTRY.get_sample_value(metric, {"kind": self.kind, **labels}) or 0.0
            for name, (metric, labels) in samples.items()
        }

    def list_changes(self) -> dict[str, float]:
        values = self.read_values()
        return {name: values[name] - self.before[name] for name in values if values[name] != self.before[name]}


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def test_a_new_topic_is_claimed_created_and_reported(lab: Lab) -> None:
    topic, counts = make_resource(deletionPolicy="Delete"), Counts()
    lab.add(topic)
    await lab.run(topic)
    claim, finalizer_and_status = lab.api.patches[0], lab.api.patches[1:]
    assert claim == (
        "orders",
        {"metadata": {"annotations": {CLAIM_ANNOTATION: topic.uid}, "finalizers": [FINALIZER]}},
    )
    assert [[*patch] for _, patch in finalizer_and_status] == [["status"]]
    assert lab.get_reason(topic, READY) == ("True", "Ready")
    status = lab.get_status(topic)
    assert (status["origin"], status["appliedGeneration"], status["connectionHash"]) == ("Created", 1, "hash-1")
    assert [(name, reason) for name, reason, _ in lab.api.events] == [("orders", "Created")]
    assert lab.broker.calls == ["read", "apply", "read"]
    assert counts.list_changes() == {"success": 1.0, "CreateTopic": 1.0}
    assert lab.list_queued() == []


async def test_a_second_pass_writes_nothing(lab: Lab) -> None:
    topic = make_resource()
    lab.add(topic)
    await lab.run(topic)
    patches, events, counts = [*lab.api.patches], [*lab.api.events], Counts()
    await lab.run(topic)
    assert (lab.api.patches, lab.api.events) == (patches, events)
    assert lab.broker.calls == ["read", "apply", "read", "read"]
    assert counts.list_changes() == {"success": 1.0}


async def test_a_finalizer_follows_the_deletion_policy(lab: Lab) -> None:
    topic = make_resource(finalized=True, status={"origin": "Created"}, deletionPolicy="Retain")
    lab.server.topics["orders"] = (3, 1, {})
    lab.add(topic)
    await lab.run(topic)
    assert lab.api.objects[topic.key].finalizers == ()
    assert lab.get_reason(topic, SYNCED) == ("True", "InSync")


async def test_a_changed_setting_is_put_back_with_an_event(lab: Lab) -> None:
    topic = make_resource(config={"retention": "24h"})
    lab.add(topic)
    await lab.run(topic)
    lab.server.topics["orders"][2]["retention.ms"] = "5"
    lab.api.events.clear()
    counts = Counts()
    await lab.run(topic)
    assert lab.server.topics["orders"][2]["retention.ms"] == "86400000"
    assert [(name, reason) for name, reason, _ in lab.api.events] == []
    assert counts.list_changes() == {"success": 1.0, "corrected": 1.0, "AlterConfig": 1.0}


async def test_reported_drift_is_counted_once(lab: Lab) -> None:
    topic = make_resource(config={"retention": "24h"}, driftPolicy="Report")
    lab.add(topic)
    await lab.run(topic)
    lab.server.topics["orders"][2]["retention.ms"] = "5"
    counts = Counts()
    await lab.run(topic)
    await lab.run(topic)
    assert lab.server.topics["orders"][2]["retention.ms"] == "5"
    assert lab.get_reason(topic, DRIFTED) == ("True", "DriftReported")
    assert counts.list_changes() == {"success": 2.0, "reported": 1.0}


async def test_a_plan_says_what_the_broker_would_refuse(lab: Lab) -> None:
    topics = [make_resource(name=name, mode="Plan") for name in ("good", "bad")]
    lab.add(*topics)
    lab.broker.refused = {"bad"}
    counts = Counts()
    await lab.run(*topics)
    assert lab.broker.calls == ["read", "dry run"]
    assert lab.server.topics == {}
    plans = {topic.key.name: lab.get_status(topic)["plan"] for topic in topics}
    assert len(plans["good"]) == 1
    assert plans["bad"][1:] == ["the broker would refuse: not allowed"]
    assert counts.list_changes() == {"success": 2.0}


async def test_a_refused_change_fails_alone(lab: Lab) -> None:
    topics = [make_resource(name=name) for name in ("good", "bad")]
    lab.add(*topics)
    lab.broker.refused = {"bad"}
    counts = Counts()
    await lab.run(*topics)
    assert lab.get_reason(topics[0], SYNCED) == ("True", "InSync")
    assert lab.get_reason(topics[1], SYNCED) == ("False", "BrokerRefused")
    assert counts.list_changes() == {"success": 1.0, "error": 1.0, "requeue": 1.0, "errors": 1.0, "CreateTopic": 1.0}
    assert lab.list_queued() == ["bad"]


async def test_an_unreadable_object_fails_alone(lab: Lab) -> None:
    topics = [make_resource(name=name) for name in ("good", "bad")]
    lab.add(*topics)
    lab.broker.unreadable = {"bad"}
    await lab.run(*topics)
    assert lab.get_reason(topics[0], SYNCED) == ("True", "InSync")
    assert lab.get_reason(topics[1], SYNCED) == ("False", "BrokerRefused")
    assert lab.list_queued() == ["bad"]


async def test_a_change_that_never_shows_is_reported_after_some_passes(lab: Lab) -> None:
    topic, counts = make_resource(), Counts()
    lab.add(topic)
    lab.broker.is_frozen = True
    for attempts in range(1, 4):
        await lab.run(topic)
        assert lab.get_status(topic) == {}
        assert lab.queue.get_attempts(topic.key) == attempts
        lab.now += 100
    assert counts.list_changes() == {"requeue": 3.0, "CreateTopic": 3.0}
    await lab.run(topic)
    assert lab.get_reason(topic, SYNCED) == ("False", "NotConverging")
    assert counts.list_changes() == {"requeue": 4.0, "CreateTopic": 4.0, "error": 1.0, "errors": 1.0}
    lab.broker.is_frozen = False
    await lab.run(topic)
    assert lab.get_reason(topic, SYNCED) == ("True", "InSync")
    assert lab.queue.get_attempts(topic.key) == 0


@pytest.mark.parametrize("reads", [0, 1])
async def test_an_unavailable_broker_is_reported_on_each_and_tried_by_its_connection(lab: Lab, reads: int) -> None:
    """Before anything is known, and after the change: what was claimed meanwhile is reported on all the same."""
    topics = [make_resource(name="new"), make_resource(name="known", status={"appliedGeneration": 1})]
    lab.add(*topics)
    lab.broker.remaining_reads = reads
    counts = Counts()
    await lab.run(*topics)
    assert lab.get_reason(topics[0], CONNECTION_READY) == ("False", "Unreachable")
    assert lab.get_reason(topics[0], SYNCED) == ("Unknown", "Unreachable")
    assert lab.get_reason(topics[1], CONNECTION_READY) == ("False", "Unreachable")
    assert counts.list_changes()["waiting"] == 2.0
    assert lab.list_queued() == ["broker"]


async def test_of_two_for_one_topic_the_younger_waits_and_names_the_older(lab: Lab) -> None:
    older, younger = (make_resource(name=name, age=age, topicName="t") for name, age in (("old", 9), ("young", 0)))
    lab.add(older, younger)
    counts = Counts()
    await lab.run(older, younger)
    assert lab.get_reason(younger, ACCEPTED) == ("False", "Conflict")
    assert lab.get_status(younger)["conflict"] == "shop/old"
    assert lab.get_reason(younger, SYNCED) == ("Unknown", "Conflict")
    assert counts.list_changes() == {"success": 1.0, "waiting": 1.0, "CreateTopic": 1.0}
    assert lab.list_queued() == []


async def test_a_paused_resource_and_one_without_a_connection_are_left_alone(lab: Lab) -> None:
    paused = make_resource(name="paused", annotations={PAUSED_ANNOTATION: "true"})
    homeless = make_resource(name="homeless", connectionRef={"name": "other"})
    lab.add(paused, homeless)
    await lab.run(paused)
    await lab.reconciler.run(Key("KafkaConnection", "shop", "other"), [homeless.key])
    assert lab.get_reason(paused, "Paused") == ("True", "Paused")
    assert lab.get_reason(paused, SYNCED) is None
    assert lab.get_reason(homeless, CONNECTION_READY) == ("False", "ConnectionNotFound")
    assert lab.broker.calls == []


async def test_a_binding_waits_for_its_ends_and_is_woken_by_them() -> None:
    lab = Lab("RabbitMQConnection")
    binding = make_resource("RabbitMQBinding", "b", source="e", destination="q", destinationType="queue")
    exchange = make_resource("RabbitMQExchange", "e", type="topic", durable=True)
    queue = make_resource("RabbitMQQueue", "q", type="quorum", durable=True)
    lab.add(binding, exchange, queue)
    counts = Counts("RabbitMQBinding")
    await lab.run(binding)
    assert lab.get_reason(binding, "DependenciesReady") == ("False", "DependencyMissing")
    assert counts.list_changes() == {"waiting": 1.0}
    assert lab.list_queued() == ["b"]
    await lab.run(exchange)
    assert lab.list_queued(0.0) == ["b"], "at once"
    await lab.run(binding, queue)
    assert lab.get_reason(binding, SYNCED) == ("True", "InSync"), "a queue goes before its bindings"


@pytest.mark.parametrize(
    ("status", "expected"), [(409, {"requeue": 1.0}), (500, {"requeue": 1.0, "errors": 1.0})], ids=["stale", "failed"]
)
async def test_without_its_claim_nothing_is_created(lab: Lab, status: int, expected: dict[str, float]) -> None:
    topic, counts = make_resource(), Counts()
    lab.add(topic)
    lab.api.errors = [ApiError(status, "no")]
    await lab.run(topic)
    assert lab.server.topics == {}
    assert counts.list_changes() == expected
    assert lab.list_queued() == ["orders"]


async def test_a_status_that_could_not_be_written_comes_again(lab: Lab) -> None:
    topic = make_resource(status={"origin": "Created"})
    lab.server.topics["orders"] = (3, 1, {})
    lab.add(topic)
    lab.api.errors = [ApiError(500, "no")]
    counts = Counts()
    await lab.run(topic)
    assert counts.list_changes() == {"requeue": 1.0, "errors": 1.0}
    assert lab.list_queued() == ["orders"]


async def test_a_deletion_deletes_lets_go_and_says_so(lab: Lab) -> None:
    topic = make_resource(
        deleted=START, finalized=True, status={"origin": "Created"}, deletionPolicy="Delete", topicName="t"
    )
    lab.server.topics["t"] = (3, 1, {})
    lab.add(topic)
    counts = Counts()
    await lab.run(topic)
    assert lab.server.topics == {}
    assert lab.api.objects[topic.key].finalizers == ()
    assert lab.api.events == [("orders", "Deleted", DeleteTopic("t").summary)]
    assert counts.list_changes() == {"success": 1.0, "delete": 1.0}
    assert lab.list_queued() == []


async def test_a_deletion_that_is_refused_waits_then_the_object_stays(lab: Lab) -> None:
    topic = make_resource(deleted=START, finalized=True, status={"origin": "Created"}, deletionPolicy="Delete")
    lab.server.topics["orders"] = (3, 1, {})
    lab.broker.refused = {"orders"}
    lab.add(topic)
    counts = Counts()
    await lab.run(topic)
    assert lab.get_reason(topic, SYNCED) == ("False", "Deleting")
    assert lab.list_queued() == ["orders"]
    late = replace(lab.api.objects[topic.key], deleted_at=START - timedelta(minutes=11))
    lab.add(late)
    await lab.run(late)
    assert lab.api.objects[topic.key].finalizers == ()
    assert [reason for _, reason, _ in lab.api.events][-1:] == ["RetainedAfterWait"]
    assert "orders" in lab.server.topics
    assert counts.list_changes() == {"success": 1.0}


async def test_a_deletion_waits_for_an_unavailable_broker(lab: Lab) -> None:
    topic = make_resource(deleted=START, finalized=True, status={"origin": "Created"}, deletionPolicy="Delete")
    lab.add(topic)
    lab.broker.remaining_reads = 0
    await lab.run(topic)
    assert lab.get_reason(topic, SYNCED) == ("False", "Deleting")
    assert lab.list_queued() == ["broker", "orders"]


async def test_a_connection_that_becomes_ready_wakes_all_that_it_serves(lab: Lab) -> None:
    topic, counts = make_resource(), Counts("KafkaConnection")
    lab.add(topic)
    await lab.run(lab.connection)
    assert lab.get_reason(lab.connection, READY) == ("True", "Ready")
    status = lab.get_status(lab.connection)
    assert (status["reachable"], status["circuit"], status["clusterId"]) == (True, "Closed", "one")
    assert lab.list_queued() == ["broker", "orders"]
    await lab.run(lab.connection)
    assert lab.list_queued() == [], "once"
    assert counts.list_changes() == {"success": 2.0}


async def test_rotated_credentials_are_an_event(lab: Lab) -> None:
    await lab.run(lab.connection)
    lab.connections.fingerprint = "hash-2"
    lab.api.events.clear()
    await lab.run(lab.connection)
    assert [(name, reason) for name, reason, _ in lab.api.events] == [("broker", "CredentialsRotated")]


async def test_a_connection_that_fails_says_so_and_comes_again(lab: Lab) -> None:
    lab.broker.remaining_reads = 0
    await lab.run(lab.connection)
    assert lab.get_reason(lab.connection, CONNECTION_READY) == ("False", "Unreachable")
    assert lab.get_reason(lab.connection, SYNCED) == ("Unknown", "Unreachable")
    assert lab.get_status(lab.connection)["circuit"] == "Open"
    lab.broker.remaining_reads = 10
    assert lab.list_queued() == ["broker"]


@pytest.mark.parametrize(
    ("changes", "condition", "reason"),
    [
        ({"annotations": {PAUSED_ANNOTATION: "true"}}, "Paused", ("True", "Paused")),
        ({"spec": {"bootstrapServers": ["k:9092"], "protectedTopics": ["("]}}, ACCEPTED, ("False", "Invalid")),
    ],
)
async def test_a_connection_that_is_paused_or_invalid_is_not_asked(
    lab: Lab, changes: dict[str, Any], condition: str, reason: tuple[str, str]
) -> None:
    connection = replace(lab.connection, **changes)
    lab.add(connection)
    await lab.run(connection)
    assert lab.get_reason(connection, condition) == reason
    assert lab.broker.remaining_reads == 1000


async def test_an_unusable_spec_is_rejected_with_its_reason(lab: Lab) -> None:
    topic = make_resource(name="a", config="no mapping")
    with pytest.raises(UnusableSpec):
        parse_desired(topic)
    lab.add(topic)
    await lab.run(topic)
    assert lab.get_reason(topic, ACCEPTED) == ("False", "Invalid")
