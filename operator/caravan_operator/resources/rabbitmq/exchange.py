"""RabbitMQExchange."""

from caravan_operator.resources.kinds import Column, Kind
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
    object_schema,
)

RABBITMQ_EXCHANGE = Kind(
    name="RabbitMQExchange",
    plural="rabbitmqexchanges",
    short_name="rexchange",
    description="An exchange on a RabbitMQ cluster.",
    connection_kind=CONNECTION_KIND,
    spec=object_schema(
        "The exchange as it should be. All but the policies are immutable.",
        {
            **owned_spec_fields(CONNECTION_KIND, "nothing is bound to the exchange"),
            "name": name_schema("exchange"),
            "vhost": VHOST_SCHEMA,
            "type": enum_schema(
                "How it routes. Immutable.",
                "direct",
                "fanout",
                "topic",
                "headers",
                "x-consistent-hash",
                "x-modulus-hash",
                "x-local-random",
                "x-delayed-message",
                default="direct",
            ),
            "durable": boolean_schema("Whether it survives a restart of the broker. Immutable.", default=True),
            "autoDelete": boolean_schema("Whether it goes away with its last binding. Immutable.", default=False),
            "internal": boolean_schema("Whether only other exchanges may publish to it. Immutable.", default=False),
            "arguments": object_schema(
                "What only the declaration can say. Immutable.",
                {
                    "delayedType": enum_schema(
                        "With type x-delayed-message: how it routes after the delay.",
                        "direct",
                        "fanout",
                        "topic",
                        "headers",
                    )
                },
            ),
        },
        required=("connectionRef",),
        rules=(
            IMMUTABLE_CONNECTION_RULE,
            *immutable_field_rules("name", "vhost", "type", "durable", "autoDelete", "internal", "arguments"),
            cel_rule(
                "(self.type == 'x-delayed-message') == (has(self.arguments) && has(self.arguments.delayedType))",
                "arguments.delayedType goes with type x-delayed-message, and only with it",
                ".arguments",
            ),
        ),
    ),
    status=owned_status_schema(),
    columns=owned_columns(Column("Type", ".spec.type"), Column("Vhost", ".spec.vhost", priority=1)),
)
