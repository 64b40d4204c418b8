"""The kinds that the operator serves, in the order in which they depend on one another."""

from caravan_operator.resources.kafka import KAFKA_CONNECTION, KAFKA_TOPIC
from caravan_operator.resources.kinds import (
    CLAIM_ANNOTATION,
    FINALIZER,
    FORCE_FINALIZE_ANNOTATION,
    MESSAGING,
    PAUSED_ANNOTATION,
    RECONCILE_NOW_ANNOTATION,
    VERSION,
    Kind,
)
from caravan_operator.resources.rabbitmq import (
    RABBITMQ_BINDING,
    RABBITMQ_CONNECTION,
    RABBITMQ_EXCHANGE,
    RABBITMQ_POLICY,
    RABBITMQ_QUEUE,
)
from caravan_operator.resources.service_route import SERVICE_ROUTE

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        KAFKA_CONNECTION,
        RABBITMQ_CONNECTION,
        KAFKA_TOPIC,
        RABBITMQ_EXCHANGE,
        RABBITMQ_QUEUE,
        RABBITMQ_BINDING,
        RABBITMQ_POLICY,
        SERVICE_ROUTE,
    )
}

__all__ = [
    "CLAIM_ANNOTATION",
    "FINALIZER",
    "FORCE_FINALIZE_ANNOTATION",
    "KINDS",
    "MESSAGING",
    "PAUSED_ANNOTATION",
    "RECONCILE_NOW_ANNOTATION",
    "VERSION",
    "Kind",
]
