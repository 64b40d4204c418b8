"""Topics by librdkafka's admin client: described and changed in batches, only by incremental alterations, which leave
unlisted settings alone. The connection is `kafka_client.py`'s, the requests for actions are `kafka_actions.py`'s.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    OffsetSpec,
)

from caravan_operator.backends.broker import Fence, Refusal, describe_named_words
from caravan_operator.backends.kafka_actions import SendActions, build_senders, get_topic_name, list_settings
from caravan_operator.backends.kafka_client import KafkaClient, KafkaLogin, describe_error, get_error
from caravan_operator.reconcile.diff import Action
from caravan_operator.reconcile.kafka_topic import (
    CreateTopic,
    DeleteTopic,
    Setting,
    Topic,
    TopicState,
)

log = logging.getLogger(__name__)
READ_CHUNK_SIZE = 500
"""Topics in one describe request."""
_DYNAMIC_SOURCE: object = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
_ALREADY_DONE_ERRORS = {CreateTopic: KafkaError.TOPIC_ALREADY_EXISTS, DeleteTopic: KafkaError.UNKNOWN_TOPIC_OR_PART}


class Kafka:
    """One admin client per connection and generation of its credentials."""

    def __init__(self, login: KafkaLogin, spec: Mapping[str, Any], fence: Fence) -> None:
        self._client = KafkaClient(login, spec)
        self._chunk_size = (spec.get("batch") or {}).get("size", 100)
        self._fence = fence

    async def check_health(self) -> dict[str, Any]:
        self._client.forget_error()
        cluster = await self._client.run_request(
            "describe_cluster", lambda: {0: self._client.admin.describe_cluster(request_timeout=self._client.timeout)}
        )
        description = self._client.unwrap_result(cluster[0])
        return {"clusterId": description.cluster_id, "brokers": len(description.nodes)}

    async def read_states(
        self, kind: str, desired: Sequence[Topic], *, with_usage: bool = False
    ) -> list[TopicState | None]:
        chunks = [
            [topic.name for topic in desired[start : start + READ_CHUNK_SIZE]]
            for start in range(0, len(desired), READ_CHUNK_SIZE)
        ]
        states: dict[str, TopicState] = {}
        for chunk in chunks:
            states |= await self._describe_topics(chunk, with_usage)
        return [states.get(topic.name) for topic in desired]

    async def apply_actions(
        self, action_lists: Sequence[tuple[Action, ...]], *, dry_run: bool = False
    ) -> list[Refusal | None]:
        refusals: list[Refusal | None] = [None] * len(action_lists)
        for action_type, send in build_senders(self._client.admin, self._client.timeout, dry_run=dry_run).items():
            indexed_actions = [
                (index, action)
                for index, actions in enumerate(action_lists)
                for action in actions
                if isinstance(action, action_type)
            ]
            for index, refusal in await self._send_in_chunks(action_type, indexed_actions, send, dry_run):
                refusals[index] = refusal
        return refusals

    async def close(self) -> None:
        self._client.close()

    async def list_topics(self) -> list[str]:
        """Every topic of the cluster."""
        metadata = await asyncio.to_thread(self._client.admin.list_topics, timeout=self._client.timeout)
        return sorted(metadata.topics)

    async def _send_in_chunks(
        self,
        action_type: type,
        indexed_actions: list[tuple[int, Any]],
        send: SendActions,
        dry_run: bool,
    ) -> list[tuple[int, Refusal]]:
        refusals = []
        names = sorted({get_topic_name(action) for _, action in indexed_actions})
        for start in range(0, len(names), self._chunk_size):
            chunk = frozenset(names[start : start + self._chunk_size])
            actions = [action for _, action in indexed_actions if get_topic_name(action) in chunk]
            if not dry_run:
                self._fence()
            results = await self._client.run_request(action_type.__name__, partial(send, actions))
            results_by_name = {getattr(key, "name", key): result for key, result in results.items()}
            for index, action in indexed_actions:
                if get_topic_name(action) in chunk and (
                    refusal := self._find_refusal(
                        action_type, actions, action, results_by_name.get(get_topic_name(action))
                    )
                ):
                    refusals.append((index, refusal))
        return refusals

    def _find_refusal(self, action_type: type, actions: Sequence[Any], action: Any, result: Any) -> Refusal | None:
        if not isinstance(result, KafkaException):
            return None
        error = get_error(result)
        if error.code() == _ALREADY_DONE_ERRORS.get(action_type):
            return None
        self._client.raise_if_unavailable(error)
        log.warning(
            "the broker refused",
            extra={"operation": action_type.__name__, "words": self._client.sanitize_error(error)},
        )
        own_words = [
            key for each in actions if get_topic_name(each) == get_topic_name(action) for key in list_settings(each)
        ]
        return Refusal(f"{error.name()}: {describe_error(error)}{describe_named_words(own_words, error.str())}")

    async def _describe_topics(self, names: list[str], with_usage: bool) -> dict[str, TopicState]:
        topics = await self._client.run_request(
            "describe_topics",
            lambda: self._client.admin.describe_topics(TopicCollection(names), request_timeout=self._client.timeout),
        )
        descriptions = {
            name: found for name, result in topics.items() if (found := self._client.unwrap_or_none(result)) is not None
        }
        if not descriptions:
            return {}
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in descriptions]
        configs = await self._client.run_request(
            "describe_configs",
            lambda: self._client.admin.describe_configs(resources, request_timeout=self._client.timeout),
        )
        settings = {
            resource.name: found
            for resource, result in configs.items()
            if (found := self._client.unwrap_or_none(result)) is not None
        }
        empty = (
            await self._find_empty_topics({name: len(found.partitions) for name, found in descriptions.items()})
            if with_usage
            else {}
        )
        return {
            name: TopicState(
                id=str(found.topic_id),
                partitions=len(found.partitions),
                replicas=len(found.partitions[0].replicas),
                config={key: _parse_setting(entry) for key, entry in settings[name].items()},
                empty=empty.get(name),
            )
            for name, found in descriptions.items()
            if name in settings
        }

    async def _find_empty_topics(self, partitions: Mapping[str, int]) -> dict[str, bool]:
        """Whether each topic holds no record: both ends of every partition are the same. A partition that can't say
        counts as one that holds some.
        """
        every = [TopicPartition(name, number) for name, count in partitions.items() for number in range(count)]
        first = await self._fetch_offsets(every, OffsetSpec.earliest())
        last = await self._fetch_offsets(every, OffsetSpec.latest())
        return {
            name: all(first.get((name, number), -1) == last.get((name, number), -2) for number in range(count))
            for name, count in partitions.items()
        }

    async def _fetch_offsets(self, partitions: list[TopicPartition], end: OffsetSpec) -> dict[tuple[str, int], int]:
        requests = dict.fromkeys(partitions, end)
        client = self._client
        results = await client.run_request(
            "list_offsets",
            lambda: client.admin.list_offsets(requests, request_timeout=client.timeout),  # type: ignore[call-arg]
        )
        return {
            (partition.topic, partition.partition): result.offset
            for partition, result in results.items()
            if not isinstance(result, BaseException)
        }


def _parse_setting(entry: ConfigEntry) -> Setting:
    return Setting(None if entry.is_sensitive else entry.value, entry.source == _DYNAMIC_SOURCE)
