"""Topology: the topics, queues, exchanges, bindings and policies that the declared channels and their readers need. Pure; `kafka.py` and `rabbit.py` look and make.

Every limit of a queue (time-to-live of a retry tier, where dead letters go, lengths) is in one policy per queue: a policy can change while the queue lives, and an
argument would beat it. A queue's arguments hold only what no policy can say.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from caravan.bus import Subscription
from caravan.messages import Binding, Channel, Exchange, Queue, Topic

MESSAGE_BYTES = 1_048_588
"""Kafka's own default, said aloud: the largest batch of a topic. Dead letters and redriven messages carry headers besides, so theirs may be twice as large."""
WAITING_MAX = 1_000_000
"""Most messages of a queue whose declaration names no other number. Above it publishing is refused, and the sender's outbox keeps them."""
DELIVERIES_MAX = 1_000_000
"""Attempts are counted by us. The broker's own limit (20 by default) would drop what is only looked at, or held while a consumer restarts."""
NAMED = 5
"""How many missing things an error names."""
POLICY_PREFIX = "caravan.queue."
POLICY_PRIORITY = 2000
"""As the operator names and ranks the policy of a RabbitMQQueue's limits: whoever comes second finds it done."""

Fact = str | int | bool


class TopologyError(Exception):
    """A broker can't be asked or changed; the text says what to do."""


class BrokerAway(TopologyError, ConnectionError):
    """It doesn't answer (yet)."""


class NotDeclared(TopologyError):
    """What a process needs is not there, and it is not the one to make it."""

    def __init__(self, things: Sequence["Thing"]) -> None:
        named = ", ".join(f"{thing.kind} {thing.name}" for thing in things[:NAMED]) + (", ..." if len(things) > NAMED else "")
        super().__init__(
            f"{len(things)} topics, queues or exchanges are missing ({named}): CARAVAN_DECLARE=false leaves them to the operator or to `caravan topology apply`"
        )


def dead_letter_topic(subscription: str) -> str:
    return f"{subscription}.dlq"


def retry_topic(subscription: str) -> str:
    return f"{subscription}.retry"


def dead_letter_queue(queue: str) -> str:
    return f"{queue}.dlq"


def retry_queue(queue: str, tier: int) -> str:
    return f"{queue}.retry.{tier}"


class Thing(NamedTuple):
    """What a broker's object is and how it is called."""

    kind: str
    name: str


class Element(Protocol):
    """One object of a broker, as it should be or as it is: what it is, and facts about it that can be compared."""

    @property
    def thing(self) -> Thing: ...

    @property
    def facts(self) -> Mapping[str, Fact]: ...


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    name: str
    partitions: int
    replicas: int
    config: Mapping[str, str]
    """Settings by Kafka's names; those that are not listed are the cluster's business."""

    @property
    def thing(self) -> Thing:
        return Thing("topic", self.name)

    @property
    def facts(self) -> Mapping[str, Fact]:
        return {"partitions": self.partitions, "replicas": self.replicas, **self.config}


@dataclass(frozen=True, slots=True)
class RabbitPolicy:
    name: str
    pattern: str
    definition: Mapping[str, str | int]
    priority: int = POLICY_PRIORITY
    apply_to: str = "queues"

    @property
    def thing(self) -> Thing:
        return Thing("policy", self.name)

    @property
    def facts(self) -> Mapping[str, Fact]:
        return {"pattern": self.pattern, "priority": self.priority, "apply-to": self.apply_to, **self.definition}


@dataclass(frozen=True, slots=True)
class RabbitQueue:
    name: str
    limits: Mapping[str, str | int]
    """The definition of its policy."""
    arguments: Mapping[str, str | int | bool] = field(default_factory=lambda: {"x-queue-type": "quorum"})

    @property
    def thing(self) -> Thing:
        return Thing("queue", self.name)

    @property
    def facts(self) -> Mapping[str, Fact]:
        return {**self.arguments, "policy": self.policy.name}

    @property
    def policy(self) -> RabbitPolicy:
        return RabbitPolicy(POLICY_PREFIX + self.name, f"^{re.escape(self.name)}$", self.limits)


@dataclass(frozen=True, slots=True)
class RabbitExchange:
    name: str
    type: str = "topic"

    @property
    def thing(self) -> Thing:
        return Thing("exchange", self.name)

    @property
    def facts(self) -> Mapping[str, Fact]:
        return {"type": self.type}


@dataclass(frozen=True, slots=True)
class RabbitBinding:
    exchange: str
    queue: str
    pattern: str

    @property
    def thing(self) -> Thing:
        return Thing("binding", f"{self.exchange} -> {self.queue} ({self.pattern})")

    @property
    def facts(self) -> Mapping[str, Fact]:
        return {}


@dataclass(frozen=True, slots=True)
class Topology:
    topics: tuple[KafkaTopic, ...] = ()
    exchanges: tuple[RabbitExchange, ...] = ()
    queues: tuple[RabbitQueue, ...] = ()
    bindings: tuple[RabbitBinding, ...] = ()

    @property
    def kafka(self) -> dict[Thing, KafkaTopic]:
        return {topic.thing: topic for topic in self.topics}

    @property
    def rabbit(self) -> dict[Thing, Element]:
        """In the order of making: a queue finds its policy there, a binding both its ends."""
        policies = [queue.policy for queue in self.queues]
        elements: list[Element] = [*policies, *self.exchanges, *self.queues, *self.bindings]
        return {element.thing: element for element in elements}


def topology(channels: Iterable[Channel], subscriptions: Sequence[Subscription], *, replicas: int = 1) -> Topology:
    """What these channels and readers need. `replicas`: of every topic; with more than one, a write waits for all but one of them."""
    # What is read is made, too: its owner may never have run, and a reader would learn of a new topic minutes later.
    read = [subscription.source for subscription in subscriptions if not isinstance(subscription.source, Binding)]
    channels = list({(type(channel), channel.name): channel for channel in (*read, *channels)}.values())
    safe = {"min.insync.replicas": str(max(1, replicas - 1))}
    topics: list[KafkaTopic] = []
    queues: list[RabbitQueue] = []
    bindings: list[RabbitBinding] = []
    for channel in channels:
        if isinstance(channel, Topic):
            topics.append(KafkaTopic(channel.name, channel.partitions, replicas, _log(channel) | safe))
        elif isinstance(channel, Queue):
            queues += _queues(channel.name, channel.retry.delays, channel.max_length)
    for subscription in subscriptions:
        if isinstance(subscription.source, Topic):
            topics += _side_topics(subscription, replicas, safe)
        elif isinstance(subscription.source, Binding):
            queues += _queues(subscription.name, subscription.retry.delays, WAITING_MAX)
            bindings += [RabbitBinding(subscription.channel, subscription.name, pattern) for pattern in subscription.source.patterns]
    exchanges = {channel.name for channel in channels if isinstance(channel, Exchange)} | {binding.exchange for binding in bindings}
    return Topology(tuple(topics), tuple(map(RabbitExchange, sorted(exchanges))), tuple(queues), tuple(bindings))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _log(topic: Topic) -> dict[str, str]:
    kept = str(_milliseconds(topic.retention.total_seconds()))
    return {"cleanup.policy": "delete", "retention.ms": kept, "max.message.bytes": str(MESSAGE_BYTES)}


def _side_topics(subscription: Subscription, replicas: int, safe: Mapping[str, str]) -> list[KafkaTopic]:
    """Where a reader's dead letters lie (compacted: a redriven one is deleted by its key), and where they come back to this reader alone."""
    large = {"max.message.bytes": str(2 * MESSAGE_BYTES), **safe}
    return [
        KafkaTopic(dead_letter_topic(subscription.name), 1, replicas, {"cleanup.policy": "compact", **large}),
        KafkaTopic(retry_topic(subscription.name), 1, replicas, {"cleanup.policy": "delete", "retention.ms": str(7 * 86_400_000), **large}),
    ]


def _queues(name: str, delays: Sequence[float], longest: int) -> list[RabbitQueue]:
    """A work queue with its retry tiers and its dead letters. One active consumer at a time keeps the order of keys across replicas."""
    bounded: dict[str, str | int] = {"max-length": longest, "overflow": "reject-publish"}
    to_dead, back = _sends_to(dead_letter_queue(name)), _sends_to(name)
    work = RabbitQueue(
        name,
        {**bounded, **to_dead, "delivery-limit": DELIVERIES_MAX},
        {"x-queue-type": "quorum", "x-single-active-consumer": True},
    )
    tiers = [
        RabbitQueue(retry_queue(name, tier), {**bounded, **back, "message-ttl": _milliseconds(delay)})
        for tier, delay in enumerate(delays, 1)
    ]
    dead = RabbitQueue(dead_letter_queue(name), {**bounded, "delivery-limit": DELIVERIES_MAX})
    return [work, *tiers, dead]


def _sends_to(queue: str) -> dict[str, str | int]:
    return {"dead-letter-exchange": "", "dead-letter-routing-key": queue, "dead-letter-strategy": "at-least-once"}
