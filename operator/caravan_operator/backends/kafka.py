"""Kafka by librdkafka's admin client: described and changed in batches, only by incremental alterations, which leave unlisted settings alone."""

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

from caravan_operator.backends.broker import BrokerAway, Fence, Refused, naming, plain
from caravan_operator.reconcile.durations import seconds
from caravan_operator.reconcile.findings import Action
from caravan_operator.reconcile.kafka_topic import AddPartitions, AlterConfig, CreateTopic, DeleteTopic, Setting, Topic, TopicState
from caravan_operator.status.metrics import EXTERNAL
from caravan_operator.status.reasons import Reason
from caravan_operator.status.traces import span

log = logging.getLogger(__name__)
READ_CHUNK = 500
"""Topics in one describe request."""
_AWAY = frozenset(
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
_CREDENTIALS = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL})
_DYNAMIC: object = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
_MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})
_ALREADY = {CreateTopic: KafkaError.TOPIC_ALREADY_EXISTS, DeleteTopic: KafkaError.UNKNOWN_TOPIC_OR_PART}


@dataclass(frozen=True, slots=True)
class KafkaLogin:
    """What a client needs: librdkafka's settings, and which values of them are secret."""

    settings: Mapping[str, Any]
    secrets: tuple[str, ...]


class Kafka:
    """One admin client per connection and generation of its credentials."""

    def __init__(self, login: KafkaLogin, spec: Mapping[str, Any], fence: Fence) -> None:
        self._timeout = seconds(spec.get("requestTimeout", "30s"))
        self._chunk = (spec.get("batch") or {}).get("size", 100)
        self._slots = asyncio.Semaphore(spec.get("maxInFlight", 4))
        self._secrets = login.secrets
        self._fence = fence
        self._last_error: KafkaError | None = None
        self._admin = AdminClient({**login.settings, "error_cb": self._remember, "log_level": 0})

    async def check(self) -> dict[str, Any]:
        self._last_error = None
        cluster = await self._await("describe_cluster", lambda: {0: self._admin.describe_cluster(request_timeout=self._timeout)})
        found = self._value(cluster[0])
        return {"clusterId": found.cluster_id, "brokers": len(found.nodes)}

    async def observe(self, kind: str, wanted: Sequence[Topic], *, usage: bool = False) -> list[TopicState | None]:
        chunks = [[topic.name for topic in wanted[start : start + READ_CHUNK]] for start in range(0, len(wanted), READ_CHUNK)]
        found: dict[str, TopicState] = {}
        for chunk in chunks:
            found |= await self._describe(chunk, usage)
        return [found.get(topic.name) for topic in wanted]

    async def apply(self, work: Sequence[tuple[Action, ...]], *, dry: bool = False) -> list[Refused | None]:
        refused: list[Refused | None] = [None] * len(work)
        for kind, send in self._verbs(dry).items():
            flat = [(index, action) for index, actions in enumerate(work) for action in actions if isinstance(action, kind)]
            for index, problem in await self._in_chunks(kind, flat, send, dry):
                refused[index] = problem
        return refused

    async def close(self) -> None:
        """librdkafka ends with the object; its threads may take a moment."""
        self._admin = None  # type: ignore[assignment]

    async def names(self) -> list[str]:
        """Every topic of the cluster."""
        metadata = await asyncio.to_thread(self._admin.list_topics, timeout=self._timeout)
        return sorted(metadata.topics)

    def _verbs(self, dry: bool) -> dict[type, Callable[[list[Any]], dict[Any, Any]]]:
        """How each action is sent, for a chunk of them: one request, a future per topic."""
        limits: dict[str, Any] = {"request_timeout": self._timeout}
        if dry:
            limits["validate_only"] = True
        verbs: dict[type, Callable[[list[Any]], dict[Any, Any]]] = {
            CreateTopic: lambda chunk: self._admin.create_topics([_new(action.topic) for action in chunk], **limits),
            AddPartitions: lambda chunk: self._admin.create_partitions(
                [NewPartitions(action.name, action.total) for action in chunk], **limits
            ),
            AlterConfig: lambda chunk: self._admin.incremental_alter_configs(_alterations(chunk), **limits),
        }
        if not dry:
            verbs[DeleteTopic] = lambda chunk: self._admin.delete_topics([action.name for action in chunk], **limits)
        return verbs

    async def _in_chunks(
        self, kind: type, flat: list[tuple[int, Any]], send: Callable[[list[Any]], dict[Any, Any]], dry: bool
    ) -> list[tuple[int, Refused]]:
        problems = []
        names = sorted({_name(action) for _, action in flat})
        for start in range(0, len(names), self._chunk):
            chunk = frozenset(names[start : start + self._chunk])
            actions = [action for _, action in flat if _name(action) in chunk]
            if not dry:
                self._fence()
            results = await self._await(kind.__name__, partial(send, actions))
            answers = {getattr(key, "name", key): result for key, result in results.items()}
            for index, action in flat:
                if _name(action) in chunk and (problem := self._problem(kind, actions, action, answers.get(_name(action)))):
                    problems.append((index, problem))
        return problems

    def _problem(self, kind: type, actions: Sequence[Any], action: Any, result: Any) -> Refused | None:
        if not isinstance(result, KafkaException):
            return None
        error = _error(result)
        if error.code() == _ALREADY.get(kind):
            return None
        self._raise_if_away(error)
        log.warning("the broker refused", extra={"operation": kind.__name__, "words": plain(error.str(), *self._secrets)})
        ours = [key for each in actions if _name(each) == _name(action) for key in _settings(each)]
        return Refused(f"{error.name()}: {_words(error)}{naming(ours, error.str())}")

    async def _describe(self, names: list[str], usage: bool) -> dict[str, TopicState]:
        topics = await self._await(
            "describe_topics", lambda: self._admin.describe_topics(TopicCollection(names), request_timeout=self._timeout)
        )
        there = {name: found for name, result in topics.items() if (found := self._found(result)) is not None}
        if not there:
            return {}
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in there]
        configs = await self._await("describe_configs", lambda: self._admin.describe_configs(resources, request_timeout=self._timeout))
        settings = {resource.name: found for resource, result in configs.items() if (found := self._found(result)) is not None}
        empty = await self._empty({name: len(found.partitions) for name, found in there.items()}) if usage else {}
        return {
            name: TopicState(
                id=str(found.topic_id),
                partitions=len(found.partitions),
                replicas=len(found.partitions[0].replicas),
                config={key: _setting(entry) for key, entry in settings[name].items()},
                empty=empty.get(name),
            )
            for name, found in there.items()
            if name in settings
        }

    async def _empty(self, partitions: Mapping[str, int]) -> dict[str, bool]:
        """Whether each topic holds no record: both ends of every partition are the same. A partition that can't say counts as one that holds some."""
        every = [TopicPartition(name, number) for name, count in partitions.items() for number in range(count)]
        first = await self._offsets(every, OffsetSpec.earliest())
        last = await self._offsets(every, OffsetSpec.latest())
        return {
            name: all(first.get((name, number), -1) == last.get((name, number), -2) for number in range(count))
            for name, count in partitions.items()
        }

    async def _offsets(self, partitions: list[TopicPartition], end: OffsetSpec) -> dict[tuple[str, int], int]:
        asked = dict.fromkeys(partitions, end)
        results = await self._await("list_offsets", lambda: self._admin.list_offsets(asked, request_timeout=self._timeout))  # type: ignore[call-arg]
        return {(at.topic, at.partition): found.offset for at, found in results.items() if not isinstance(found, BaseException)}

    async def _await(self, operation: str, send: Callable[[], Mapping[Any, Any]]) -> dict[Any, Any]:
        """One request: its futures' results or exceptions. Raises BrokerAway when there is no answer in time."""
        async with self._slots:
            started = time.monotonic()
            try:
                with span(f"kafka {operation}"):
                    futures = send()
                    waiting = [asyncio.wrap_future(future) for future in futures.values()]
                    async with asyncio.timeout(self._timeout + 5):
                        results = await asyncio.gather(*waiting, return_exceptions=True)
            except TimeoutError:
                raise self._away(f"no answer to {operation} within {self._timeout:.0f} s") from None
            except KafkaException as error:
                raise self._away(_words(_error(error))) from error
            finally:
                EXTERNAL.labels("kafka", operation).observe(time.monotonic() - started)
        return dict(zip(futures, results, strict=True))

    def _found(self, result: Any) -> Any:
        """The result, or None when the topic isn't there."""
        if isinstance(result, KafkaException) and _error(result).code() in _MISSING:
            return None
        return self._value(result)

    def _value(self, result: Any) -> Any:
        if isinstance(result, KafkaException):
            self._raise_if_away(_error(result))
            raise self._away(_words(_error(result)))
        if isinstance(result, BaseException):
            raise result
        return result

    def _raise_if_away(self, error: KafkaError) -> None:
        if error.code() in _AWAY or error.code() in _CREDENTIALS:
            raise self._away(_words(error))

    def _away(self, message: str) -> BrokerAway:
        last = self._last_error
        refused = last is not None and last.code() in _CREDENTIALS
        text = f"{message}: {_words(last)}" if last is not None else message
        return BrokerAway(Reason.CREDENTIALS_REFUSED if refused else Reason.UNREACHABLE, plain(text, *self._secrets))

    def _remember(self, error: KafkaError) -> None:
        """librdkafka tells in its own thread why it can't connect; the request only runs into its timeout."""
        if self._last_error is None or self._last_error.code() not in _CREDENTIALS:
            self._last_error = error


def _error(exception: KafkaException) -> KafkaError:
    return cast(KafkaError, exception.args[0])


def _words(error: KafkaError) -> str:
    """librdkafka's words for a code: what a broker adds to it is for the log alone."""
    local = error.code() < 0 and error.code() not in _CREDENTIALS
    return str(error.str() if local else KafkaError(error.code()).str())


def _settings(action: Any) -> Sequence[str]:
    """Names of the settings that an action gives."""
    match action:
        case CreateTopic():
            return tuple(action.topic.listed)
        case AlterConfig():
            return (action.key,)
    return ()


def _name(action: Any) -> str:
    return action.topic.name if isinstance(action, CreateTopic) else str(action.name)


def _new(topic: Topic) -> NewTopic:
    return NewTopic(topic.name, num_partitions=topic.partitions, replication_factor=topic.replicas or -1, config=topic.listed)


def _alterations(actions: Sequence[AlterConfig]) -> list[ConfigResource]:
    entries: dict[str, list[ConfigEntry]] = {}
    for action in actions:
        verb = AlterConfigOpType.DELETE if action.value is None else AlterConfigOpType.SET
        entries.setdefault(action.name, []).append(ConfigEntry(action.key, action.value, incremental_operation=verb))
    return [ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=changes) for name, changes in entries.items()]


def _setting(entry: ConfigEntry) -> Setting:
    return Setting(None if entry.is_sensitive else entry.value, _DYNAMIC == entry.source)
