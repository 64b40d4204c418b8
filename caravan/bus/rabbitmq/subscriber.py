"""FastStream's subscriber of a queue, driven by a `QueueReader`: FastStream starts and stops it and runs each batch
through its middlewares to the handler; the reader gathers the batch from the deliveries and acknowledges it.

FastStream has no batches on RabbitMQ and no way to make a subscriber without handling each delivery at once, so this
builds one from the parts that its own `subscriber()` uses; that is why its version is pinned below the next minor one.
"""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from faststream import AckPolicy
from faststream._internal.broker.registrator import Registrator
from faststream._internal.endpoint.subscriber import SubscriberUsecase
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.rabbit import RabbitBroker, RabbitQueue
from faststream.rabbit.configs import RabbitBrokerConfig
from faststream.rabbit.message import RabbitMessage
from faststream.rabbit.schemas import RabbitExchange
from faststream.rabbit.subscriber.config import RabbitSubscriberConfig, RabbitSubscriberSpecificationConfig
from faststream.rabbit.subscriber.specification import RabbitSubscriberSpecification
from faststream.rabbit.subscriber.usecase import RabbitSubscriber

from caravan.bus import BatchHandler, IncomingMessage, Subscription
from caravan.bus.observation import BatchObserver
from caravan.bus.pipeline import get_batch
from caravan.bus.rabbitmq.connections import close_channel

DeliveryCallback = Callable[[AbstractIncomingMessage], Awaitable[None]]


async def _parse_batch(batch: list[IncomingMessage]) -> RabbitMessage:
    identifier = batch[0].handle.message_id or "-"
    return RabbitMessage(
        raw_message=cast(Any, tuple([incoming.handle for incoming in batch])),
        body=batch,
        message_id=identifier,
        correlation_id=identifier,
    )


class QueueSubscriber(RabbitSubscriber):
    """A consumer on a channel of its own. Closing the channel ends it, and what was not acknowledged is back in its
    position: cancelling it first would let the next consumer start before that.
    """

    observer: BatchObserver
    delivery_channel: AbstractChannel
    receive_delivery: DeliveryCallback

    async def start(self) -> None:
        await SubscriberUsecase.start(self)
        queue = await self.delivery_channel.get_queue(self.queue.name, ensure=False)
        self._consumer_tag = await queue.consume(self.receive_delivery)
        self._post_start()

    async def stop(self) -> None:
        await super().stop()
        await close_channel(self.delivery_channel)


def add_subscriber(
    broker: RabbitBroker,
    subscription: Subscription,
    handler: BatchHandler,
    channel: AbstractChannel,
    receive_delivery: DeliveryCallback,
) -> QueueSubscriber:
    """The broker does not keep it: it is gone with the reader that uses it."""
    outer_config = cast(RabbitBrokerConfig, broker.config)
    queue, exchange = RabbitQueue(subscription.name, declare=False), RabbitExchange()
    calls: CallsCollection[Any] = CallsCollection()
    config = RabbitSubscriberConfig(
        queue=queue, exchange=exchange, no_reply=True, _outer_config=outer_config, _ack_policy=AckPolicy.MANUAL
    )
    specification_config = RabbitSubscriberSpecificationConfig(
        title_=subscription.name, description_=None, queue=queue, exchange=exchange, include_in_schema=False
    )
    specification = RabbitSubscriberSpecification(
        _outer_config=outer_config, calls=calls, specification_config=specification_config
    )
    subscriber = QueueSubscriber(config, specification, calls)
    subscriber._parser = _parse_batch
    subscriber.observer = BatchObserver(subscription, "rabbitmq")
    subscriber.delivery_channel = channel
    subscriber.receive_delivery = receive_delivery
    Registrator.subscriber(broker, subscriber, persistent=False)
    subscriber.add_call(parser_=None, decoder_=get_batch, dependencies_=())
    subscriber(handler)
    return subscriber
