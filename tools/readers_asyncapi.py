"""Builds `docs/asyncapi-readers.json`: who reads what, as FastStream describes the readers of all services.

`docs/asyncapi.json` is of channels and messages, and the gateway serves it; this one has an operation per subscription,
with its group or queue and its bindings. A reader takes batches, so its payload is an array. FastStream's order of
schemas changes from run to run, so everything is sorted.
"""

from collections.abc import Sequence
from typing import Any, Literal, Union, cast
from uuid import UUID

import orjson
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.rabbit import ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.specification import AsyncAPI
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, create_model

from caravan.bus import Subscription
from caravan.consumers import Consumer
from caravan.messages import Binding, Message, Queue, Topic
from caravan.runtime.backends import list_consumers
from caravan.service import Service


class Envelope(BaseModel):
    """CloudEvents names around the payload in `data`."""

    model_config = ConfigDict(extra="allow")
    specversion: Literal["1.0"]
    id: UUID
    source: str
    subject: str
    time: AwareDatetime
    datacontenttype: Literal["application/json"]
    dataversion: int = Field(ge=1)
    traceparent: str | None = None
    tracestate: str | None = None
    actor: str | None = None
    causationid: str | None = None


class _EnvelopeTypes:
    """The envelope with each message in it, made once."""

    def __init__(self) -> None:
        self._by_message: dict[type[Message], type[Envelope]] = {}

    def get_payload(self, message_types: Sequence[type[Message]]) -> Any:
        envelopes = [self._get_envelope(each) for each in sorted(message_types, key=lambda each: each.type)]
        return envelopes[0] if len(envelopes) == 1 else Union[tuple(envelopes)]  # noqa: UP007 -- made at run time

    def _get_envelope(self, message_type: type[Message]) -> type[Envelope]:
        if message_type not in self._by_message:
            self._by_message[message_type] = create_model(
                message_type.type.replace(".", "_"),
                __base__=Envelope,
                __doc__=message_type.__doc__,
                type=(cast(Any, Literal[message_type.type]), ...),
                data=(message_type, ...),
            )
        return self._by_message[message_type]


def build_readers_asyncapi(services: Sequence[Service], version: str) -> dict[str, Any]:
    kafka = KafkaBroker("kafka:9092", logger=None)
    rabbitmq = RabbitBroker("amqp://rabbitmq/", logger=None)
    types = _EnvelopeTypes()
    for service in services:
        for consumer in list_consumers(service):
            subscriber = _add_subscriber(kafka, rabbitmq, consumer.subscription)
            subscriber(_make_handler(consumer, types))
    specification = AsyncAPI(kafka, rabbitmq, title="Caravan readers", version=version, schema_version="3.0.0")
    document = orjson.loads(specification.to_specification().to_json())
    return dict(_sort_document(document))


def _add_subscriber(kafka: KafkaBroker, rabbitmq: RabbitBroker, subscription: Subscription) -> Any:
    match subscription.source:
        case Topic() as topic:
            return kafka.subscriber(
                topic.name,
                group_id=subscription.name,
                batch=True,
                ack_policy=AckPolicy.MANUAL,
                title=subscription.name,
                description=topic.purpose,
            )
        case Queue() as queue:
            return rabbitmq.subscriber(
                RabbitQueue(queue.name, durable=True, queue_type=QueueType.QUORUM),
                ack_policy=AckPolicy.MANUAL,
                title=subscription.name,
                description=queue.purpose,
            )
        case Binding() as binding:
            return rabbitmq.subscriber(
                RabbitQueue(
                    binding.queue, durable=True, queue_type=QueueType.QUORUM, routing_key=", ".join(binding.patterns)
                ),
                RabbitExchange(binding.exchange.name, type=ExchangeType.TOPIC, durable=True),
                ack_policy=AckPolicy.MANUAL,
                title=subscription.name,
                description=binding.exchange.purpose,
            )


def _make_handler(consumer: Consumer, types: _EnvelopeTypes) -> Any:
    """FastStream reads a handler's name, docstring and annotation; this one has those of ours, and is never called."""

    async def handler(body: Any) -> None: ...

    payload = types.get_payload(list(consumer.accepted_types.values()))
    handler.__annotations__ = {"body": list[payload], "return": None}  # type: ignore[valid-type]
    handler.__name__ = consumer.handler.__name__
    handler.__doc__ = consumer.handler.__doc__
    return handler


def _sort_document(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _sort_document(node[key]) for key in sorted(node)}
    if isinstance(node, list):
        return [_sort_document(each) for each in node]
    return node
