"""Cases of the rules for connections, and for topics of Kafka."""

from tests.operator.cluster.rule_cases import SASL, VALID, Case, make_immutable_case

KAFKA_CASES = [
    *(
        make_immutable_case(kind, "connectionRef", {"name": "broker"}, {"name": "other"})
        for kind, valid in VALID.items()
        if "connectionRef" in valid
    ),
    Case(
        "KafkaConnection",
        "a SASL protocol needs saslMechanism and secretRef",
        {"security": SASL},
        {"security": {"protocol": "SASL_SSL"}},
    ),
    Case(
        "KafkaConnection",
        "saslMechanism and secretRef go with a SASL protocol",
        {"security": SASL},
        {"security": {**SASL, "protocol": "SSL"}},
    ),
    Case(
        "KafkaConnection",
        "tls goes with SSL or SASL_SSL",
        {"security": {"protocol": "SSL", "tls": {"caSecretRef": {"name": "ca"}}}},
        {"security": {"protocol": "PLAINTEXT", "tls": {"caSecretRef": {"name": "ca"}}}},
    ),
    *(
        Case(
            kind,
            "matchLabels goes with from: Selector, and only with it",
            {"allowedNamespaces": {"from": "Selector", "matchLabels": {"a": "b"}}},
            {"allowedNamespaces": {"from": "All", "matchLabels": {"a": "b"}}},
        )
        for kind in ("KafkaConnection", "RabbitMQConnection")
    ),
    *(
        Case(kind, "must be from 1s to 5m", {"requestTimeout": "1m30s"}, {"requestTimeout": "6m"})
        for kind in ("KafkaConnection", "RabbitMQConnection")
    ),
    *(
        Case(kind, "must be from 0s to 5s", {"batch": {"linger": "200ms"}}, {"batch": {"linger": "1h"}})
        for kind in ("KafkaConnection", "RabbitMQConnection")
    ),
    Case("KafkaTopic", "Kafka refuses the names . and ..", {"topicName": "a.b"}, {"topicName": ".."}),
    Case(
        "KafkaTopic",
        "must be from 1s to 999999h or 'unlimited'",
        {"config": {"retention": "unlimited"}},
        {"config": {"retention": "1ms"}},
    ),
    Case(
        "KafkaTopic",
        "a setting that has a field in config is set there",
        {"extraConfig": {"flush.ms": "1"}},
        {"extraConfig": {"retention.ms": "1"}},
    ),
    Case(
        "KafkaTopic",
        "keys are Kafka's names of topic settings, such as flush.ms",
        {"extraConfig": {"a.b": "1"}},
        {"extraConfig": {"A b": "1"}},
    ),
    make_immutable_case("KafkaTopic", "topicName", "a", "b"),
    make_immutable_case("KafkaTopic", "replicas", 1, 2),
    Case("KafkaTopic", "topicName is immutable", {}, {"topicName": "new"}, before={}),
    Case("KafkaTopic", "partitions can't shrink", {"partitions": 3}, {"partitions": 2}, before={"partitions": 3}),
    Case(
        "KafkaTopic",
        "more partitions move keys to other partitions",
        {"partitions": 6, "allowPartitionIncrease": True},
        {"partitions": 6},
        before={"partitions": 3},
    ),
    Case(
        "KafkaTopic",
        "config.minInsyncReplicas can't be above replicas",
        {"replicas": 2, "config": {"minInsyncReplicas": 2}},
        {"replicas": 2, "config": {"minInsyncReplicas": 3}},
    ),
    Case(
        "RabbitMQConnection",
        "managementUrl must be https, or allowInsecure: true",
        {"managementUrl": "http://r:1", "allowInsecure": True},
        {"managementUrl": "http://r:1"},
    ),
    Case(
        "RabbitMQConnection",
        "tls goes with https",
        {"tls": {"caSecretRef": {"name": "ca"}}},
        {"managementUrl": "http://r:1", "allowInsecure": True, "tls": {"caSecretRef": {"name": "ca"}}},
    ),
]
