"""What the brokers would do with the actions: enough of them to prove that a plan, applied, leaves nothing to plan."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from caravan_operator.backends.rabbitmq import binding_state, exchange_state, policy_state, queue_state
from caravan_operator.reconcile.findings import Action
from caravan_operator.reconcile.kafka_topic import AddPartitions, AlterConfig, CreateTopic, DeleteTopic, Setting, TopicState
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

    def state(self, name: str) -> TopicState | None:
        if name not in self.topics:
            return None
        partitions, replicas, own = self.topics[name]
        config = {key: Setting(own.get(key, default), key in own) for key, default in DEFAULTS.items()}
        return TopicState("id-" + name, partitions, replicas, config)

    def apply(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case CreateTopic(topic):
                    assert topic.name not in self.topics
                    self.topics[topic.name] = (topic.partitions, topic.replicas or 1, dict(topic.listed))
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
        self.things: dict[tuple[str, ...], dict[str, Any]] = {}

    def apply(self, actions: Sequence[Action]) -> None:
        for action in actions:
            assert isinstance(action, Call)
            parts = tuple(unquote(part) for part in action.path.partition("?")[0].removeprefix("/api/").split("/"))
            if action.method == "DELETE":
                assert self.things.pop(parts, None) is not None or 404 in action.steps_over
            elif action.method == "POST":
                body = dict(action.body or {})
                self.things[(*parts, f"{body['routing_key']}~{sorted(body['arguments'].items())}")] = body
            else:
                assert parts[0] != "queues" or parts not in self.things, "a declaration of a queue that exists"
                self.things[parts] = dict(action.body or {})

    def state(self, wanted: Any) -> Any:
        kind, vhost = wanted.identity.split(":", 2)[:2]
        if kind == "binding":
            return self._binding(wanted)
        found = self.things.get((f"{kind[:-1]}ies" if kind == "policy" else f"{kind}s", vhost, wanted.name))
        if found is None:
            return None
        if kind == "queue":
            policy = self.things.get(("policies", vhost, wanted.policy_name))
            mine = policy_state({**policy, "vhost": vhost, "name": wanted.policy_name}) if policy else None
            item = {**found, "type": found["arguments"].get("x-queue-type", "classic"), "policy": wanted.policy_name if mine else None}
            return queue_state({**item, "messages": found.get("messages", 0), "consumers": 0}, mine)
        return policy_state({**found, "vhost": vhost, "name": wanted.name}) if kind == "policy" else exchange_state(found)

    def _binding(self, wanted: Binding) -> BindingState | None:
        missing = tuple(need for need in wanted.needs if (f"{need.split(':')[0]}s", *need.split(":", 2)[1:]) not in self.things)
        if missing:
            return BindingState(missing)
        for parts, body in self.things.items():
            if parts[: len(wanted.path)] == wanted.path:
                item = {
                    **body,
                    "vhost": wanted.vhost,
                    "source": wanted.source,
                    "destination": wanted.destination,
                    "properties_key": parts[-1],
                }
                bound, key = binding_state({**item, "destination_type": wanted.destination_type})
                if bound.identity == wanted.identity:
                    return BindingState(properties_key=key)
        return None
