"""KafkaConnection and KafkaTopic."""

from caravan_operator.resources.kinds import Column, Kind
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

TYPED_CONFIG = {
    "cleanupPolicy": "cleanup.policy",
    "retention": "retention.ms",
    "retentionBytes": "retention.bytes",
    "minInsyncReplicas": "min.insync.replicas",
    "maxMessageBytes": "max.message.bytes",
    "segmentBytes": "segment.bytes",
    "compressionType": "compression.type",
}
"""Field of `spec.config` to Kafka's name of the setting."""

_UNMANAGED_NOTE = " null: somebody else manages it."
_TYPED_KEYS = ", ".join(f"'{key}'" for key in TYPED_CONFIG.values())
_MAX_INTEGER = 2**53

_SECURITY_SCHEMA = object_schema(
    "How to connect. Default: PLAINTEXT.",
    {
        "protocol": enum_schema("Kafka's security.protocol.", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        "saslMechanism": enum_schema("Kafka's sasl.mechanism.", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        "secretRef": secret_ref_schema(
            "User name and password for SASL. Read again when the Secret changes.", "username, password"
        ),
        "tls": object_schema(
            "Certificates for SSL and SASL_SSL.",
            {
                "caSecretRef": secret_ref_schema(
                    "The certificate authority to trust. Default: the system's.", "ca.crt"
                ),
                "clientSecretRef": secret_ref_schema(
                    "A client certificate, as a Secret of type kubernetes.io/tls.", "tls.crt, tls.key"
                ),
            },
        ),
    },
    required=("protocol",),
    rules=(
        cel_rule(
            "!self.protocol.startsWith('SASL_') || (has(self.saslMechanism) && has(self.secretRef))",
            "a SASL protocol needs saslMechanism and secretRef",
            ".protocol",
        ),
        cel_rule(
            "self.protocol.startsWith('SASL_') || (!has(self.saslMechanism) && !has(self.secretRef))",
            "saslMechanism and secretRef go with a SASL protocol",
            ".protocol",
        ),
        cel_rule("!has(self.tls) || self.protocol.endsWith('SSL')", "tls goes with SSL or SASL_SSL", ".tls"),
    ),
)

KAFKA_CONNECTION = Kind(
    name="KafkaConnection",
    plural="kafkaconnections",
    short_name="kconn",
    description="A Kafka cluster, and how the operator may use it.",
    spec=object_schema(
        "The cluster.",
        {
            "bootstrapServers": array_schema(
                "First brokers to ask, as host:port.",
                string_schema("host:port", max_length=261, min_length=3, pattern=r"^[A-Za-z0-9.\-_\[\]:]+:[0-9]{1,5}$"),
                10,
                min_items=1,
            ),
            "security": _SECURITY_SCHEMA,
            "requestTimeout": duration_schema("How long one request may take. Default: 30s.", "1s", "5m"),
            "maxInFlight": integer_schema("Requests at a time. Default: 4.", 1, 16),
            "batch": object_schema(
                "How changes are put together.",
                {
                    "size": integer_schema("Most topics in one request. Default: 100.", 1, 500),
                    "linger": duration_schema("How long to wait for a batch to fill. Default: 100ms.", "0s", "5s"),
                },
            ),
            "allowedNamespaces": allowed_namespaces_schema(),
            "protectedTopics": array_schema(
                "Regular expressions, in RE2's syntax, of topics that are never touched. Default: ^__",
                string_schema(
                    "A regular expression without look-around and back-references.", max_length=249, min_length=1
                ),
                16,
            ),
        },
        required=("bootstrapServers",),
    ),
    status=connection_status_schema(
        clusterId=string_schema("Kafka's identifier of the cluster.", max_length=64),
        brokers=integer_schema("Brokers in the cluster.", 0, 100_000),
    ),
    columns=connection_columns(
        Column("Brokers", ".status.brokers", "integer"), Column("Cluster", ".status.clusterId", priority=1)
    ),
)

KAFKA_TOPIC = Kind(
    name="KafkaTopic",
    plural="kafkatopics",
    short_name="ktopic",
    description="A topic on a Kafka cluster.",
    connection_kind="KafkaConnection",
    spec=object_schema(
        "The topic as it should be.",
        {
            **owned_spec_fields("KafkaConnection", "the topic holds no records"),
            "topicName": string_schema(
                "Name of the topic. Default: metadata.name. Immutable.",
                max_length=249,
                min_length=1,
                pattern=r"^[a-zA-Z0-9._-]+$",
                rules=(cel_rule("self != '.' && self != '..'", "Kafka refuses the names . and .."),),
            ),
            "partitions": integer_schema(
                "Partitions. They can grow, when allowPartitionIncrease says so, and never shrink.", 1, 10_000
            ),
            "allowPartitionIncrease": boolean_schema(
                "Allow more partitions than the topic has now: keys move to other partitions. Default: false."
            ),
            "replicas": integer_schema("Replication factor. Default: the cluster's. Immutable.", 1, 32),
            "config": object_schema(
                "The usual settings, in words. What is absent is left to the cluster." + _UNMANAGED_NOTE,
                {
                    "cleanupPolicy": enum_schema(
                        "delete, compact, or both." + _UNMANAGED_NOTE,
                        "delete",
                        "compact",
                        "compact,delete",
                        nullable=True,
                    ),
                    "retention": duration_schema(
                        "How long records are kept, such as 168h, or unlimited." + _UNMANAGED_NOTE,
                        "1s",
                        "999999h",
                        extra_value="unlimited",
                        nullable=True,
                    ),
                    "retentionBytes": integer_schema(
                        "Bytes kept per partition; -1: no limit." + _UNMANAGED_NOTE, -1, _MAX_INTEGER, nullable=True
                    ),
                    "minInsyncReplicas": integer_schema(
                        "Replicas that must have a record before it is acknowledged.", 1, 32
                    ),
                    "maxMessageBytes": integer_schema(
                        "Largest record batch, in bytes." + _UNMANAGED_NOTE, 0, 2**31 - 1, nullable=True
                    ),
                    "segmentBytes": integer_schema(
                        "Size of a segment file, in bytes." + _UNMANAGED_NOTE, 14, 2**31 - 1, nullable=True
                    ),
                    "compressionType": enum_schema(
                        "Compression on disk." + _UNMANAGED_NOTE,
                        "producer",
                        "uncompressed",
                        "gzip",
                        "snappy",
                        "lz4",
                        "zstd",
                        nullable=True,
                    ),
                },
            ),
            "extraConfig": map_schema(
                "Further topic settings by Kafka's names; the broker's list of settings decides which exist."
                + _UNMANAGED_NOTE,
                string_schema("Value, as Kafka prints it.", max_length=1024, nullable=True),
                64,
                rules=(
                    cel_rule(
                        f"self.all(key, !(key in [{_TYPED_KEYS}]))", "a setting that has a field in config is set there"
                    ),
                    cel_rule(
                        "self.all(key, key.matches('^[a-z0-9]+([.][a-z0-9]+)*$'))",
                        "keys are Kafka's names of topic settings, such as flush.ms",
                    ),
                ),
            ),
            "configOwnership": enum_schema(
                "Listed (the default): settings that the spec doesn't name are left alone. All: they are reset to the "
                "cluster's default.",
                "Listed",
                "All",
            ),
        },
        required=("connectionRef", "partitions"),
        rules=(
            IMMUTABLE_CONNECTION_RULE,
            *immutable_field_rules("topicName", "replicas"),
            cel_rule(
                "self.partitions >= oldSelf.partitions",
                "partitions can't shrink: Kafka can't remove a partition",
                ".partitions",
            ),
            cel_rule(
                "self.partitions == oldSelf.partitions || (has(self.allowPartitionIncrease) && "
                "self.allowPartitionIncrease)",
                "more partitions move keys to other partitions: set allowPartitionIncrease: true to allow it",
                ".partitions",
            ),
            cel_rule(
                "!has(self.replicas) || !has(self.config) || !has(self.config.minInsyncReplicas) || "
                "self.config.minInsyncReplicas <= self.replicas",
                "config.minInsyncReplicas can't be above replicas: nothing could be written",
                ".config",
            ),
        ),
    ),
    status=owned_status_schema(
        topicName=string_schema("Name of the topic.", max_length=253),
        topicId=string_schema("Kafka's identifier of the topic.", max_length=64),
        partitions=integer_schema("Partitions that the topic has.", 0, 1_000_000),
        replicas=integer_schema("Replicas of its first partition.", 0, 1_000_000),
        configKeys=array_schema(
            "Settings that the operator has set, and resets when the spec no longer names them.",
            string_schema("Kafka's name.", max_length=253),
            80,
        ),
    ),
    columns=owned_columns(
        Column("Partitions", ".spec.partitions", "integer"), Column("Topic", ".status.topicName", priority=1)
    ),
)
