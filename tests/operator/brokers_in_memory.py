"""What the brokers would do with the actions: enough of them to prove that a plan, applied, leaves nothing to plan."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from caravan_operator.backends.rabbitmq_states import (
    parse_binding_state,
    parse_exchange_state,
    parse_policy_state,
    parse_queue_state,
)
from caravan_operator.reconcile.diff import Action
from caravan_operator.reconcile.kafka_topic import (
    AddPartitions,
    AlterConfig,
    CreateTopic,
    DeleteTopic,
    Setting,
    TopicState,
)
from caravan_operator.reconcile.rabbitmq_binding import Binding, BindingState
from caravan_operator.reconcile.rabbitmq_call import Call

DEFAULTS = {
    "cleanup.policy": "delete",
    "retention.ms": "604800000",
    "retention.bytes": "-1",
    "min.insync.replicas": "1",
    "max.message.bytes": "1048588",
    "segment.bytes": "1073741824",
    "compression.type": "producer",
    "flush.ms": "9223372036854775807",
    "flush.messages": "9223372036854775807",
}


class KafkaInMemory:
    def __init__(self) -> None:
        self.topics: dict[str, tuple[int, int, dict[str, str]]] = {}

    def read_state(self, name: str) -> TopicState | None:
        if name not in self.topics:
            return None
        partitions, replicas, own_config = self.topics[name]
        config = {key: Setting(own_config.get(key, default), key in own_config) for key, default in DEFAULTS.items()}
        return TopicState("id-" + name, partitions, replicas, config)

    def apply_actions(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case CreateTopic(topic):
                    assert topic.name not in self.topics
                    self.topics[topic.name] = (topic.partitions, topic.replicas or 1, dict(topic.managed_config))
                case AddPartitions(name, now, total):
                    assert self.topics[name][0] == now < total
                    self.topics[name] = (total, *self.topics[name][1:])
                case AlterConfig(name, key, _, None):
                    self.topics[name][2].pop(key)
                case AlterConfig(name, key, _, value):
                    assert value is not None
                    self.topics[name][2][key] = value
                case DeleteTopic(name):
                    del self.topics[name]
                case _:
                    raise AssertionError(action)


class RabbitInMemory:
    """Keeps what was put under the path that it was put to."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, ...], dict[str, Any]] = {}

    def apply_actions(self, actions: Sequence[Action]) -> None:
        for action in actions:
            assert isinstance(action, Call)
            segments = tuple(unquote(part) for part in action.path.partition("?")[0].removeprefix("/api/").split("/"))
            if action.method == "DELETE":
                assert self.objects.pop(segments, None) is not None or 404 in action.ignored_statuses
            elif action.method == "POST":
                body = dict(action.body or {})
                self.objects[(*segments, f"{body['routing_key']}~{sorted(body['arguments'].items())}")] = body
            else:
                assert segments[0] != "queues" or segments not in self.objects, "a declaration of a queue that exists"
                self.objects[segments] = dict(action.body or {})

    def read_state(self, desired: Any) -> Any:
        kind, vhost = desired.identity.split(":", 2)[:2]
        if kind == "binding":
            return self._read_binding(desired)
        stored = self.objects.get((f"{kind[:-1]}ies" if kind == "policy" else f"{kind}s", vhost, desired.name))
        if stored is None:
            return None
        if kind == "queue":
            policy = self.objects.get(("policies", vhost, desired.policy_name))
            own_policy = parse_policy_state({**policy, "vhost": vhost, "name": desired.policy_name}) if policy else None
            item = {
                **stored,
                "type": stored["arguments"].get("x-queue-type", "classic"),
                "policy": desired.policy_name if own_policy else None,
            }
            return parse_queue_state({**item, "messages": stored.get("messages", 0), "consumers": 0}, own_policy)
        return (
            parse_policy_state({**stored, "vhost": vhost, "name": desired.name})
            if kind == "policy"
            else parse_exchange_state(stored)
        )

    def _read_binding(self, desired: Binding) -> BindingState | None:
        missing = tuple(
            need
            for need in desired.dependencies
            if (f"{need.split(':')[0]}s", *need.split(":", 2)[1:]) not in self.objects
        )
        if missing:
            return BindingState(missing)
        for segments, body in self.objects.items():
            if segments[: len(desired.path_segments)] == desired.path_segments:
                item = {
                    **body,
                    "vhost": desired.vhost,
                    "source": desired.source,
                    "destination": desired.destination,
                    "properties_key": segments[-1],
                }
                bound, key = parse_binding_state({**item, "destination_type": desired.destination_type})
                if bound.identity == desired.identity:
                    return BindingState(properties_key=key)
        return None
