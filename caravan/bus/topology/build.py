"""Builds the topology of declared channels and their readers, and names what they need besides. Pure.

Every limit of a queue (time-to-live of a retry tier, where dead letters go, lengths) is in one policy per queue: a
policy can change while the queue exists, and an argument would override it. A queue's arguments hold only what no
policy can set.
"""

from collections.abc import Iterable, Mapping, Sequence

from caravan.bus import Subscription
from caravan.bus.topology.objects import KafkaTopic, RabbitBinding, RabbitExchange, RabbitQueue, Topology
from caravan.messages import Binding, Channel, Exchange, Queue, Topic

_MESSAGE_BYTES = 1_048_588
"""Kafka's own default, declared: the largest batch of a topic. Dead letters and redriven messages carry headers
besides, so theirs may be twice as large.
"""
_WAITING_MAX = 1_000_000
"""Most messages of a queue whose declaration names no other number. Above it publishing is refused, and the sender's
outbox keeps them.
"""
_DELIVERIES_MAX = 1_000_000
"""Attempts are counted by us. The broker's own limit (20 by default) would drop what is only looked at, or held while a
consumer restarts.
"""


def get_dead_letter_topic(subscription: str) -> str:
    return f"{subscription}.dlq"


def get_retry_topic(subscription: str) -> str:
    return f"{subscription}.retry"


def get_dead_letter_queue(queue: str) -> str:
    return f"{queue}.dlq"


def get_retry_queue(queue: str, tier: int) -> str:
    return f"{queue}.retry.{tier}"


def build_topology(
    channels: Iterable[Channel], subscriptions: Sequence[Subscription], *, replicas: int = 1
) -> Topology:
    """What these channels and readers need. `replicas`: of every topic; with more than one, a write waits for all but
    one of them.
    """
    # What is read is made, too: its owner may never have run, and a reader would learn of a new topic minutes later.
    read_channels = [
        subscription.source for subscription in subscriptions if not isinstance(subscription.source, Binding)
    ]
    channels = list({(type(channel), channel.name): channel for channel in (*read_channels, *channels)}.values())
    durability_config = {"min.insync.replicas": str(max(1, replicas - 1))}
    topics: list[KafkaTopic] = []
    queues: list[RabbitQueue] = []
    bindings: list[RabbitBinding] = []
    for channel in channels:
        if isinstance(channel, Topic):
            topics.append(
                KafkaTopic(channel.name, channel.partitions, replicas, _build_topic_config(channel) | durability_config)
            )
        elif isinstance(channel, Queue):
            queues += _build_queues(channel.name, channel.retry.delays, channel.max_length)
    for subscription in subscriptions:
        if isinstance(subscription.source, Topic):
            topics += _build_side_topics(subscription, replicas, durability_config)
        elif isinstance(subscription.source, Binding):
            queues += _build_queues(subscription.name, subscription.retry.delays, _WAITING_MAX)
            bindings += [
                RabbitBinding(subscription.channel, subscription.name, pattern)
                for pattern in subscription.source.patterns
            ]
    exchanges = {channel.name for channel in channels if isinstance(channel, Exchange)} | {
        binding.exchange for binding in bindings
    }
    return Topology(tuple(topics), tuple(map(RabbitExchange, sorted(exchanges))), tuple(queues), tuple(bindings))


def _to_milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _build_topic_config(topic: Topic) -> dict[str, str]:
    retention_ms = str(_to_milliseconds(topic.retention.total_seconds()))
    return {"cleanup.policy": "delete", "retention.ms": retention_ms, "max.message.bytes": str(_MESSAGE_BYTES)}


def _build_side_topics(
    subscription: Subscription, replicas: int, durability_config: Mapping[str, str]
) -> list[KafkaTopic]:
    """Where a reader's dead letters lie (compacted: a redriven one is deleted by its key), and where they come back to
    this reader alone.
    """
    config = {"max.message.bytes": str(2 * _MESSAGE_BYTES), **durability_config}
    return [
        KafkaTopic(get_dead_letter_topic(subscription.name), 1, replicas, {"cleanup.policy": "compact", **config}),
        KafkaTopic(
            get_retry_topic(subscription.name),
            1,
            replicas,
            {"cleanup.policy": "delete", "retention.ms": str(7 * 86_400_000), **config},
        ),
    ]


def _build_queues(name: str, delays: Sequence[float], max_length: int) -> list[RabbitQueue]:
    """A work queue with its retry tiers and its dead letters. One active consumer at a time keeps the order of keys
    across replicas.
    """
    length_limits: dict[str, str | int] = {"max-length": max_length, "overflow": "reject-publish"}
    to_dead_letters, to_work_queue = (
        _build_dead_letter_limits(get_dead_letter_queue(name)),
        _build_dead_letter_limits(name),
    )
    work_queue = RabbitQueue(
        name,
        {**length_limits, **to_dead_letters, "delivery-limit": _DELIVERIES_MAX},
        {"x-queue-type": "quorum", "x-single-active-consumer": True},
    )
    retry_queues = [
        RabbitQueue(
            get_retry_queue(name, tier), {**length_limits, **to_work_queue, "message-ttl": _to_milliseconds(delay)}
        )
        for tier, delay in enumerate(delays, 1)
    ]
    dead_letter_queue = RabbitQueue(get_dead_letter_queue(name), {**length_limits, "delivery-limit": _DELIVERIES_MAX})
    return [work_queue, *retry_queues, dead_letter_queue]


def _build_dead_letter_limits(queue: str) -> dict[str, str | int]:
    return {"dead-letter-exchange": "", "dead-letter-routing-key": queue, "dead-letter-strategy": "at-least-once"}
