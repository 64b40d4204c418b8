"""The AsyncAPI 3.0 document of all channels, generated from their declarations."""

from collections.abc import Iterable
from typing import Any

from pydantic.json_schema import models_json_schema

from caravan.messages import Channel, Exchange, Message, Queue, Topic, list_message_types

Document = dict[str, Any]

SCHEMAS = "#/components/schemas/"
DESCRIPTION = (
    "Events are facts on Kafka topics, keyed and in order per key."
    " Commands are tasks for one owner on RabbitMQ queues. The exchange announces to\nwhoever binds a queue."
    " Every message is JSON in an envelope with CloudEvents names, may come twice,"
    " and is read leniently: unknown fields are ignored."
)
ENVELOPE: Document = {
    "type": "object",
    "description": "CloudEvents names around the payload in `data`.",
    "required": ["specversion", "id", "type", "source", "subject", "time", "datacontenttype", "dataversion", "data"],
    "properties": {
        "specversion": {"type": "string", "const": "1.0"},
        "id": {
            "type": "string",
            "format": "uuid",
            "description": "Made once, where the message was: a repetition has the same.",
        },
        "type": {"type": "string", "description": "`<service>.<Class>`"},
        "source": {"type": "string", "examples": ["/caravan/orders"]},
        "subject": {"type": "string", "description": "The key: messages of one key come in order."},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"type": "string", "const": "application/json"},
        "dataversion": {"type": "integer", "minimum": 1, "description": "Raised when a field is added."},
        "traceparent": {"type": "string", "description": "W3C trace context."},
        "tracestate": {"type": "string", "description": "W3C: the span that made it, where that is in another trace."},
        "actor": {"type": "string", "description": "Who set it off: `<role>:<id>`."},
        "causationid": {"type": "string", "description": "Id of the message that this one answers."},
        "data": {"type": "object"},
    },
}


def build_asyncapi(channels: Iterable[Channel], version: str) -> Document:
    channels = sorted(channels, key=lambda channel: (type(channel).__name__ != "Topic", channel.name))
    message_types = sorted(
        {kind for channel in channels for kind in list_message_types(channel)}, key=lambda kind: kind.type
    )
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Caravan messages", "version": version, "description": DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {_build_channel_key(channel): _describe_channel(channel) for channel in channels},
        "operations": dict(_describe_operation(channel) for channel in channels),
        "components": {
            "messages": {kind.type: _describe_message(kind) for kind in message_types},
            "schemas": _collect_schemas(message_types),
        },
    }


def _build_channel_key(channel: Channel) -> str:
    """An exchange may be named like a topic or a queue."""
    return f"{type(channel).__name__.lower()}.{channel.name}"


def _describe_channel(channel: Channel) -> Document:
    return {
        "address": channel.name,
        "title": channel.name,
        "description": f"{channel.purpose} Owner: {channel.owner}. Key: {channel.key}.",
        "messages": {kind.type: {"$ref": f"#/components/messages/{kind.type}"} for kind in list_message_types(channel)},
        "tags": [{"name": type(channel).__name__.lower()}, {"name": channel.owner}],
        "bindings": _describe_bindings(channel),
    }


def _describe_bindings(channel: Channel) -> Document:
    match channel:
        case Topic(partitions=partitions, retention=retention):
            milliseconds = int(retention.total_seconds() * 1000)
            return {
                "kafka": {
                    "topic": channel.name,
                    "partitions": partitions,
                    "topicConfiguration": {"retention.ms": milliseconds},
                }
            }
        case Queue():
            return {
                "amqp": {
                    "is": "queue",
                    "queue": {"name": channel.name, "durable": True, "exclusive": False, "autoDelete": False},
                }
            }
        case Exchange():
            return {
                "amqp": {
                    "is": "routingKey",
                    "exchange": {"name": channel.name, "type": "topic", "durable": True, "autoDelete": False},
                }
            }


def _describe_operation(channel: Channel) -> tuple[str, Document]:
    """As the owner does it: events are sent, commands received."""
    action = "receive" if isinstance(channel, Queue) else "send"
    summary = f"{channel.owner} {'takes' if action == 'receive' else 'publishes'} these messages."
    return f"{action}.{_build_channel_key(channel)}", {
        "action": action,
        "channel": {"$ref": f"#/channels/{_build_channel_key(channel)}"},
        "summary": summary,
    }


def _describe_message(message_type: type[Message]) -> Document:
    payload = {"type": {"const": message_type.type}, "data": {"$ref": SCHEMAS + message_type.type}}
    return {
        "name": message_type.type,
        "title": message_type.__name__,
        "summary": " ".join((message_type.__doc__ or "").split()),
        "contentType": "application/json",
        "correlationId": {"location": "$message.payload#/id"},
        "payload": {"allOf": [{"$ref": SCHEMAS + "Envelope"}, {"type": "object", "properties": payload}]},
    }


def _collect_schemas(message_types: list[type[Message]]) -> Document:
    """Each payload under its wire name; shapes inside of them under their own (two that differ get their module's name
    from pydantic).

    Fields with a default may be absent: a channel still holds events of earlier versions, which didn't have them."""
    references, document = models_json_schema(
        [(kind, "validation") for kind in message_types], ref_template=SCHEMAS + "{model}"
    )
    schemas: Document = {"Envelope": ENVELOPE, **document.get("$defs", {})}
    for kind in message_types:
        schemas[kind.type] = schemas.pop(references[kind, "validation"]["$ref"].removeprefix(SCHEMAS))
    return schemas
