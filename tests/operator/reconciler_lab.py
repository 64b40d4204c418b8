"""A reconciler with a broker and an API server in memory, and the metrics that its passes move."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

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
from caravan_operator.reconcile.diff import Action
from caravan_operator.resources.resource import Key, Resource
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
