"""What the rules of the CRDs accept and refuse: a case per rule."""

from dataclasses import dataclass
from typing import Any

REF = {"connectionRef": {"name": "broker"}}


VALID: dict[str, dict[str, Any]] = {
    "KafkaConnection": {"bootstrapServers": ["kafka:9092"]},
    "RabbitMQConnection": {"managementUrl": "https://rabbit:15671", "secretRef": {"name": "rabbit"}},
    "KafkaTopic": {**REF, "partitions": 3},
    "RabbitMQQueue": {**REF},
    "RabbitMQExchange": {**REF},
    "RabbitMQBinding": {**REF, "source": "e", "destination": "q"},
    "RabbitMQPolicy": {**REF, "pattern": "^q", "definition": {"maxLength": 1}},
    "ServiceRoute": {"serviceRef": {"name": "orders"}},
}


OBJECTS = ("RabbitMQQueue", "RabbitMQExchange", "RabbitMQPolicy")


SASL = {"protocol": "SASL_SSL", "saslMechanism": "PLAIN", "secretRef": {"name": "s"}}


@dataclass(frozen=True)
class Case:
    kind: str
    message: str
    good: dict[str, Any]
    bad: dict[str, Any]
    before: dict[str, Any] | None = None
    """For rules about changes: the object that is changed to `good` or `bad`."""
    bad_name: str = "rule"


def make_immutable_case(kind: str, field: str, value: Any, other: Any) -> Case:
    return Case(kind, f"{field} is immutable", {field: value}, {field: other}, before={field: value})
