"""The topology as the operator's custom resources. A queue's policy is not one of them: the operator makes it from the
queue's `limits`.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from caravan.bus.topology import KafkaTopic, RabbitBinding, RabbitExchange, RabbitQueue, Topology

_API_VERSION = "messaging.caravan.dev/v1alpha1"
KAFKA, RABBITMQ = "kafka", "rabbitmq"
"""Names of the connections."""
_CONFIG = {
    "cleanup.policy": "cleanupPolicy",
    "retention.ms": "retention",
    "min.insync.replicas": "minInsyncReplicas",
    "max.message.bytes": "maxMessageBytes",
}
_LIMITS = {
    "message-ttl": "messageTtl",
    "max-length": "maxLength",
    "overflow": "overflow",
    "delivery-limit": "deliveryLimit",
    "dead-letter-exchange": "deadLetterExchange",
    "dead-letter-routing-key": "deadLetterRoutingKey",
    "dead-letter-strategy": "deadLetterStrategy",
}
_DURATIONS = ("retention", "messageTtl")
_UNITS = (("h", 3_600_000), ("m", 60_000), ("s", 1_000))
_LONGEST_NAME = 253


def build_resources(topology: Topology) -> list[dict[str, Any]]:
    """Custom resources in the order of the declarations."""
    return [
        *(_build_topic(topic) for topic in topology.topics),
        *(_build_exchange(exchange) for exchange in topology.exchanges),
        *(_build_queue(queue) for queue in topology.queues),
        *(_build_binding(binding) for binding in topology.bindings),
    ]


def build_resource_name(name: str) -> str:
    """A DNS name for any channel's name; what had to be changed is made unique by a hash."""
    safe = re.sub(r"[^a-z0-9.-]+", "-", name.lower())
    safe = re.sub(r"\.?-*\.+-*", ".", safe).strip("-.") or "x"
    if safe == name and len(safe) <= _LONGEST_NAME:
        return safe
    return f"{safe[: _LONGEST_NAME - 9].rstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _build_resource(kind: str, name: str, connection: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": _API_VERSION,
        "kind": kind,
        "metadata": {"name": build_resource_name(name)},
        "spec": {"connectionRef": {"name": connection}, "deletionPolicy": "Retain", **spec},
    }


def _build_topic(topic: KafkaTopic) -> dict[str, Any]:
    spec = {
        "topicName": topic.name,
        "partitions": topic.partitions,
        "replicas": topic.replicas,
        "config": _map_settings(topic.config, _CONFIG),
    }
    return _build_resource("KafkaTopic", topic.name, KAFKA, spec)


def _build_exchange(exchange: RabbitExchange) -> dict[str, Any]:
    return _build_resource("RabbitMQExchange", exchange.name, RABBITMQ, {"name": exchange.name, "type": exchange.type})


def _build_queue(queue: RabbitQueue) -> dict[str, Any]:
    arguments = {"arguments": {"singleActiveConsumer": True}} if queue.arguments.get("x-single-active-consumer") else {}
    spec = {
        "name": queue.name,
        "type": queue.arguments["x-queue-type"],
        **arguments,
        "limits": _map_settings(queue.limits, _LIMITS),
    }
    return _build_resource("RabbitMQQueue", queue.name, RABBITMQ, spec)


def _build_binding(binding: RabbitBinding) -> dict[str, Any]:
    spec = {
        "source": binding.exchange,
        "destination": binding.queue,
        "destinationType": "queue",
        "routingKey": binding.pattern,
    }
    return _build_resource("RabbitMQBinding", f"{binding.queue}.{binding.pattern}", RABBITMQ, spec)


def _map_settings(settings: Mapping[str, str | int], names: Mapping[str, str]) -> dict[str, str | int]:
    """Settings by the custom resource's names, in its units. A setting without a name there is an error here, not a
    silent loss.
    """
    return {names[key]: _convert_value(names[key], value) for key, value in settings.items()}


def _convert_value(name: str, value: str | int) -> str | int:
    if name in _DURATIONS:
        return format_duration(int(value))
    return int(value) if str(value).isdigit() else value


def format_duration(milliseconds: int) -> str:
    """`168h`, `90s`, `250ms`: in the largest unit that says it in whole numbers."""
    for unit, length in _UNITS:
        if milliseconds and milliseconds % length == 0:
            return f"{milliseconds // length}{unit}"
    return f"{milliseconds}ms"
