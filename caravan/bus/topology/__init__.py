"""Topology: the topics, queues, exchanges, bindings and policies that the declared channels and their readers need.

`build.py` makes it of the declarations; `kafka.py` and `rabbitmq.py` compare it with the brokers and apply it;
`render.py` writes it as the operator's custom resources.
"""

from caravan.bus.topology.build import (
    build_topology,
    get_dead_letter_queue,
    get_dead_letter_topic,
    get_retry_queue,
    get_retry_topic,
)
from caravan.bus.topology.objects import (
    POLICY_PREFIX,
    BrokerObject,
    BrokerUnavailable,
    KafkaTopic,
    NotDeclared,
    ObjectRef,
    PropertyValue,
    RabbitBinding,
    RabbitExchange,
    RabbitPolicy,
    RabbitQueue,
    Topology,
    TopologyError,
)

__all__ = [
    "POLICY_PREFIX",
    "BrokerObject",
    "BrokerUnavailable",
    "KafkaTopic",
    "NotDeclared",
    "ObjectRef",
    "PropertyValue",
    "RabbitBinding",
    "RabbitExchange",
    "RabbitPolicy",
    "RabbitQueue",
    "Topology",
    "TopologyError",
    "build_topology",
    "get_dead_letter_queue",
    "get_dead_letter_topic",
    "get_retry_queue",
    "get_retry_topic",
]
