"""Observes the topics of a Kafka cluster and creates or alters them as declared. Nothing is deleted or shrunk, and a
setting that nobody declared is left alone.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailed,
    TopicAlreadyExistsError,
    UnsupportedSaslMechanismError,
    for_code,
)

from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.opening import finish_opening
from caravan.bus.topology import BrokerUnavailable, KafkaTopic, ObjectRef, PropertyValue, Topology, TopologyError
from caravan.bus.topology.drift import ApplyResult, Difference, DriftKind, find_differences
from caravan.tls import explain_failure, suggest_certificate

_REQUEST_SECONDS = 15
_METADATA_SECONDS = 5.0
_PROBE_SECONDS = 5
_LOGIN_ERRORS = (AuthenticationFailedError, SaslAuthenticationFailed, UnsupportedSaslMechanismError)


@asynccontextmanager
async def _open_admin(servers: KafkaServers) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(
        client_id="caravan-topology", request_timeout_ms=_REQUEST_SECONDS * 1000, **servers.build_client_arguments()
    )
    try:
        await finish_opening(admin.start())
        yield admin
    except (KafkaConnectionError, KafkaTimeoutError) as error:
        raise BrokerUnavailable(await describe_failure(servers, error)) from error
    finally:
        await admin.close()


async def describe_failure(servers: KafkaServers, error: Exception) -> str:
    """Why Kafka can't be reached, with the setting to look at.

    aiokafka logs the reason for each address, and raises only that there is none: so a connection to each is tried
    again. What a server answered says more than that another one is away.
    """
    addresses = [address.strip() for address in servers.addresses.split(",") if address.strip()]
    answers = await asyncio.gather(*(_probe_address(servers, address, error) for address in addresses))
    address, (reason, _) = max(
        zip(addresses, answers, strict=True), key=lambda probed: probed[1][1]
    )  # the first of equal ones
    return f"Kafka at {address} can't be used: {reason}"


async def _probe_address(servers: KafkaServers, address: str, error: Exception) -> tuple[str, bool]:
    """Why one server can't be used, and whether it has answered anything."""
    host, _, port = address.rpartition(":")
    try:
        connection = await create_conn(
            host.strip("[]"),
            int(port),
            request_timeout_ms=_PROBE_SECONDS * 1000,
            **servers.build_connection_arguments(),
        )
        connection.close()
        return f"{error}; does it expect CARAVAN_KAFKA_PROTOCOL={servers.protocol}?", True
    except _LOGIN_ERRORS as failure:
        return (
            f"CARAVAN_KAFKA_USERNAME and CARAVAN_KAFKA_PASSWORD are refused ({servers.sasl_mechanism}): {failure}",
            True,
        )
    except KafkaError as failure:
        reason = f"{failure}; does it expect CARAVAN_KAFKA_PROTOCOL={servers.protocol}?"
        if servers.has_tls:
            reason += f" Or {suggest_certificate(servers.certificates)}"
        return reason, True
    except (OSError, TimeoutError) as failure:
        reason = explain_failure(failure, "CARAVAN_KAFKA_URL", servers.certificates)
        return reason or str(failure) or repr(failure), bool(reason)


async def find_missing(servers: KafkaServers, declared: Topology) -> list[ObjectRef]:
    """The declared topics that are not there."""
    async with _open_admin(servers) as admin:
        existing_names = set(await admin.list_topics())
    return [topic.object_ref for topic in declared.topics if topic.name not in existing_names]


async def observe_objects(servers: KafkaServers, declared: Topology) -> dict[ObjectRef, KafkaTopic]:
    """Every topic but the cluster's own; settings only of those that are declared."""
    async with _open_admin(servers) as admin:
        return await _describe_topics(admin, {topic.name for topic in declared.topics})


async def _describe_topics(admin: AIOKafkaAdminClient, names: set[str]) -> dict[ObjectRef, KafkaTopic]:
    descriptions = [
        topic
        for topic in await admin.describe_topics()
        if not topic["is_internal"] and not topic["topic"].startswith("__")
    ]
    declared_names = [topic["topic"] for topic in descriptions if topic["topic"] in names]
    configs = await _fetch_configs(admin, declared_names) if declared_names else {}
    topics = [
        KafkaTopic(
            topic["topic"],
            len(topic["partitions"]),
            min(len(p["replicas"]) for p in topic["partitions"]),
            configs.get(topic["topic"], {}),
        )
        for topic in descriptions
        if topic["partitions"]
    ]
    return {topic.object_ref: topic for topic in topics}


async def _fetch_configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    configs: dict[str, dict[str, str]] = {}
    for response in responses:
        for code, message, _, name, entries in response.resources:
            if code:
                raise for_code(code)(f"settings of topic {name}: {message}")
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


async def apply_topology(servers: KafkaServers, declared: Topology, *, grow: bool = False) -> ApplyResult:
    """Make what is missing, set what differs. `grow`: also add partitions, which moves keys to other partitions."""
    changes: list[str] = []
    unresolved: list[str] = []
    if not declared.topics:
        return ApplyResult()
    async with _open_admin(servers) as admin:
        differences = find_differences(
            declared.kafka_objects, await _describe_topics(admin, {topic.name for topic in declared.topics})
        )
        missing_topics = [
            declared.kafka_objects[difference.object_ref]
            for difference in differences
            if difference.kind is DriftKind.MISSING
        ]
        changes += await _create_topics(admin, missing_topics)
        for difference in differences:
            if difference.kind is DriftKind.DIFFERENT:
                partitions = difference.properties.get("partitions")
                if partitions and grow and _to_number(partitions[1]) > _to_number(partitions[0]):
                    await admin.create_partitions(
                        {difference.object_ref.name: NewPartitions(_to_number(partitions[1]))}
                    )
                    changes.append(f"topic {difference.object_ref.name}: {partitions[0]} -> {partitions[1]} partitions")
                    partitions = None
                unresolved += _explain_unresolved(difference, partitions)
        changes += await _alter_configs(servers, differences)
    return ApplyResult(tuple(changes), tuple(unresolved))


def _to_number(value: PropertyValue | None) -> int:
    return int(value or 0)


def _explain_unresolved(
    difference: Difference, partitions: tuple[PropertyValue | None, PropertyValue | None] | None
) -> list[str]:
    name, explanations = difference.object_ref.name, []
    if partitions:
        how = (
            "add them with --grow-partitions (keys move)"
            if _to_number(partitions[1]) > _to_number(partitions[0])
            else "Kafka can't remove any"
        )
        explanations.append(f"topic {name} has {partitions[0]} partitions, declared {partitions[1]}: {how}")
    if replicas := difference.properties.get("replicas"):
        explanations.append(
            f"topic {name} has {replicas[0]} replicas, declared {replicas[1]}: reassign it with Kafka's own tools"
        )
    return explanations


async def _create_topics(admin: AIOKafkaAdminClient, topics: Iterable[KafkaTopic]) -> list[str]:
    new_topics = [
        NewTopic(topic.name, topic.partitions, topic.replicas, topic_configs=dict(topic.config)) for topic in topics
    ]
    if not new_topics:
        return []
    changes = []
    for name, code, *rest in (await admin.create_topics(new_topics)).topic_errors:
        error = for_code(code)
        if not code:
            changes.append(f"topic {name}: created")
        elif error is not TopicAlreadyExistsError:  # somebody was faster
            raise error(f"topic {name}: {', '.join(str(part) for part in rest if part)}")
    await _wait_until_known(admin, [topic.name for topic in new_topics])
    return changes


async def _wait_until_known(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """The controller answers before the brokers have heard of it: wait until one can be asked for what was made."""
    with suppress(TimeoutError):  # a client that asks too early asks again
        async with asyncio.timeout(_METADATA_SECONDS):
            while any(topic["error_code"] for topic in await admin.describe_topics(list(names))):
                await asyncio.sleep(0.05)


async def _alter_configs(servers: KafkaServers, differences: Sequence[Difference]) -> list[str]:
    changes = {
        difference.object_ref.name: {
            name: str(declared)
            for name, (_, declared) in difference.properties.items()
            if name not in ("partitions", "replicas")
        }
        for difference in differences
        if difference.kind is DriftKind.DIFFERENT
    }
    changes = {name: settings for name, settings in changes.items() if settings}
    if changes:
        await asyncio.to_thread(_alter_incrementally, servers, changes)
    return [
        f"topic {name}: {', '.join(f'{key} = {value}' for key, value in settings.items())}"
        for name, settings in changes.items()
    ]


def _alter_incrementally(servers: KafkaServers, changes: Mapping[str, Mapping[str, str]]) -> None:
    """By librdkafka: aiokafka can only set all settings of a topic at once, which resets those that somebody else has
    set.
    """
    try:
        from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
    except ImportError:
        raise TopologyError(
            f"changing settings of {', '.join(changes)} needs confluent-kafka: install caravan[operator]"
        ) from None
    admin = AdminClient(servers.build_librdkafka_settings())
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            name,
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in settings.items()
            ],
        )
        for name, settings in changes.items()
    ]
    for future in admin.incremental_alter_configs(resources, request_timeout=_REQUEST_SECONDS).values():
        future.result(_REQUEST_SECONDS)
