"""Reads a running broker and writes the resources that would take over what it has, unchanged: with adoptionPolicy
IfEqual and deletionPolicy Retain.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from caravan_operator.backends.kafka import Kafka
from caravan_operator.backends.kafka_client import KafkaLogin
from caravan_operator.backends.management import RabbitLogin
from caravan_operator.backends.rabbitmq import RabbitMQ
from caravan_operator.reconcile.durations import format_duration
from caravan_operator.reconcile.kafka_topic import Topic, TopicState
from caravan_operator.resources import KINDS
from caravan_operator.resources.kafka import TYPED_CONFIG
from caravan_operator.resources.limits import DURATION_KEYS, POLICY_KEYS
from caravan_operator.resources.rabbitmq import LIMITS_POLICY

_INTEGER_SETTINGS = frozenset({"retention.bytes", "min.insync.replicas", "max.message.bytes", "segment.bytes"})
_ARGUMENTS = {
    "x-single-active-consumer": "singleActiveConsumer",
    "x-max-priority": "maxPriority",
    "x-quorum-initial-group-size": "initialGroupSize",
}
_EXCHANGE_TYPES = frozenset(KINDS["RabbitMQExchange"].spec["properties"]["type"]["enum"])

Document = dict[str, Any]
SkippedObjects = list[str]
"""What can't be said as a resource, and why."""


async def import_from_kafka(
    bootstrap: str, connection: str, pattern: str, username: str, password: str, mechanism: str, tls: bool
) -> tuple[list[Document], SkippedObjects]:
    """Raises BrokerUnavailable."""
    protocol = ("SASL_" if username else "") + ("SSL" if tls else "PLAINTEXT")
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "security.protocol": protocol if username or tls else "PLAINTEXT",
    }
    if username:
        settings |= {"sasl.mechanism": mechanism, "sasl.username": username, "sasl.password": password}
    kafka = Kafka(KafkaLogin(settings, (password,)), {"requestTimeout": "15s"}, _refuse_write)
    try:
        await kafka.check_health()
        documents, skipped = await build_kafka_resources(kafka, connection, pattern)
    finally:
        await kafka.close()
    return make_names_unique(documents), skipped


async def import_from_rabbitmq(
    url: str, connection: str, vhost: str, pattern: str, username: str, password: str
) -> tuple[list[Document], SkippedObjects]:
    """Raises BrokerUnavailable."""
    rabbit = RabbitMQ(RabbitLogin(url, username, password, None), {}, _refuse_write)
    try:
        documents, skipped = await build_rabbitmq_resources(rabbit, connection, vhost, pattern)
    finally:
        await rabbit.close()
    return make_names_unique(documents), skipped


def _refuse_write() -> None:
    raise AssertionError("an import only reads")


async def build_kafka_resources(kafka: Kafka, connection: str, pattern: str) -> tuple[list[Document], SkippedObjects]:
    """A KafkaTopic for each topic whose name matches; Kafka's own (`__`) are left out."""
    names = [name for name in await kafka.list_topics() if not name.startswith("__") and re.search(pattern, name)]
    states = await kafka.read_states("KafkaTopic", [Topic(name, 1) for name in names])
    return [
        _build_topic(name, state, connection) for name, state in zip(names, states, strict=True) if state is not None
    ], []


async def build_rabbitmq_resources(
    rabbit: RabbitMQ, connection: str, vhost: str, pattern: str
) -> tuple[list[Document], SkippedObjects]:
    """Exchanges, queues, bindings and policies of a virtual host, but the broker's own and those that go away with
    their owner.
    """
    documents: list[Document] = []
    skipped: SkippedObjects = []
    policies = {item["name"]: item for item in await rabbit.list_objects("policies", vhost)}
    for item in await rabbit.list_objects("exchanges", vhost):
        if item["name"] and not item["name"].startswith("amq.") and re.search(pattern, item["name"]):
            _add_exchange(item, connection, vhost, documents, skipped)
    for item in await rabbit.list_objects("queues", vhost):
        if item.get("exclusive") or item["name"].startswith("amq."):
            skipped.append(f"queue {item['name']}: it belongs to a client")
        elif re.search(pattern, item["name"]):
            _add_queue(item, policies.get(LIMITS_POLICY + item["name"]), connection, vhost, documents, skipped)
    for item in await rabbit.list_objects("bindings", vhost):
        if item["source"] and re.search(pattern, item["destination"]) and not item["source"].startswith("amq."):
            _add_binding(item, connection, vhost, documents)
    for name, item in policies.items():
        if not name.startswith(LIMITS_POLICY) and re.search(pattern, name):
            _add_policy(item, connection, vhost, documents, skipped)
    return documents, skipped


def to_resource_name(name: str) -> str:
    """A name that Kubernetes accepts, made of the broker's."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:240].rstrip("-.") or "unnamed"


def _build_document(kind: str, name: str, connection: str, spec: Mapping[str, Any]) -> Document:
    return {
        "apiVersion": KINDS[kind].api_version,
        "kind": kind,
        "metadata": {"name": to_resource_name(name)},
        "spec": {"connectionRef": {"name": connection}, **spec},
    }


def _build_topic(name: str, state: TopicState, connection: str) -> Document:
    own = {
        key: setting.value
        for key, setting in sorted(state.config.items())
        if setting.dynamic and setting.value is not None
    }
    config = {field: _parse_config_value(key, own.pop(key)) for field, key in TYPED_CONFIG.items() if key in own}
    spec: Document = {"topicName": name, "partitions": state.partitions, "replicas": state.replicas}
    return _build_document(
        "KafkaTopic",
        name,
        connection,
        spec | ({"config": config} if config else {}) | ({"extraConfig": own} if own else {}),
    )


def _parse_config_value(key: str, value: str) -> Any:
    if key == "retention.ms":
        return "unlimited" if value == "-1" else format_duration(int(value))
    if key == "cleanup.policy" and "," in value:
        return "compact,delete"
    return int(value) if key in _INTEGER_SETTINGS else value


def _add_exchange(
    item: Mapping[str, Any], connection: str, vhost: str, documents: list[Document], skipped: SkippedObjects
) -> None:
    arguments = {name: value for name, value in (item.get("arguments") or {}).items() if name != "x-delayed-type"}
    if arguments or item["type"] not in _EXCHANGE_TYPES:
        skipped.append(
            f"exchange {item['name']}: type {item['type']} with {', '.join(arguments) or 'no arguments'} (arguments "
            "belong into a policy)"
        )
        return
    spec: Document = {"name": item["name"], "vhost": vhost, "type": item["type"], "durable": item["durable"]}
    spec |= {"autoDelete": item["auto_delete"], "internal": item["internal"]}
    if "x-delayed-type" in (item.get("arguments") or {}):
        spec["arguments"] = {"delayedType": item["arguments"]["x-delayed-type"]}
    documents.append(_build_document("RabbitMQExchange", item["name"], connection, spec))


def _add_queue(
    item: Mapping[str, Any],
    policy: Mapping[str, Any] | None,
    connection: str,
    vhost: str,
    documents: list[Document],
    skipped: SkippedObjects,
) -> None:
    arguments = {name: value for name, value in (item.get("arguments") or {}).items() if name != "x-queue-type"}
    unknown_names = sorted(name for name in arguments if name not in _ARGUMENTS)
    if unknown_names:
        skipped.append(
            f"queue {item['name']}: arguments {', '.join(unknown_names)} can only be said by a policy; make the queue "
            "anew without them"
        )
        return
    spec: Document = {
        "name": item["name"],
        "vhost": vhost,
        "type": item["type"],
        "durable": item["durable"],
        "autoDelete": item["auto_delete"],
    }
    if arguments:
        spec["arguments"] = {_ARGUMENTS[name]: value for name, value in arguments.items()}
    if policy is not None:
        spec["limits"] = _parse_definition(policy["definition"])
    documents.append(_build_document("RabbitMQQueue", item["name"], connection, spec))


def _add_binding(item: Mapping[str, Any], connection: str, vhost: str, documents: list[Document]) -> None:
    spec: Document = {
        "vhost": vhost,
        "source": item["source"],
        "destination": item["destination"],
        "destinationType": item["destination_type"],
    }
    spec["routingKey"] = item["routing_key"]
    if item.get("arguments"):
        spec["arguments"] = item["arguments"]
    index = sum(each["kind"] == "RabbitMQBinding" for each in documents)
    documents.append(
        _build_document("RabbitMQBinding", f"{item['source']}-{item['destination']}-{index}", connection, spec)
    )


def _add_policy(
    item: Mapping[str, Any], connection: str, vhost: str, documents: list[Document], skipped: SkippedObjects
) -> None:
    if not 0 <= item["priority"] <= 1000:
        skipped.append(f"policy {item['name']}: its priority {item['priority']} is not from 0 to 1000")
        return
    spec = {
        "name": item["name"],
        "vhost": vhost,
        "pattern": item["pattern"],
        "applyTo": item["apply-to"],
        "priority": item["priority"],
    }
    documents.append(
        _build_document(
            "RabbitMQPolicy", item["name"], connection, spec | {"definition": _parse_definition(item["definition"])}
        )
    )


def _parse_definition(definition: Mapping[str, Any]) -> Document:
    """A policy's definition in the words of the spec; what has no word goes to `extra`."""
    keys_by_name = {re.sub("-([a-z])", lambda hit: hit[1].upper(), key): key for key in definition}
    settings: Document = {
        name: format_duration(definition[key]) if name in DURATION_KEYS else definition[key]
        for name, key in keys_by_name.items()
        if name in POLICY_KEYS
    }
    extra = {key: definition[key] for name, key in keys_by_name.items() if name not in POLICY_KEYS}
    return settings | ({"extra": extra} if extra else {})


def make_names_unique(documents: Iterable[Document]) -> list[Document]:
    """The same with names that are unique within a kind: two names of the broker may become one of Kubernetes."""
    counts: dict[tuple[str, str], int] = {}
    renamed = []
    for document in documents:
        key = (document["kind"], document["metadata"]["name"])
        counts[key] = counts.get(key, 0) + 1
        if counts[key] > 1:
            document["metadata"]["name"] += f"-{counts[key]}"
        renamed.append(document)
    return renamed
