"""The settings that RabbitMQ takes from policies: a queue's own limits, and the whole list for RabbitMQPolicy."""

from caravan_operator.resources.schema import (
    Schema,
    cel_rule,
    duration_schema,
    enum_schema,
    integer_schema,
    map_schema,
    string_schema,
)

_MAX_INTEGER = 2**53

LIMITS: dict[str, Schema] = {
    "messageTtl": duration_schema("How long a message may wait.", "0s", "87600h"),
    "maxLength": integer_schema("Most messages that may wait.", 0, _MAX_INTEGER),
    "maxLengthBytes": integer_schema("Most bytes that may wait.", 0, _MAX_INTEGER),
    "overflow": enum_schema("What happens to a message too many.", "drop-head", "reject-publish", "reject-publish-dlx"),
    "deliveryLimit": integer_schema(
        "How often a quorum queue delivers a message before it is dead-lettered.", 0, 1_000_000
    ),
    "deadLetterExchange": string_schema(
        "Exchange for messages that are rejected, expired or too many; '' is the default exchange.", max_length=255
    ),
    "deadLetterRoutingKey": string_schema("Routing key of dead letters. Default: the message's own.", max_length=255),
    "deadLetterStrategy": enum_schema("Whether a dead letter may be lost on the way.", "at-most-once", "at-least-once"),
    "expires": duration_schema("Delete the queue after so long without use.", "1ms", "87600h"),
}

POLICY_KEYS: dict[str, Schema] = {
    **LIMITS,
    "alternateExchange": string_schema("Exchange for messages that nothing is bound for.", max_length=255),
    "consumerTimeout": duration_schema("How long a consumer may take to acknowledge.", "1m", "87600h"),
    "queueLeaderLocator": enum_schema("Where the leader of a new queue is placed.", "client-local", "balanced"),
    "targetGroupSize": integer_schema("Members that a quorum queue should have.", 1, 99),
    "maxAge": string_schema(
        "How long a stream keeps messages, such as 7D.", max_length=20, pattern=r"^[0-9]+[YMDhms]$"
    ),
    "streamMaxSegmentSizeBytes": integer_schema("Size of a stream's segment file.", 0, 3_000_000_000),
    "federationUpstream": string_schema("Upstream to federate with.", max_length=255),
    "federationUpstreamSet": string_schema("Set of upstreams to federate with.", max_length=255),
    "extra": map_schema(
        "Further keys by RabbitMQ's names, with text or whole numbers.",
        {"x-kubernetes-int-or-string": True, "description": "A string or a whole number.", "maxLength": 1024},
        16,
        rules=(
            cel_rule("self.all(key, key.matches('^[a-z]+(-[a-z]+)*$'))", "keys are RabbitMQ's names, such as max-age"),
        ),
    ),
}

DURATION_KEYS = frozenset({"messageTtl", "expires", "consumerTimeout"})
"""Keys that RabbitMQ takes in milliseconds."""
