"""Reads a virtual host of a running RabbitMQ cluster and builds the resources that would take over what it has,
unchanged.
"""

import re
from collections.abc import Mapping
from typing import Any

from caravan_operator.backends.management import RabbitLogin
from caravan_operator.backends.rabbitmq import RabbitMQ
from caravan_operator.commands.documents import (
    Document,
    SkippedObjects,
    build_document,
    make_names_unique,
    refuse_write,
)
from caravan_operator.reconcile.durations import format_duration
from caravan_operator.resources import KINDS
from caravan_operator.resources.limits import DURATION_KEYS, POLICY_KEYS
from caravan_operator.resources.rabbitmq import LIMITS_POLICY

_ARGUMENTS = {
    "x-single-active-consumer": "singleActiveConsumer",
    "x-max-priority": "maxPriority",
    "x-quorum-initial-group-size": "initialGroupSize",
}
_EXCHANGE_TYPES = frozenset(KINDS["RabbitMQExchange"].spec["properties"]["type"]["enum"])


async def import_from_rabbitmq(
    url: str, connection: str, vhost: str, pattern: str, username: str, password: str
) -> tuple[list[Document], SkippedObjects]:
    """Raises BrokerUnavailable."""
    rabbit = RabbitMQ(RabbitLogin(url, username, password, None), {}, refuse_write)
    try:
        documents, skipped = await build_rabbitmq_resources(rabbit, connection, vhost, pattern)
    finally:
        await rabbit.close()
    return make_names_unique(documents), skipped


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
    documents.append(build_document("RabbitMQExchange", item["name"], connection, spec))


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
    documents.append(build_document("RabbitMQQueue", item["name"], connection, spec))


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
        build_document("RabbitMQBinding", f"{item['source']}-{item['destination']}-{index}", connection, spec)
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
        build_document(
            "RabbitMQPolicy", item["name"], connection, spec | {"definition": _parse_definition(item["definition"])}
        )
    )


def _parse_definition(definition: Mapping[str, Any]) -> Document:
    """A policy's definition with the names of the spec; keys without one go to `extra`."""
    keys_by_name = {re.sub("-([a-z])", lambda hit: hit[1].upper(), key): key for key in definition}
    settings: Document = {
        name: format_duration(definition[key]) if name in DURATION_KEYS else definition[key]
        for name, key in keys_by_name.items()
        if name in POLICY_KEYS
    }
    extra = {key: definition[key] for name, key in keys_by_name.items() if name not in POLICY_KEYS}
    return settings | ({"extra": extra} if extra else {})
