"""RabbitMQConnection: the cluster, and who may use it."""

from caravan_operator.resources.kinds import Column, Kind
from caravan_operator.resources.ownership import (
    allowed_namespaces_schema,
    connection_columns,
    connection_status_schema,
    secret_ref_schema,
)
from caravan_operator.resources.rabbitmq.fields import CONNECTION_KIND, NO_DOTS_RULE
from caravan_operator.resources.schema import (
    array_schema,
    boolean_schema,
    cel_rule,
    duration_schema,
    integer_schema,
    object_schema,
    string_schema,
)

RABBITMQ_CONNECTION = Kind(
    name=CONNECTION_KIND,
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
                string_schema("A virtual host.", max_length=255, min_length=1, rules=(NO_DOTS_RULE,)),
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
