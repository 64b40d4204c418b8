"""RabbitMQConnection, RabbitMQQueue, RabbitMQExchange, RabbitMQBinding and RabbitMQPolicy."""

from caravan_operator.resources.kinds import Column, Kind
from caravan_operator.resources.limits import LIMITS, POLICY_KEYS
from caravan_operator.resources.ownership import (
    IMMUTABLE_CONNECTION_RULE,
    allowed_namespaces_schema,
    connection_columns,
    connection_status_schema,
    owned_columns,
    owned_spec_fields,
    owned_status_schema,
    secret_ref_schema,
)
from caravan_operator.resources.schema import (
    Schema,
    array_schema,
    boolean_schema,
    cel_rule,
    duration_schema,
    enum_schema,
    immutable_field_rules,
    integer_schema,
    map_schema,
    object_schema,
    string_schema,
)

LIMITS_POLICY = "caravan.queue."
"""Prefix of the policy that carries a queue's limits; only the operator makes policies with such names."""
LIMITS_PRIORITY = 2000
"""Above every RabbitMQPolicy: one policy applies to a queue, and its own limits win."""

_CONNECTION = "RabbitMQConnection"
_NO_DOTS_RULE = cel_rule("self != '.' && self != '..'", "the management API has no address for the names . and ..")
_VHOST_SCHEMA = string_schema(
    "Virtual host. Immutable.", max_length=255, min_length=1, rules=(_NO_DOTS_RULE,), default="/"
)
_NOT_AMQ_RULE = cel_rule("!self.startsWith('amq.')", "names that start with amq. belong to the broker")


def _name_schema(noun: str) -> Schema:
    return string_schema(
        f"Name of the {noun}. Default: metadata.name. Immutable.",
        max_length=255,
        min_length=1,
        rules=(_NOT_AMQ_RULE, _NO_DOTS_RULE),
    )


RABBITMQ_CONNECTION = Kind(
    name=_CONNECTION,
    plural="rabbitmqconnections",
    short_name="rconn",
    description="A RabbitMQ cluster, reached by its management API.",
    spec=object_schema(
        "The cluster.",
        {
            "managementUrl": string_schema(
                "Address of the management API, such as https://rabbitmq:15671: scheme, host and port.",
                max_length=300,
                min_length=8,
                pattern=r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$",
            ),
            "allowInsecure": boolean_schema("Allow http: the password travels in the clear. Default: false."),
            "secretRef": secret_ref_schema(
                "User name and password. Read again when the Secret changes.", "username, password"
            ),
            "tls": object_schema(
                "Certificates.",
                {
                    "caSecretRef": secret_ref_schema(
                        "The certificate authority to trust. Default: the system's.", "ca.crt"
                    )
                },
            ),
            "vhosts": array_schema(
                "Virtual hosts that resources may use. Default: every one.",
                string_schema("A virtual host.", max_length=255, min_length=1, rules=(_NO_DOTS_RULE,)),
                100,
                min_items=1,
            ),
            "requestTimeout": duration_schema("How long one request may take. Default: 30s.", "1s", "5m"),
            "maxInFlight": integer_schema("Requests at a time. Default: 4.", 1, 16),
            "batch": object_schema(
                "How changes are put together.",
                {
                    "size": integer_schema("Most objects in one pass. Default: 100.", 1, 500),
                    "linger": duration_schema("How long to wait for a batch to fill. Default: 100ms.", "0s", "5s"),
                },
            ),
            "allowedNamespaces": allowed_namespaces_schema(),
        },
        required=("managementUrl", "secretRef"),
        rules=(
            cel_rule(
                "self.managementUrl.startsWith('https://') || (has(self.allowInsecure) && self.allowInsecure)",
                "managementUrl must be https, or allowInsecure: true",
                ".managementUrl",
            ),
            cel_rule("!has(self.tls) || self.managementUrl.startsWith('https://')", "tls goes with https", ".tls"),
        ),
    ),
    status=connection_status_schema(
        version=string_schema("Version of RabbitMQ.", max_length=64),
        clusterName=string_schema("Name of the cluster.", max_length=256),
    ),
    columns=connection_columns(
        Column("Version", ".status.version"), Column("Cluster", ".status.clusterName", priority=1)
    ),
)

RABBITMQ_QUEUE = Kind(
    name="RabbitMQQueue",
    plural="rabbitmqqueues",
    short_name="rqueue",
    description="A queue on a RabbitMQ cluster."
    " Its limits are one policy, so that they can change without a new queue.",
    connection_kind=_CONNECTION,
    spec=object_schema(
        "The queue as it should be.",
        {
            **owned_spec_fields(_CONNECTION, "the queue holds no messages and has no consumers"),
            "name": _name_schema("queue"),
            "vhost": _VHOST_SCHEMA,
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

RABBITMQ_EXCHANGE = Kind(
    name="RabbitMQExchange",
    plural="rabbitmqexchanges",
    short_name="rexchange",
    description="An exchange on a RabbitMQ cluster.",
    connection_kind=_CONNECTION,
    spec=object_schema(
        "The exchange as it should be. All but the policies are immutable.",
        {
            **owned_spec_fields(_CONNECTION, "nothing is bound to the exchange"),
            "name": _name_schema("exchange"),
            "vhost": _VHOST_SCHEMA,
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

RABBITMQ_BINDING = Kind(
    name="RabbitMQBinding",
    plural="rabbitmqbindings",
    short_name="rbinding",
    description="A binding from an exchange to a queue or another exchange. It waits until both are there.",
    connection_kind=_CONNECTION,
    spec=object_schema(
        "The binding. All but the policies are immutable.",
        {
            **owned_spec_fields(_CONNECTION, "it exists: a binding holds nothing"),
            "vhost": _VHOST_SCHEMA,
            "source": string_schema(
                "Exchange that messages come from. Immutable.", max_length=255, min_length=1, rules=(_NO_DOTS_RULE,)
            ),
            "destination": string_schema(
                "Queue or exchange that they go to. Immutable.", max_length=255, min_length=1, rules=(_NO_DOTS_RULE,)
            ),
            "destinationType": enum_schema("What the destination is. Immutable.", "queue", "exchange", default="queue"),
            "routingKey": string_schema(
                "Routing key or pattern. Default: empty. Immutable.", max_length=255, rules=(_NO_DOTS_RULE,)
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

RABBITMQ_POLICY = Kind(
    name="RabbitMQPolicy",
    plural="rabbitmqpolicies",
    short_name="rpolicy",
    description="A policy on a RabbitMQ cluster: settings for every queue or exchange whose name matches.",
    connection_kind=_CONNECTION,
    spec=object_schema(
        "The policy as it should be. Name and vhost are immutable.",
        {
            **owned_spec_fields(_CONNECTION, "it exists: a policy holds nothing"),
            "name": string_schema(
                "Name of the policy. Default: metadata.name. Immutable.",
                max_length=255,
                min_length=1,
                rules=(
                    _NO_DOTS_RULE,
                    cel_rule(
                        f"!self.startsWith('{LIMITS_POLICY}')",
                        f"names that start with {LIMITS_POLICY} carry the limits of a RabbitMQQueue",
                    ),
                ),
            ),
            "vhost": _VHOST_SCHEMA,
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
