"""RabbitMQBinding."""

from caravan_operator.resources.kinds import Column, Kind
from caravan_operator.resources.ownership import (
    IMMUTABLE_CONNECTION_RULE,
    owned_columns,
    owned_spec_fields,
    owned_status_schema,
)
from caravan_operator.resources.rabbitmq.fields import CONNECTION_KIND, NO_DOTS_RULE, VHOST_SCHEMA
from caravan_operator.resources.schema import (
    enum_schema,
    immutable_field_rules,
    map_schema,
    object_schema,
    string_schema,
)

RABBITMQ_BINDING = Kind(
    name="RabbitMQBinding",
    plural="rabbitmqbindings",
    short_name="rbinding",
    description="A binding from an exchange to a queue or another exchange. It waits until both are there.",
    connection_kind=CONNECTION_KIND,
    spec=object_schema(
        "The binding. All but the policies are immutable.",
        {
            **owned_spec_fields(CONNECTION_KIND, "it exists: a binding holds nothing"),
            "vhost": VHOST_SCHEMA,
            "source": string_schema(
                "Exchange that messages come from. Immutable.", max_length=255, min_length=1, rules=(NO_DOTS_RULE,)
            ),
            "destination": string_schema(
                "Queue or exchange that they go to. Immutable.", max_length=255, min_length=1, rules=(NO_DOTS_RULE,)
            ),
            "destinationType": enum_schema("What the destination is. Immutable.", "queue", "exchange", default="queue"),
            "routingKey": string_schema(
                "Routing key or pattern. Default: empty. Immutable.", max_length=255, rules=(NO_DOTS_RULE,)
            ),
            "arguments": map_schema(
                "Arguments, such as those of a headers exchange. Immutable.",
                {"x-kubernetes-int-or-string": True, "description": "A string or a whole number.", "maxLength": 1024},
                16,
            ),
        },
        required=("connectionRef", "source", "destination"),
        rules=(
            IMMUTABLE_CONNECTION_RULE,
            *immutable_field_rules("vhost", "source", "destination", "destinationType", "routingKey", "arguments"),
        ),
    ),
    status=owned_status_schema(),
    columns=owned_columns(
        Column("Source", ".spec.source"),
        Column("Destination", ".spec.destination"),
        Column("Key", ".spec.routingKey", priority=1),
    ),
)
