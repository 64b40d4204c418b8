"""FastStream's Kafka broker with subscribers that a `GroupReader` drives: FastStream makes the consumer, starts and
stops it, and runs each batch through its middlewares to the handler; the reader decides which batch is next.

FastStream offers no way to make a subscriber without its loop, so this builds one from the parts that its own
`subscriber()` uses; that is why its version is pinned below the next minor one.
"""

from collections.abc import Sequence
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.abc import ConsumerRebalanceListener
from faststream import AckPolicy
from faststream._internal.broker.registrator import Registrator
from faststream._internal.endpoint.subscriber import SubscriberUsecase
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.kafka import KafkaBroker
from faststream.kafka.configs import KafkaBrokerConfig
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage
from faststream.kafka.schemas import Topic
from faststream.kafka.subscriber.config import KafkaSubscriberConfig, KafkaSubscriberSpecificationConfig
from faststream.kafka.subscriber.specification import KafkaSubscriberSpecification
from faststream.kafka.subscriber.usecase import BatchSubscriber

from caravan.bus import BatchHandler, IncomingMessage, Subscription
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.observation import BatchObserver
from caravan.bus.opening import finish_opening
from caravan.bus.pipeline import ObserverMiddleware, get_batch


async def _parse_batch(batch: list[IncomingMessage]) -> KafkaMessage:
    """The headers of the records are not read: the inbox reads the envelopes."""
    first: ConsumerRecord = batch[0].handle
    identifier = f"{first.topic}/{first.partition}/{first.offset}"
    return KafkaMessage(
        raw_message=tuple([incoming.handle for incoming in batch]),
        body=batch,
        message_id=identifier,
        correlation_id=identifier,
        consumer=FAKE_CONSUMER,  # the reader commits
    )


_FETCH_AGAIN_SECONDS = 600.0
"""So long a broker is asked for nothing while messages that it gave wait to be handled: until the group goes on without
this reader. By itself the client asks again after a tenth of a second, for the other partitions; when these have
nothing, the broker keeps that question for as long as it may, and what it gets of the first one waits for the answer.
"""


class GroupSubscriber(BatchSubscriber):
    """A member of a consumer group without a loop of its own."""

    observer: BatchObserver

    async def start(self) -> None:
        """Subscribes only when the consumer has started: one that starts with a subscription waits for its topics to
        exist, for ever.
        """
        await SubscriberUsecase.start(self)
        consumer = self.consumer = self.builder(
            group_id=self.group_id, client_id=self.client_id, **self._connection_args
        )
        await finish_opening(consumer.start())
        consumer._fetcher._prefetch_backoff = _FETCH_AGAIN_SECONDS
        consumer.subscribe(self.topic_names_for_subscribe, listener=self._listener)
        self._post_start()

    def get_consumer(self) -> AIOKafkaConsumer:
        assert self.consumer is not None, "the subscriber has not started"
        return self.consumer


def build_broker(servers: KafkaServers, client: str, **options: Any) -> KafkaBroker:
    """It makes the consumers of a process, and produces nothing: `producer.py` does, with each message's own key."""
    return KafkaBroker(
        servers.addresses,
        client_id=client,
        consumer_only=True,
        allow_auto_create_topics=False,
        middlewares=[ObserverMiddleware],
        graceful_timeout=None,  # a reader ends its batch itself before it stops its subscriber
        logger=None,
        apply_types=False,
        serializer=None,
        **options,
    )


def add_subscriber(
    broker: KafkaBroker,
    subscription: Subscription,
    topics: Sequence[str],
    handler: BatchHandler,
    *,
    listener: ConsumerRebalanceListener | None = None,
    settings: dict[str, Any],
) -> GroupSubscriber:
    """The broker does not keep it: it is gone with the reader that uses it. `settings` are the consumer's,
    with its TLS and login."""
    outer_config = cast(KafkaBrokerConfig, broker.config)
    declared_topics = [Topic(name, declare=False) for name in topics]
    calls: CallsCollection[Any] = CallsCollection()
    config = KafkaSubscriberConfig(
        topics=declared_topics,
        group_id=subscription.name,
        listener=listener,
        connection_args=dict(settings),
        no_reply=True,
        _outer_config=outer_config,
        _ack_policy=AckPolicy.MANUAL,
    )
    specification_config = KafkaSubscriberSpecificationConfig(
        topics=declared_topics, title_=subscription.name, description_=None, include_in_schema=False
    )
    specification = KafkaSubscriberSpecification(
        _outer_config=outer_config, calls=calls, specification_config=specification_config
    )
    subscriber = GroupSubscriber(config, specification, calls, batch_timeout_ms=0, max_records=None)
    subscriber._parser = _parse_batch
    subscriber.observer = BatchObserver(subscription, "kafka")
    Registrator.subscriber(broker, subscriber, persistent=False)
    subscriber.add_call(parser_=None, decoder_=get_batch, dependencies_=())
    subscriber(handler)
    return subscriber
