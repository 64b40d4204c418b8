"""Fields and rules that several kinds of RabbitMQ share, and how the operator names its own policies."""

from caravan_operator.resources.schema import (
    Schema,
    cel_rule,
    string_schema,
)

LIMITS_POLICY = "caravan.queue."
"""Prefix of the policy that carries a queue's limits; only the operator makes policies with such names."""
LIMITS_PRIORITY = 2000
"""Above every RabbitMQPolicy: one policy applies to a queue, and its own limits win."""

CONNECTION_KIND = "RabbitMQConnection"
NO_DOTS_RULE = cel_rule("self != '.' && self != '..'", "the management API has no address for the names . and ..")
VHOST_SCHEMA = string_schema(
    "Virtual host. Immutable.", max_length=255, min_length=1, rules=(NO_DOTS_RULE,), default="/"
)
NOT_AMQ_RULE = cel_rule("!self.startsWith('amq.')", "names that start with amq. belong to the broker")


def name_schema(noun: str) -> Schema:
    return string_schema(
        f"Name of the {noun}. Default: metadata.name. Immutable.",
        max_length=255,
        min_length=1,
        rules=(NOT_AMQ_RULE, NO_DOTS_RULE),
    )
