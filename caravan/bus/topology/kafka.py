"""Topics on a Kafka cluster: as they are, and made as declared. Nothing is deleted or shrunk, and a setting that nobody declared is left alone."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, TopicAlreadyExistsError, for_code

from caravan.bus.opening import finish_opening
from caravan.bus.topology import BrokerAway, Fact, KafkaTopic, Thing, Topology, TopologyError
from caravan.bus.topology.drift import Applied, Difference, Kind, compare

REQUEST_SECONDS = 15
KNOWN_SECONDS = 5.0


@asynccontextmanager
async def _admin(servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, client_id="caravan-topology", request_timeout_ms=REQUEST_SECONDS * 1000)
    try:
        await finish_opening(admin.start())
        yield admin
    except (KafkaConnectionError, KafkaTimeoutError) as error:
        raise BrokerAway(f"Kafka at {servers} doesn't answer: {error!r}") from error
    finally:
        await admin.close()


async def missing(servers: str, declared: Topology) -> list[Thing]:
    """The declared topics that are not there."""
    async with _admin(servers) as admin:
        existing = set(await admin.list_topics())
    return [topic.thing for topic in declared.topics if topic.name not in existing]


async def observe(servers: str, declared: Topology) -> dict[Thing, KafkaTopic]:
    """Every topic but the cluster's own; settings only of those that are declared."""
    async with _admin(servers) as admin:
        return await _observe(admin, {topic.name for topic in declared.topics})


async def _observe(admin: AIOKafkaAdminClient, names: set[str]) -> dict[Thing, KafkaTopic]:
    described = [topic for topic in await admin.describe_topics() if not topic["is_internal"] and not topic["topic"].startswith("__")]
    asked = [topic["topic"] for topic in described if topic["topic"] in names]
    configs = await _configs(admin, asked) if asked else {}
    found = [
        KafkaTopic(
            topic["topic"], len(topic["partitions"]), min(len(p["replicas"]) for p in topic["partitions"]), configs.get(topic["topic"], {})
        )
        for topic in described
        if topic["partitions"]
    ]
    return {topic.thing: topic for topic in found}


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    found: dict[str, dict[str, str]] = {}
    for answer in answers:
        for code, message, _, name, entries in answer.resources:
            if code:
                raise for_code(code)(f"settings of topic {name}: {message}")
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


async def apply(servers: str, declared: Topology, *, grow: bool = False) -> Applied:
    """Make what is missing, set what differs. `grow`: also add partitions, which moves keys to other partitions."""
    done: list[str] = []
    left: list[str] = []
    if not declared.topics:
        return Applied()
    async with _admin(servers) as admin:
        found = compare(declared.kafka, await _observe(admin, {topic.name for topic in declared.topics}))
        absent = [declared.kafka[difference.thing] for difference in found if difference.kind is Kind.MISSING]
        done += await _create(admin, absent)
        for difference in found:
            if difference.kind is Kind.DIFFERENT:
                partitions = difference.facts.get("partitions")
                if partitions and grow and _number(partitions[1]) > _number(partitions[0]):
                    await admin.create_partitions({difference.thing.name: NewPartitions(_number(partitions[1]))})
                    done.append(f"topic {difference.thing.name}: {partitions[0]} -> {partitions[1]} partitions")
                    partitions = None
                left += _unchangeable(difference, partitions)
        done += await _alter(servers, found)
    return Applied(tuple(done), tuple(left))


def _number(fact: Fact | None) -> int:
    return int(fact or 0)


def _unchangeable(difference: Difference, partitions: tuple[Fact | None, Fact | None] | None) -> list[str]:
    name, lines = difference.thing.name, []
    if partitions:
        how = "add them with --grow-partitions (keys move)" if _number(partitions[1]) > _number(partitions[0]) else "Kafka can't remove any"
        lines.append(f"topic {name} has {partitions[0]} partitions, declared {partitions[1]}: {how}")
    if replicas := difference.facts.get("replicas"):
        lines.append(f"topic {name} has {replicas[0]} replicas, declared {replicas[1]}: reassign it with Kafka's own tools")
    return lines


async def _create(admin: AIOKafkaAdminClient, topics: Iterable[KafkaTopic]) -> list[str]:
    new = [NewTopic(topic.name, topic.partitions, topic.replicas, topic_configs=dict(topic.config)) for topic in topics]
    if not new:
        return []
    done = []
    for name, code, *rest in (await admin.create_topics(new)).topic_errors:
        error = for_code(code)
        if not code:
            done.append(f"topic {name}: created")
        elif error is not TopicAlreadyExistsError:  # somebody was faster
            raise error(f"topic {name}: {', '.join(str(part) for part in rest if part)}")
    await _known(admin, [topic.name for topic in new])
    return done


async def _known(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """The controller answers before the brokers have heard of it: wait until one can be asked for what was made."""
    with suppress(TimeoutError):  # a client that asks too early asks again
        async with asyncio.timeout(KNOWN_SECONDS):
            while any(topic["error_code"] for topic in await admin.describe_topics(list(names))):
                await asyncio.sleep(0.05)


async def _alter(servers: str, differences: Sequence[Difference]) -> list[str]:
    changes = {
        difference.thing.name: {
            name: str(declared) for name, (_, declared) in difference.facts.items() if name not in ("partitions", "replicas")
        }
        for difference in differences
        if difference.kind is Kind.DIFFERENT
    }
    changes = {name: settings for name, settings in changes.items() if settings}
    if changes:
        await asyncio.to_thread(_alter_incrementally, servers, changes)
    return [f"topic {name}: {', '.join(f'{key} = {value}' for key, value in settings.items())}" for name, settings in changes.items()]


def _alter_incrementally(servers: str, changes: Mapping[str, Mapping[str, str]]) -> None:
    """By librdkafka: aiokafka can only set all settings of a topic at once, which resets those that somebody else has set."""
    try:
        from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
    except ImportError:
        raise TopologyError(f"changing settings of {', '.join(changes)} needs confluent-kafka: install caravan[operator]") from None
    admin = AdminClient({"bootstrap.servers": servers})
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            name,
            incremental_configs=[ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in settings.items()],
        )
        for name, settings in changes.items()
    ]
    for answer in admin.incremental_alter_configs(resources, request_timeout=REQUEST_SECONDS).values():
        answer.result(REQUEST_SECONDS)
