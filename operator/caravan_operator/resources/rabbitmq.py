"""RabbitMQConnection, RabbitMQQueue, RabbitMQExchange, RabbitMQBinding and RabbitMQPolicy."""

from caravan_operator.resources.kinds import Column, Kind
from caravan_operator.resources.limits import LIMITS, POLICY_KEYS
from caravan_operator.resources.ownership import (
    CONNECTION_IS_FIXED,
    allowed_namespaces,
    connection_columns,
    connection_status,
    owned_columns,
    owned_spec,
    owned_status,
    secret,
)
from caravan_operator.resources.schema import Schema, array, boolean, choice, duration, fields, fixed, integer, mapping, rule, string

LIMITS_POLICY = "caravan.queue."
"""Prefix of the policy that carries a queue's limits; only the operator makes policies with such names."""
LIMITS_PRIORITY = 2000
"""Above every RabbitMQPolicy: one policy applies to a queue, and its own limits win."""

_CONNECTION = "RabbitMQConnection"
_NO_DOTS = rule("self != '.' && self != '..'", "the management API has no address for the names . and ..")
_VHOST = string("Virtual host. Immutable.", longest=255, shortest=1, rules=(_NO_DOTS,), default="/")
_NOT_AMQ = rule("!self.startsWith('amq.')", "names that start with amq. belong to the broker")


def _name(what: str) -> Schema:
    return string(f"Name of the {what}. Default: metadata.name. Immutable.", longest=255, shortest=1, rules=(_NOT_AMQ, _NO_DOTS))


RABBITMQ_CONNECTION = Kind(
    name=_CONNECTION,
    plural="rabbitmqconnections",
    short="rconn",
    description="A RabbitMQ cluster, reached by its management API.",
    spec=fields(
        "The cluster.",
        {
            "managementUrl": string(
                "Address of the management API, such as https://rabbitmq:15671: scheme, host and port.",
                longest=300,
                shortest=8,
                pattern=r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$",
            ),
            "allowInsecure": boolean("Allow http: the password travels in the clear. Default: false."),
            "secretRef": secret("User name and password. Read again when the Secret changes.", "username, password"),
            "tls": fields("Certificates.", {"caSecretRef": secret("The certificate authority to trust. Default: the system's.", "ca.crt")}),
            "vhosts": array(
                "Virtual hosts that resources may use. Default: every one.",
                string("A virtual host.", longest=255, shortest=1, rules=(_NO_DOTS,)),
                100,
                least=1,
            ),
            "requestTimeout": duration("How long one request may take. Default: 30s.", "1s", "5m"),
            "maxInFlight": integer("Requests at a time. Default: 4.", 1, 16),
            "batch": fields(
                "How changes are put together.",
                {
                    "size": integer("Most objects in one pass. Default: 100.", 1, 500),
                    "linger": duration("How long to wait for a batch to fill. Default: 100ms.", "0s", "5s"),
                },
            ),
            "allowedNamespaces": allowed_namespaces(),
        },
        required=("managementUrl", "secretRef"),
        rules=(
            rule(
                "self.managementUrl.startsWith('https://') || (has(self.allowInsecure) && self.allowInsecure)",
                "managementUrl must be https, or allowInsecure: true",
                ".managementUrl",
            ),
            rule("!has(self.tls) || self.managementUrl.startsWith('https://')", "tls goes with https", ".tls"),
        ),
    ),
    status=connection_status(
        version=string("Version of RabbitMQ.", longest=64),
        clusterName=string("Name of the cluster.", longest=256),
    ),
    columns=connection_columns(Column("Version", ".status.version"), Column("Cluster", ".status.clusterName", priority=1)),
)

RABBITMQ_QUEUE = Kind(
    name="RabbitMQQueue",
    plural="rabbitmqqueues",
    short="rqueue",
    description="A queue on a RabbitMQ cluster. Its limits are one policy, so that they can change without a new queue.",
    connection=_CONNECTION,
    spec=fields(
        "The queue as it should be.",
        {
            **owned_spec(_CONNECTION, "the queue holds no messages and has no consumers"),
            "name": _name("queue"),
            "vhost": _VHOST,
            "type": choice("Kind of queue. Immutable.", "quorum", "classic", "stream", default="quorum"),
            "durable": boolean("Whether the queue survives a restart of the broker. Immutable.", default=True),
            "autoDelete": boolean("Whether it goes away with its last consumer. Immutable.", default=False),
            "arguments": fields(
                "What only the declaration can say; everything that a policy can say is in limits. Immutable.",
                {
                    "singleActiveConsumer": boolean("One consumer at a time (x-single-active-consumer)."),
                    "maxPriority": integer("Priorities of a classic queue (x-max-priority).", 1, 255),
                    "initialGroupSize": integer("Members of a quorum queue at the start (x-quorum-initial-group-size).", 1, 99),
                },
            ),
            "limits": fields("What may wait in the queue, and where it goes otherwise. Can change at any time.", LIMITS),
            "onImmutableDrift": choice(
                "What happens when the queue on the broker has another type or other arguments. Report (the default) says so; RecreateIfEmpty deletes it, when "
                "it has no messages and no consumers, and makes it anew.",
                "Report",
                "RecreateIfEmpty",
            ),
        },
        required=("connectionRef",),
        rules=(
            CONNECTION_IS_FIXED,
            *fixed("name", "vhost", "type", "durable", "autoDelete", "arguments"),
            rule(
                "self.type == 'classic' || (self.durable && !self.autoDelete)",
                "quorum queues and streams are durable and not autoDelete",
                ".type",
            ),
            rule(
                "self.type == 'classic' || !has(self.arguments) || !has(self.arguments.maxPriority)",
                "maxPriority is for classic queues",
                ".arguments",
            ),
            rule(
                "self.type == 'quorum' || !has(self.arguments) || !has(self.arguments.initialGroupSize)",
                "initialGroupSize is for quorum queues",
                ".arguments",
            ),
            rule(
                "self.type == 'quorum' || !has(self.limits) || !has(self.limits.deliveryLimit)",
                "deliveryLimit is for quorum queues",
                ".limits",
            ),
            rule(
                "self.type == 'quorum' || !has(self.limits) || !has(self.limits.deadLetterStrategy)",
                "deadLetterStrategy is for quorum queues",
                ".limits",
            ),
            rule(
                "!has(self.limits) || !has(self.limits.deadLetterRoutingKey) || has(self.limits.deadLetterExchange)",
                "deadLetterRoutingKey needs deadLetterExchange ('' is the default exchange)",
                ".limits",
            ),
            rule(
                "!has(self.limits) || !has(self.limits.deadLetterStrategy) || self.limits.deadLetterStrategy != 'at-least-once' || "
                "(has(self.limits.overflow) && self.limits.overflow == 'reject-publish')",
                "deadLetterStrategy at-least-once needs overflow: reject-publish",
                ".limits",
            ),
            rule(
                "self.type != 'stream' || !has(self.limits) || (!has(self.limits.messageTtl) && !has(self.limits.maxLength) && !has(self.limits.overflow) && "
                "!has(self.limits.deadLetterExchange) && !has(self.limits.expires))",
                "of the limits a stream knows maxLengthBytes only",
                ".limits",
            ),
        ),
    ),
    status=owned_status(
        policy=string("The policy that carries the limits.", longest=300),
        policyConflict=string("A policy of somebody else that applies instead.", longest=300),
    ),
    columns=owned_columns(Column("Type", ".spec.type"), Column("Vhost", ".spec.vhost", priority=1)),
)

RABBITMQ_EXCHANGE = Kind(
    name="RabbitMQExchange",
    plural="rabbitmqexchanges",
    short="rexchange",
    description="An exchange on a RabbitMQ cluster.",
    connection=_CONNECTION,
    spec=fields(
        "The exchange as it should be. All but the policies are immutable.",
        {
            **owned_spec(_CONNECTION, "nothing is bound to the exchange"),
            "name": _name("exchange"),
            "vhost": _VHOST,
            "type": choice(
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
            "durable": boolean("Whether it survives a restart of the broker. Immutable.", default=True),
            "autoDelete": boolean("Whether it goes away with its last binding. Immutable.", default=False),
            "internal": boolean("Whether only other exchanges may publish to it. Immutable.", default=False),
            "arguments": fields(
                "What only the declaration can say. Immutable.",
                {
                    "delayedType": choice(
                        "With type x-delayed-message: how it routes after the delay.", "direct", "fanout", "topic", "headers"
                    )
                },
            ),
        },
        required=("connectionRef",),
        rules=(
            CONNECTION_IS_FIXED,
            *fixed("name", "vhost", "type", "durable", "autoDelete", "internal", "arguments"),
            rule(
                "(self.type == 'x-delayed-message') == (has(self.arguments) && has(self.arguments.delayedType))",
                "arguments.delayedType goes with type x-delayed-message, and only with it",
                ".arguments",
            ),
        ),
    ),
    status=owned_status(),
    columns=owned_columns(Column("Type", ".spec.type"), Column("Vhost", ".spec.vhost", priority=1)),
)

RABBITMQ_BINDING = Kind(
    name="RabbitMQBinding",
    plural="rabbitmqbindings",
    short="rbinding",
    description="A binding from an exchange to a queue or another exchange. It waits until both are there.",
    connection=_CONNECTION,
    spec=fields(
        "The binding. All but the policies are immutable.",
        {
            **owned_spec(_CONNECTION, "it exists: a binding holds nothing"),
            "vhost": _VHOST,
            "source": string("Exchange that messages come from. Immutable.", longest=255, shortest=1, rules=(_NO_DOTS,)),
            "destination": string("Queue or exchange that they go to. Immutable.", longest=255, shortest=1, rules=(_NO_DOTS,)),
            "destinationType": choice("What the destination is. Immutable.", "queue", "exchange", default="queue"),
            "routingKey": string("Routing key or pattern. Default: empty. Immutable.", longest=255, rules=(_NO_DOTS,)),
            "arguments": mapping(
                "Arguments, such as those of a headers exchange. Immutable.",
                {"x-kubernetes-int-or-string": True, "description": "A string or a whole number.", "maxLength": 1024},
                16,
            ),
        },
        required=("connectionRef", "source", "destination"),
        rules=(CONNECTION_IS_FIXED, *fixed("vhost", "source", "destination", "destinationType", "routingKey", "arguments")),
    ),
    status=owned_status(),
    columns=owned_columns(
        Column("Source", ".spec.source"), Column("Destination", ".spec.destination"), Column("Key", ".spec.routingKey", priority=1)
    ),
)

RABBITMQ_POLICY = Kind(
    name="RabbitMQPolicy",
    plural="rabbitmqpolicies",
    short="rpolicy",
    description="A policy on a RabbitMQ cluster: settings for every queue or exchange whose name matches.",
    connection=_CONNECTION,
    spec=fields(
        "The policy as it should be. Name and vhost are immutable.",
        {
            **owned_spec(_CONNECTION, "it exists: a policy holds nothing"),
            "name": string(
                "Name of the policy. Default: metadata.name. Immutable.",
                longest=255,
                shortest=1,
                rules=(
                    _NO_DOTS,
                    rule(
                        f"!self.startsWith('{LIMITS_POLICY}')", f"names that start with {LIMITS_POLICY} carry the limits of a RabbitMQQueue"
                    ),
                ),
            ),
            "vhost": _VHOST,
            "pattern": string("Regular expression of the names that it applies to.", longest=1024, shortest=1),
            "applyTo": choice(
                "What it applies to.", "all", "queues", "classic_queues", "quorum_queues", "streams", "exchanges", default="all"
            ),
            "priority": integer("Of several policies the highest applies. Default: 0.", 0, 1000),
            "definition": fields("The settings; at least one.", POLICY_KEYS, minProperties=1),
        },
        required=("connectionRef", "pattern", "definition"),
        rules=(CONNECTION_IS_FIXED, *fixed("name", "vhost")),
    ),
    status=owned_status(),
    columns=owned_columns(Column("Pattern", ".spec.pattern"), Column("Priority", ".spec.priority", "integer")),
)
