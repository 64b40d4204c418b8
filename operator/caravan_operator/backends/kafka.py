"""Kafka by librdkafka's admin client: described and changed in batches, only by incremental alterations, which leave
unlisted settings alone.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from caravan_operator.backends.broker import BrokerUnavailable, Fence, Refusal, describe_named_words, sanitize_message
from caravan_operator.reconcile.diff import Action
from caravan_operator.reconcile.durations import parse_seconds
from caravan_operator.reconcile.kafka_topic import (
    AddPartitions,
    AlterConfig,
    CreateTopic,
    DeleteTopic,
    Setting,
    Topic,
    TopicState,
)
from caravan_operator.status.metrics import EXTERNAL_CALL_SECONDS
from caravan_operator.status.reasons import Reason
from caravan_operator.status.traces import start_span

log = logging.getLogger(__name__)
READ_CHUNK_SIZE = 500
"""Topics in one describe request."""
_UNAVAILABLE_ERRORS = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._DESTROY,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NOT_CONTROLLER,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
    }
)
_CREDENTIAL_ERRORS = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL})
_DYNAMIC_SOURCE: object = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
_NOT_FOUND_ERRORS = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})
_ALREADY_DONE_ERRORS = {CreateTopic: KafkaError.TOPIC_ALREADY_EXISTS, DeleteTopic: KafkaError.UNKNOWN_TOPIC_OR_PART}


@dataclass(frozen=True, slots=True)
class KafkaLogin:
    """What a client needs: librdkafka's settings, and which values of them are secret."""

    settings: Mapping[str, Any]
    secrets: tuple[str, ...]


class Kafka:
    """One admin client per connection and generation of its credentials."""

    def __init__(self, login: KafkaLogin, spec: Mapping[str, Any], fence: Fence) -> None:
        self._timeout = parse_seconds(spec.get("requestTimeout", "30s"))
        self._chunk_size = (spec.get("batch") or {}).get("size", 100)
        self._slots = asyncio.Semaphore(spec.get("maxInFlight", 4))
        self._secrets = login.secrets
        self._fence = fence
        self._last_error: KafkaError | None = None
        self._admin = AdminClient({**login.settings, "error_cb": self._record_error, "log_level": 0})

    async def check_health(self) -> dict[str, Any]:
        self._last_error = None
        cluster = await self._run_request(
            "describe_cluster", lambda: {0: self._admin.describe_cluster(request_timeout=self._timeout)}
        )
        description = self._unwrap_result(cluster[0])
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
        for action_type, send in self._build_senders(dry_run).items():
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
        """librdkafka ends with the object; its threads may take a moment."""
        self._admin = None  # type: ignore[assignment]

    async def list_topics(self) -> list[str]:
        """Every topic of the cluster."""
        metadata = await asyncio.to_thread(self._admin.list_topics, timeout=self._timeout)
        return sorted(metadata.topics)

    def _build_senders(self, dry_run: bool) -> dict[type, Callable[[list[Any]], dict[Any, Any]]]:
        """How each action is sent, for a chunk of them: one request, a future per topic."""
        options: dict[str, Any] = {"request_timeout": self._timeout}
        if dry_run:
            options["validate_only"] = True
        senders: dict[type, Callable[[list[Any]], dict[Any, Any]]] = {
            CreateTopic: lambda chunk: self._admin.create_topics(
                [_build_new_topic(action.topic) for action in chunk], **options
            ),
            AddPartitions: lambda chunk: self._admin.create_partitions(
                [NewPartitions(action.name, action.total) for action in chunk], **options
            ),
            AlterConfig: lambda chunk: self._admin.incremental_alter_configs(_build_alterations(chunk), **options),
        }
        if not dry_run:
            senders[DeleteTopic] = lambda chunk: self._admin.delete_topics([action.name for action in chunk], **options)
        return senders

    async def _send_in_chunks(
        self,
        action_type: type,
        indexed_actions: list[tuple[int, Any]],
        send: Callable[[list[Any]], dict[Any, Any]],
        dry_run: bool,
    ) -> list[tuple[int, Refusal]]:
        refusals = []
        names = sorted({_get_topic_name(action) for _, action in indexed_actions})
        for start in range(0, len(names), self._chunk_size):
            chunk = frozenset(names[start : start + self._chunk_size])
            actions = [action for _, action in indexed_actions if _get_topic_name(action) in chunk]
            if not dry_run:
                self._fence()
            results = await self._run_request(action_type.__name__, partial(send, actions))
            results_by_name = {getattr(key, "name", key): result for key, result in results.items()}
            for index, action in indexed_actions:
                if _get_topic_name(action) in chunk and (
                    refusal := self._find_refusal(
                        action_type, actions, action, results_by_name.get(_get_topic_name(action))
                    )
                ):
                    refusals.append((index, refusal))
        return refusals

    def _find_refusal(self, action_type: type, actions: Sequence[Any], action: Any, result: Any) -> Refusal | None:
        if not isinstance(result, KafkaException):
            return None
        error = _get_error(result)
        if error.code() == _ALREADY_DONE_ERRORS.get(action_type):
            return None
        self._raise_if_unavailable(error)
        log.warning(
            "the broker refused",
            extra={"operation": action_type.__name__, "words": sanitize_message(error.str(), *self._secrets)},
        )
        own_words = [
            key for each in actions if _get_topic_name(each) == _get_topic_name(action) for key in _list_settings(each)
        ]
        return Refusal(f"{error.name()}: {_describe_error(error)}{describe_named_words(own_words, error.str())}")

    async def _describe_topics(self, names: list[str], with_usage: bool) -> dict[str, TopicState]:
        topics = await self._run_request(
            "describe_topics",
            lambda: self._admin.describe_topics(TopicCollection(names), request_timeout=self._timeout),
        )
        descriptions = {
            name: found for name, result in topics.items() if (found := self._unwrap_or_none(result)) is not None
        }
        if not descriptions:
            return {}
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in descriptions]
        configs = await self._run_request(
            "describe_configs", lambda: self._admin.describe_configs(resources, request_timeout=self._timeout)
        )
        settings = {
            resource.name: found
            for resource, result in configs.items()
            if (found := self._unwrap_or_none(result)) is not None
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
        results = await self._run_request(
            "list_offsets",
            lambda: self._admin.list_offsets(requests, request_timeout=self._timeout),  # type: ignore[call-arg]
        )
        return {
            (partition.topic, partition.partition): result.offset
            for partition, result in results.items()
            if not isinstance(result, BaseException)
        }

    async def _run_request(self, operation: str, send: Callable[[], Mapping[Any, Any]]) -> dict[Any, Any]:
        """One request: its futures' results or exceptions. Raises BrokerUnavailable when there is no answer in time."""
        async with self._slots:
            started_at = time.monotonic()
            try:
                with start_span(f"kafka {operation}"):
                    futures = send()
                    pending = [asyncio.wrap_future(future) for future in futures.values()]
                    async with asyncio.timeout(self._timeout + 5):
                        results = await asyncio.gather(*pending, return_exceptions=True)
            except TimeoutError:
                raise self._build_unavailable(f"no answer to {operation} within {self._timeout:.0f} s") from None
            except KafkaException as error:
                raise self._build_unavailable(_describe_error(_get_error(error))) from error
            finally:
                EXTERNAL_CALL_SECONDS.labels("kafka", operation).observe(time.monotonic() - started_at)
        return dict(zip(futures, results, strict=True))

    def _unwrap_or_none(self, result: Any) -> Any:
        """The result, or None when the topic isn't there."""
        if isinstance(result, KafkaException) and _get_error(result).code() in _NOT_FOUND_ERRORS:
            return None
        return self._unwrap_result(result)

    def _unwrap_result(self, result: Any) -> Any:
        if isinstance(result, KafkaException):
            self._raise_if_unavailable(_get_error(result))
            raise self._build_unavailable(_describe_error(_get_error(result)))
        if isinstance(result, BaseException):
            raise result
        return result

    def _raise_if_unavailable(self, error: KafkaError) -> None:
        if error.code() in _UNAVAILABLE_ERRORS or error.code() in _CREDENTIAL_ERRORS:
            raise self._build_unavailable(_describe_error(error))

    def _build_unavailable(self, message: str) -> BrokerUnavailable:
        last = self._last_error
        is_refused = last is not None and last.code() in _CREDENTIAL_ERRORS
        details = f"{message}: {_describe_error(last)}" if last is not None else message
        return BrokerUnavailable(
            Reason.CREDENTIALS_REFUSED if is_refused else Reason.UNREACHABLE, sanitize_message(details, *self._secrets)
        )

    def _record_error(self, error: KafkaError) -> None:
        """librdkafka tells in its own thread why it can't connect; the request only runs into its timeout."""
        if self._last_error is None or self._last_error.code() not in _CREDENTIAL_ERRORS:
            self._last_error = error


def _get_error(exception: KafkaException) -> KafkaError:
    return cast(KafkaError, exception.args[0])


def _describe_error(error: KafkaError) -> str:
    """librdkafka's words for a code: what a broker adds to it is for the log alone."""
    is_local = error.code() < 0 and error.code() not in _CREDENTIAL_ERRORS
    return str(error.str() if is_local else KafkaError(error.code()).str())


def _list_settings(action: Any) -> Sequence[str]:
    """Names of the settings that an action gives."""
    match action:
        case CreateTopic():
            return tuple(action.topic.managed_config)
        case AlterConfig():
            return (action.key,)
    return ()


def _get_topic_name(action: Any) -> str:
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


def _parse_setting(entry: ConfigEntry) -> Setting:
    return Setting(None if entry.is_sensitive else entry.value, entry.source == _DYNAMIC_SOURCE)
