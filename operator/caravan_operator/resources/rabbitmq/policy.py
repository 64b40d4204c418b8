"""RabbitMQPolicy."""

from caravan_operator.resources.kinds import Column, Kind
from caravan_operator.resources.limits import POLICY_KEYS
from caravan_operator.resources.ownership import (
    IMMUTABLE_CONNECTION_RULE,
    owned_columns,
    owned_spec_fields,
    owned_status_schema,
)
from caravan_operator.resources.rabbitmq.fields import CONNECTION_KIND, LIMITS_POLICY, NO_DOTS_RULE, VHOST_SCHEMA
from caravan_operator.resources.schema import (
    cel_rule,
    enum_schema,
    immutable_field_rules,
    integer_schema,
    object_schema,
    string_schema,
)

RABBITMQ_POLICY = Kind(
    name="RabbitMQPolicy",
    plural="rabbitmqpolicies",
    short_name="rpolicy",
    description="A policy on a RabbitMQ cluster: settings for every queue or exchange whose name matches.",
    connection_kind=CONNECTION_KIND,
    spec=object_schema(
        "The policy as it should be. Name and vhost are immutable.",
        {
            **owned_spec_fields(CONNECTION_KIND, "it exists: a policy holds nothing"),
            "name": string_schema(
                "Name of the policy. Default: metadata.name. Immutable.",
                max_length=255,
                min_length=1,
                rules=(
                    NO_DOTS_RULE,
                    cel_rule(
                        f"!self.startsWith('{LIMITS_POLICY}')",
                        f"names that start with {LIMITS_POLICY} carry the limits of a RabbitMQQueue",
                    ),
                ),
            ),
            "vhost": VHOST_SCHEMA,
            "pattern": string_schema(
                "Regular expression of the names that it applies to.", max_length=1024, min_length=1
            ),
            "applyTo": enum_schema(
                "What it applies to.",
                "all",
                "queues",
                "classic_queues",
                "quorum_queues",
                "streams",
                "exchanges",
                default="all",
            ),
            "priority": integer_schema("Of several policies the highest applies. Default: 0.", 0, 1000),
            "definition": object_schema("The settings; at least one.", POLICY_KEYS, minProperties=1),
        },
        required=("connectionRef", "pattern", "definition"),
        rules=(IMMUTABLE_CONNECTION_RULE, *immutable_field_rules("name", "vhost")),
    ),
    status=owned_status_schema(),
    columns=owned_columns(Column("Pattern", ".spec.pattern"), Column("Priority", ".spec.priority", "integer")),
)
