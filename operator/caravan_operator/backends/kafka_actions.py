"""Actions on topics as requests of librdkafka's admin client. `kafka.py` sends them."""

from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic

from caravan_operator.reconcile.kafka_topic import AddPartitions, AlterConfig, CreateTopic, DeleteTopic, Topic

SendActions = Callable[[list[Any]], dict[Any, Any]]


def build_senders(admin: AdminClient, timeout: float, *, dry_run: bool) -> dict[type, SendActions]:
    """How each action is sent, for a chunk of them: one request, a future per topic."""
    options: dict[str, Any] = {"request_timeout": timeout}
    if dry_run:
        options["validate_only"] = True
    senders: dict[type, SendActions] = {
        CreateTopic: lambda chunk: admin.create_topics([_build_new_topic(action.topic) for action in chunk], **options),
        AddPartitions: lambda chunk: admin.create_partitions(
            [NewPartitions(action.name, action.total) for action in chunk], **options
        ),
        AlterConfig: lambda chunk: admin.incremental_alter_configs(_build_alterations(chunk), **options),
    }
    if not dry_run:
        senders[DeleteTopic] = lambda chunk: admin.delete_topics([action.name for action in chunk], **options)
    return senders


def list_settings(action: Any) -> Sequence[str]:
    """Names of the settings that an action gives."""
    match action:
        case CreateTopic():
            return tuple(action.topic.managed_config)
        case AlterConfig():
            return (action.key,)
    return ()


def get_topic_name(action: Any) -> str:
    return action.topic.name if isinstance(action, CreateTopic) else str(action.name)


def _build_new_topic(topic: Topic) -> NewTopic:
    return NewTopic(
        topic.name,
        num_partitions=topic.partitions,
        replication_factor=topic.replicas or -1,
        config=topic.managed_config,
    )


def _build_alterations(actions: Sequence[AlterConfig]) -> list[ConfigResource]:
    entries: dict[str, list[ConfigEntry]] = {}
    for action in actions:
        operation = AlterConfigOpType.DELETE if action.value is None else AlterConfigOpType.SET
        entries.setdefault(action.name, []).append(
            ConfigEntry(action.key, action.value, incremental_operation=operation)
        )
    return [
        ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=changes)
        for name, changes in entries.items()
    ]
