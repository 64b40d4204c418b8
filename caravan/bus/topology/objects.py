"""What a topology consists of, each object with the properties that the brokers are compared by. Pure.

`build.py` makes them of the declared channels; `kafka.py` and `rabbitmq.py` read them from the brokers.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

_NAMED_MAX = 5
"""How many missing things an error names."""
POLICY_PREFIX = "caravan.queue."
_POLICY_PRIORITY = 2000
"""As the operator names and ranks the policy of a RabbitMQQueue's limits: whoever comes second finds it done."""

PropertyValue = str | int | bool


class TopologyError(Exception):
    """A broker can't be asked or changed; the text says what to do."""


class BrokerUnavailable(TopologyError, ConnectionError):
    """It doesn't answer (yet)."""


class NotDeclared(TopologyError):
    """What a process needs is not there, and it is not the one to make it."""

    def __init__(self, refs: Sequence["ObjectRef"]) -> None:
        names = ", ".join(f"{ref.kind} {ref.name}" for ref in refs[:_NAMED_MAX]) + (
            ", ..." if len(refs) > _NAMED_MAX else ""
        )
        super().__init__(
            f"{len(refs)} topics, queues or exchanges are missing ({names}): CARAVAN_DECLARE=false leaves them to the "
            "operator or to `caravan topology apply`"
        )


class ObjectRef(NamedTuple):
    """What a broker's object is and how it is called."""

    kind: str
    name: str


class BrokerObject(Protocol):
    """One object of a broker, as it should be or as it is: what it is, and facts about it that can be compared."""

    @property
    def object_ref(self) -> ObjectRef: ...

    @property
    def properties(self) -> Mapping[str, PropertyValue]: ...


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    name: str
    partitions: int
    replicas: int
    config: Mapping[str, str]
    """Settings by Kafka's names; those that are not listed are the cluster's business."""

    @property
    def object_ref(self) -> ObjectRef:
        return ObjectRef("topic", self.name)

    @property
    def properties(self) -> Mapping[str, PropertyValue]:
        return {"partitions": self.partitions, "replicas": self.replicas, **self.config}


@dataclass(frozen=True, slots=True)
class RabbitPolicy:
    name: str
    pattern: str
    definition: Mapping[str, str | int]
    priority: int = _POLICY_PRIORITY
    apply_to: str = "queues"

    @property
    def object_ref(self) -> ObjectRef:
        return ObjectRef("policy", self.name)

    @property
    def properties(self) -> Mapping[str, PropertyValue]:
        return {"pattern": self.pattern, "priority": self.priority, "apply-to": self.apply_to, **self.definition}


@dataclass(frozen=True, slots=True)
class RabbitQueue:
    name: str
    limits: Mapping[str, str | int]
    """The definition of its policy."""
    arguments: Mapping[str, str | int | bool] = field(default_factory=lambda: {"x-queue-type": "quorum"})

    @property
    def object_ref(self) -> ObjectRef:
        return ObjectRef("queue", self.name)

    @property
    def properties(self) -> Mapping[str, PropertyValue]:
        return {**self.arguments, "policy": self.limits_policy.name}

    @property
    def limits_policy(self) -> RabbitPolicy:
        return RabbitPolicy(POLICY_PREFIX + self.name, f"^{re.escape(self.name)}$", self.limits)


@dataclass(frozen=True, slots=True)
class RabbitExchange:
    name: str
    type: str = "topic"

    @property
    def object_ref(self) -> ObjectRef:
        return ObjectRef("exchange", self.name)

    @property
    def properties(self) -> Mapping[str, PropertyValue]:
        return {"type": self.type}


@dataclass(frozen=True, slots=True)
class RabbitBinding:
    exchange: str
    queue: str
    pattern: str

    @property
    def object_ref(self) -> ObjectRef:
        return ObjectRef("binding", f"{self.exchange} -> {self.queue} ({self.pattern})")

    @property
    def properties(self) -> Mapping[str, PropertyValue]:
        return {}


@dataclass(frozen=True, slots=True)
class Topology:
    topics: tuple[KafkaTopic, ...] = ()
    exchanges: tuple[RabbitExchange, ...] = ()
    queues: tuple[RabbitQueue, ...] = ()
    bindings: tuple[RabbitBinding, ...] = ()

    @property
    def kafka_objects(self) -> dict[ObjectRef, KafkaTopic]:
        return {topic.object_ref: topic for topic in self.topics}

    @property
    def rabbitmq_objects(self) -> dict[ObjectRef, BrokerObject]:
        """In the order of making: a queue finds its policy there, a binding both its ends."""
        policies = [queue.limits_policy for queue in self.queues]
        objects: list[BrokerObject] = [*policies, *self.exchanges, *self.queues, *self.bindings]
        return {declared_object.object_ref: declared_object for declared_object in objects}
