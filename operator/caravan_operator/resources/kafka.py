"""KafkaConnection and KafkaTopic."""

from caravan_operator.resources.kinds import Column, Kind
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
from caravan_operator.resources.schema import array, boolean, choice, duration, fields, fixed, integer, mapping, rule, string

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

_HANDS_OFF = " null: somebody else manages it."
_KEYS = ", ".join(f"'{key}'" for key in TYPED_CONFIG.values())
_INT64 = 2**53

_SECURITY = fields(
    "How to connect. Default: PLAINTEXT.",
    {
        "protocol": choice("Kafka's security.protocol.", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        "saslMechanism": choice("Kafka's sasl.mechanism.", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        "secretRef": secret("User name and password for SASL. Read again when the Secret changes.", "username, password"),
        "tls": fields(
            "Certificates for SSL and SASL_SSL.",
            {
                "caSecretRef": secret("The certificate authority to trust. Default: the system's.", "ca.crt"),
                "clientSecretRef": secret("A client certificate, as a Secret of type kubernetes.io/tls.", "tls.crt, tls.key"),
            },
        ),
    },
    required=("protocol",),
    rules=(
        rule(
            "!self.protocol.startsWith('SASL_') || (has(self.saslMechanism) && has(self.secretRef))",
            "a SASL protocol needs saslMechanism and secretRef",
            ".protocol",
        ),
        rule(
            "self.protocol.startsWith('SASL_') || (!has(self.saslMechanism) && !has(self.secretRef))",
            "saslMechanism and secretRef go with a SASL protocol",
            ".protocol",
        ),
        rule("!has(self.tls) || self.protocol.endsWith('SSL')", "tls goes with SSL or SASL_SSL", ".tls"),
    ),
)

KAFKA_CONNECTION = Kind(
    name="KafkaConnection",
    plural="kafkaconnections",
    short="kconn",
    description="A Kafka cluster, and how the operator may use it.",
    spec=fields(
        "The cluster.",
        {
            "bootstrapServers": array(
                "First brokers to ask, as host:port.",
                string("host:port", longest=261, shortest=3, pattern=r"^[A-Za-z0-9.\-_\[\]:]+:[0-9]{1,5}$"),
                10,
                least=1,
            ),
            "security": _SECURITY,
            "requestTimeout": duration("How long one request may take. Default: 30s.", "1s", "5m"),
            "maxInFlight": integer("Requests at a time. Default: 4.", 1, 16),
            "batch": fields(
                "How changes are put together.",
                {
                    "size": integer("Most topics in one request. Default: 100.", 1, 500),
                    "linger": duration("How long to wait for a batch to fill. Default: 100ms.", "0s", "5s"),
                },
            ),
            "allowedNamespaces": allowed_namespaces(),
            "protectedTopics": array(
                "Regular expressions, in RE2's syntax, of topics that are never touched. Default: ^__",
                string("A regular expression without look-around and back-references.", longest=249, shortest=1),
                16,
            ),
        },
        required=("bootstrapServers",),
    ),
    status=connection_status(
        clusterId=string("Kafka's identifier of the cluster.", longest=64),
        brokers=integer("Brokers in the cluster.", 0, 100_000),
    ),
    columns=connection_columns(Column("Brokers", ".status.brokers", "integer"), Column("Cluster", ".status.clusterId", priority=1)),
)

KAFKA_TOPIC = Kind(
    name="KafkaTopic",
    plural="kafkatopics",
    short="ktopic",
    description="A topic on a Kafka cluster.",
    connection="KafkaConnection",
    spec=fields(
        "The topic as it should be.",
        {
            **owned_spec("KafkaConnection", "the topic holds no records"),
            "topicName": string(
                "Name of the topic. Default: metadata.name. Immutable.",
                longest=249,
                shortest=1,
                pattern=r"^[a-zA-Z0-9._-]+$",
                rules=(rule("self != '.' && self != '..'", "Kafka refuses the names . and .."),),
            ),
            "partitions": integer("Partitions. They can grow, when allowPartitionIncrease says so, and never shrink.", 1, 10_000),
            "allowPartitionIncrease": boolean(
                "Allow more partitions than the topic has now: keys move to other partitions. Default: false."
            ),
            "replicas": integer("Replication factor. Default: the cluster's. Immutable.", 1, 32),
            "config": fields(
                "The usual settings, in words. What is absent is left to the cluster." + _HANDS_OFF,
                {
                    "cleanupPolicy": choice("delete, compact, or both." + _HANDS_OFF, "delete", "compact", "compact,delete", nullable=True),
                    "retention": duration(
                        "How long records are kept, such as 168h, or unlimited." + _HANDS_OFF,
                        "1s",
                        "999999h",
                        word="unlimited",
                        nullable=True,
                    ),
                    "retentionBytes": integer("Bytes kept per partition; -1: no limit." + _HANDS_OFF, -1, _INT64, nullable=True),
                    "minInsyncReplicas": integer("Replicas that must have a record before it is acknowledged.", 1, 32),
                    "maxMessageBytes": integer("Largest record batch, in bytes." + _HANDS_OFF, 0, 2**31 - 1, nullable=True),
                    "segmentBytes": integer("Size of a segment file, in bytes." + _HANDS_OFF, 14, 2**31 - 1, nullable=True),
                    "compressionType": choice(
                        "Compression on disk." + _HANDS_OFF, "producer", "uncompressed", "gzip", "snappy", "lz4", "zstd", nullable=True
                    ),
                },
            ),
            "extraConfig": mapping(
                "Further topic settings by Kafka's names; the broker's list of settings decides which exist." + _HANDS_OFF,
                string("Value, as Kafka prints it.", longest=1024, nullable=True),
                64,
                rules=(
                    rule(f"self.all(key, !(key in [{_KEYS}]))", "a setting that has a field in config is set there"),
                    rule(
                        "self.all(key, key.matches('^[a-z0-9]+([.][a-z0-9]+)*$'))",
                        "keys are Kafka's names of topic settings, such as flush.ms",
                    ),
                ),
            ),
            "configOwnership": choice(
                "Listed (the default): settings that the spec doesn't name are left alone. All: they are reset to the cluster's default.",
                "Listed",
                "All",
            ),
        },
        required=("connectionRef", "partitions"),
        rules=(
            CONNECTION_IS_FIXED,
            *fixed("topicName", "replicas"),
            rule("self.partitions >= oldSelf.partitions", "partitions can't shrink: Kafka can't remove a partition", ".partitions"),
            rule(
                "self.partitions == oldSelf.partitions || (has(self.allowPartitionIncrease) && self.allowPartitionIncrease)",
                "more partitions move keys to other partitions: set allowPartitionIncrease: true to allow it",
                ".partitions",
            ),
            rule(
                "!has(self.replicas) || !has(self.config) || !has(self.config.minInsyncReplicas) || self.config.minInsyncReplicas <= self.replicas",
                "config.minInsyncReplicas can't be above replicas: nothing could be written",
                ".config",
            ),
        ),
    ),
    status=owned_status(
        topicName=string("Name of the topic.", longest=253),
        topicId=string("Kafka's identifier of the topic.", longest=64),
        partitions=integer("Partitions that the topic has.", 0, 1_000_000),
        replicas=integer("Replicas of its first partition.", 0, 1_000_000),
        configKeys=array(
            "Settings that the operator has set, and resets when the spec no longer names them.", string("Kafka's name.", longest=253), 80
        ),
    ),
    columns=owned_columns(Column("Partitions", ".spec.partitions", "integer"), Column("Topic", ".status.topicName", priority=1)),
)
