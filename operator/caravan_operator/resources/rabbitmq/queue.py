"""RabbitMQQueue, with the limits that become one policy of its own."""

from caravan_operator.resources.kinds import Column, Kind
from caravan_operator.resources.limits import LIMITS
from caravan_operator.resources.ownership import (
    IMMUTABLE_CONNECTION_RULE,
    owned_columns,
    owned_spec_fields,
    owned_status_schema,
)
from caravan_operator.resources.rabbitmq.fields import CONNECTION_KIND, VHOST_SCHEMA, name_schema
from caravan_operator.resources.schema import (
    boolean_schema,
    cel_rule,
    enum_schema,
    immutable_field_rules,
    integer_schema,
    object_schema,
    string_schema,
)

RABBITMQ_QUEUE = Kind(
    name="RabbitMQQueue",
    plural="rabbitmqqueues",
    short_name="rqueue",
    description="A queue on a RabbitMQ cluster."
    " Its limits are one policy, so that they can change without a new queue.",
    connection_kind=CONNECTION_KIND,
    spec=object_schema(
        "The queue as it should be.",
        {
            **owned_spec_fields(CONNECTION_KIND, "the queue holds no messages and has no consumers"),
            "name": name_schema("queue"),
            "vhost": VHOST_SCHEMA,
            "type": enum_schema("Kind of queue. Immutable.", "quorum", "classic", "stream", default="quorum"),
            "durable": boolean_schema("Whether the queue survives a restart of the broker. Immutable.", default=True),
            "autoDelete": boolean_schema("Whether it goes away with its last consumer. Immutable.", default=False),
            "arguments": object_schema(
                "What only the declaration can say; everything that a policy can say is in limits. Immutable.",
                {
                    "singleActiveConsumer": boolean_schema("One consumer at a time (x-single-active-consumer)."),
                    "maxPriority": integer_schema("Priorities of a classic queue (x-max-priority).", 1, 255),
                    "initialGroupSize": integer_schema(
                        "Members of a quorum queue at the start (x-quorum-initial-group-size).", 1, 99
                    ),
                },
            ),
            "limits": object_schema(
                "What may wait in the queue, and where it goes otherwise. Can change at any time.", LIMITS
            ),
            "onImmutableDrift": enum_schema(
                "What happens when the queue on the broker has another type or other arguments. Report (the default) "
                "says so; RecreateIfEmpty deletes it, when "
                "it has no messages and no consumers, and makes it anew.",
                "Report",
                "RecreateIfEmpty",
            ),
        },
        required=("connectionRef",),
        rules=(
            IMMUTABLE_CONNECTION_RULE,
            *immutable_field_rules("name", "vhost", "type", "durable", "autoDelete", "arguments"),
            cel_rule(
                "self.type == 'classic' || (self.durable && !self.autoDelete)",
                "quorum queues and streams are durable and not autoDelete",
                ".type",
            ),
            cel_rule(
                "self.type == 'classic' || !has(self.arguments) || !has(self.arguments.maxPriority)",
                "maxPriority is for classic queues",
                ".arguments",
            ),
            cel_rule(
                "self.type == 'quorum' || !has(self.arguments) || !has(self.arguments.initialGroupSize)",
                "initialGroupSize is for quorum queues",
                ".arguments",
            ),
            cel_rule(
                "self.type == 'quorum' || !has(self.limits) || !has(self.limits.deliveryLimit)",
                "deliveryLimit is for quorum queues",
                ".limits",
            ),
            cel_rule(
                "self.type == 'quorum' || !has(self.limits) || !has(self.limits.deadLetterStrategy)",
                "deadLetterStrategy is for quorum queues",
                ".limits",
            ),
            cel_rule(
                "!has(self.limits) || !has(self.limits.deadLetterRoutingKey) || has(self.limits.deadLetterExchange)",
                "deadLetterRoutingKey needs deadLetterExchange ('' is the default exchange)",
                ".limits",
            ),
            cel_rule(
                "!has(self.limits) || !has(self.limits.deadLetterStrategy) || self.limits.deadLetterStrategy != "
                "'at-least-once' || "
                "(has(self.limits.overflow) && self.limits.overflow == 'reject-publish')",
                "deadLetterStrategy at-least-once needs overflow: reject-publish",
                ".limits",
            ),
            cel_rule(
                "self.type != 'stream' || !has(self.limits) || (!has(self.limits.messageTtl) && "
                "!has(self.limits.maxLength) && !has(self.limits.overflow) && "
                "!has(self.limits.deadLetterExchange) && !has(self.limits.expires))",
                "of the limits a stream knows maxLengthBytes only",
                ".limits",
            ),
        ),
    ),
    status=owned_status_schema(
        policy=string_schema("The policy that carries the limits.", max_length=300),
        policyConflict=string_schema("A policy of somebody else that applies instead.", max_length=300),
    ),
    columns=owned_columns(Column("Type", ".spec.type"), Column("Vhost", ".spec.vhost", priority=1)),
)
