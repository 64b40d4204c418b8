"""Reads a running Kafka cluster and builds the resources that would take over its topics, unchanged."""

import re
from typing import Any

from caravan_operator.backends.kafka import Kafka
from caravan_operator.backends.kafka_client import KafkaLogin
from caravan_operator.commands.documents import (
    Document,
    SkippedObjects,
    build_document,
    make_names_unique,
    refuse_write,
)
from caravan_operator.reconcile.durations import format_duration
from caravan_operator.reconcile.kafka_topic import Topic, TopicState
from caravan_operator.resources.kafka import TYPED_CONFIG

_INTEGER_SETTINGS = frozenset({"retention.bytes", "min.insync.replicas", "max.message.bytes", "segment.bytes"})


async def import_from_kafka(
    bootstrap: str, connection: str, pattern: str, username: str, password: str, mechanism: str, tls: bool
) -> tuple[list[Document], SkippedObjects]:
    """Raises BrokerUnavailable."""
    protocol = ("SASL_" if username else "") + ("SSL" if tls else "PLAINTEXT")
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "security.protocol": protocol if username or tls else "PLAINTEXT",
    }
    if username:
        settings |= {"sasl.mechanism": mechanism, "sasl.username": username, "sasl.password": password}
    kafka = Kafka(KafkaLogin(settings, (password,)), {"requestTimeout": "15s"}, refuse_write)
    try:
        await kafka.check_health()
        documents, skipped = await build_kafka_resources(kafka, connection, pattern)
    finally:
        await kafka.close()
    return make_names_unique(documents), skipped


async def build_kafka_resources(kafka: Kafka, connection: str, pattern: str) -> tuple[list[Document], SkippedObjects]:
    """A KafkaTopic for each topic whose name matches; Kafka's own (`__`) are left out."""
    names = [name for name in await kafka.list_topics() if not name.startswith("__") and re.search(pattern, name)]
    states = await kafka.read_states("KafkaTopic", [Topic(name, 1) for name in names])
    return [
        _build_topic(name, state, connection) for name, state in zip(names, states, strict=True) if state is not None
    ], []


def _build_topic(name: str, state: TopicState, connection: str) -> Document:
    own = {
        key: setting.value
        for key, setting in sorted(state.config.items())
        if setting.dynamic and setting.value is not None
    }
    config = {field: _parse_config_value(key, own.pop(key)) for field, key in TYPED_CONFIG.items() if key in own}
    spec: Document = {"topicName": name, "partitions": state.partitions, "replicas": state.replicas}
    return build_document(
        "KafkaTopic",
        name,
        connection,
        spec | ({"config": config} if config else {}) | ({"extraConfig": own} if own else {}),
    )


def _parse_config_value(key: str, value: str) -> Any:
    if key == "retention.ms":
        return "unlimited" if value == "-1" else format_duration(int(value))
    if key == "cleanup.policy" and "," in value:
        return "compact,delete"
    return int(value) if key in _INTEGER_SETTINGS else value
