"""The settings that RabbitMQ takes from policies: a queue's own limits, and the whole list for RabbitMQPolicy."""

from caravan_operator.resources.schema import Schema, choice, duration, integer, mapping, rule, string

_INT64 = 2**53

LIMITS: dict[str, Schema] = {
    "messageTtl": duration("How long a message may wait.", "0s", "87600h"),
    "maxLength": integer("Most messages that may wait.", 0, _INT64),
    "maxLengthBytes": integer("Most bytes that may wait.", 0, _INT64),
    "overflow": choice("What happens to a message too many.", "drop-head", "reject-publish", "reject-publish-dlx"),
    "deliveryLimit": integer("How often a quorum queue delivers a message before it is dead-lettered.", 0, 1_000_000),
    "deadLetterExchange": string("Exchange for messages that are rejected, expired or too many; '' is the default exchange.", longest=255),
    "deadLetterRoutingKey": string("Routing key of dead letters. Default: the message's own.", longest=255),
    "deadLetterStrategy": choice("Whether a dead letter may be lost on the way.", "at-most-once", "at-least-once"),
    "expires": duration("Delete the queue after so long without use.", "1ms", "87600h"),
}

POLICY_KEYS: dict[str, Schema] = {
    **LIMITS,
    "alternateExchange": string("Exchange for messages that nothing is bound for.", longest=255),
    "consumerTimeout": duration("How long a consumer may take to acknowledge.", "1m", "87600h"),
    "queueLeaderLocator": choice("Where the leader of a new queue is placed.", "client-local", "balanced"),
    "targetGroupSize": integer("Members that a quorum queue should have.", 1, 99),
    "maxAge": string("How long a stream keeps messages, such as 7D.", longest=20, pattern=r"^[0-9]+[YMDhms]$"),
    "streamMaxSegmentSizeBytes": integer("Size of a stream's segment file.", 0, 3_000_000_000),
    "federationUpstream": string("Upstream to federate with.", longest=255),
    "federationUpstreamSet": string("Set of upstreams to federate with.", longest=255),
    "extra": mapping(
        "Further keys by RabbitMQ's names, with text or whole numbers.",
        {"x-kubernetes-int-or-string": True, "description": "A string or a whole number.", "maxLength": 1024},
        16,
        rules=(rule("self.all(key, key.matches('^[a-z]+(-[a-z]+)*$'))", "keys are RabbitMQ's names, such as max-age"),),
    ),
}

DURATIONS = frozenset({"messageTtl", "expires", "consumerTimeout"})
"""Keys that RabbitMQ takes in milliseconds."""
