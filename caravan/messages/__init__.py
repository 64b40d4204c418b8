"""Messages and the channels they travel on, each declared once.

An `Event` is a fact in the past tense, published on a `Topic` (a log) or announced on an `Exchange`
(publish/subscribe). A `Command` is an order to one owner, sent to that owner's `Queue`. Documentation, topology and the
custom resources are generated from these declarations.

`declarations.py` has what services declare, `envelope.py` writes and reads it as JSON.
"""

from caravan.messages.declarations import (
    KEPT,
    Binding,
    Channel,
    ChannelType,
    Command,
    Event,
    Exchange,
    Message,
    Queue,
    RetryPolicy,
    Source,
    Topic,
    build_routing_regex,
    list_message_types,
)
from caravan.messages.envelope import (
    MAX_BYTES,
    Delivery,
    MalformedMessage,
    MessageTooLarge,
    OutgoingMessage,
    decode_message,
    encode_message,
)

__all__ = [
    "KEPT",
    "MAX_BYTES",
    "Binding",
    "Channel",
    "ChannelType",
    "Command",
    "Delivery",
    "Event",
    "Exchange",
    "MalformedMessage",
    "Message",
    "MessageTooLarge",
    "OutgoingMessage",
    "Queue",
    "RetryPolicy",
    "Source",
    "Topic",
    "build_routing_regex",
    "decode_message",
    "encode_message",
    "list_message_types",
]
