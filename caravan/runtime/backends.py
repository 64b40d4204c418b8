"""The backends of a process, the databases that its services need there, and the bus and discovery that the settings
choose.
"""

import os
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from caravan.audit import AUDIT
from caravan.bus import Bus, Subscription, TopicLog
from caravan.bus.embedded import EmbeddedBus
from caravan.bus.embedded.log import EmbeddedTopicLog
from caravan.consumers import Consumer
from caravan.database import Database
from caravan.database.migrations import (
    KERNEL_VERSIONS,
    build_reader_url,
    build_role_url,
    check_versions,
    grant_reads,
    provision_databases,
    upgrade_database,
)
from caravan.derivation import derive_secret
from caravan.discovery import DatabaseDiscovery, Discovery, DnsDiscovery, SnapshotDiscovery
from caravan.environment import SettingsError
from caravan.leadership import Leadership
from caravan.messages import Channel
from caravan.service import Service
from caravan.settings import Settings

BUS = "bus"
BUS_VERSIONS = Path(__file__).parent.parent / "bus" / "versions"


@dataclass(frozen=True, slots=True)
class Backends:
    """Where a process keeps things: a Postgres server (administrative URL), Redis, and the secret from which passwords
    are derived.

    `jobs_redis_url`: another Redis for the jobs; without it they share the one of the cache.
    """

    database_url: str
    redis_url: str
    secret: str
    jobs_redis_url: str | None = None
    passwords_folder: Path | None = None
    """A file per database with the password of its role; None: derived from the secret."""

    def get_password(self, database: str) -> str:
        if self.passwords_folder is None:
            return derive_secret(self.secret, "database:" + database)
        try:
            return (self.passwords_folder / database).read_text().strip()
        except OSError as error:
            raise SettingsError(
                f"CARAVAN_DATABASE_PASSWORDS: no password for the database {database}: {error}"
            ) from None

    def get_database_url(self, name: str) -> str:
        return build_role_url(self.database_url, name, self.get_password(name))

    def get_reader_url(self, name: str, reader: str) -> str:
        """Under which the role of the database `reader` reads the one of that name."""
        return build_reader_url(self.database_url, name, reader, self.get_password(reader))


def _list_version_folders(services: Iterable[Service]) -> dict[str, list[Path]]:
    """The folders of versions of each database."""
    declared = [database for service in services for database in service.databases]
    return {BUS: [BUS_VERSIONS]} | {
        database.name: [*([KERNEL_VERSIONS] if database.has_kernel_tables else []), database.version_folder]
        for database in declared
    }


async def check_migrations(services: Iterable[Service], backends: Backends) -> None:
    """Raises NotMigrated unless every database of these services is as this code needs it."""
    for name, versions in _list_version_folders(services).items():
        await check_versions(name, backends.get_database_url(name), versions)


async def run_migrations(services: Iterable[Service], backends: Backends) -> dict[str, list[str]]:
    """Make and upgrade the databases of these services and of the bus, and declare their channels and readers. Returns
    which versions are new in which.
    """
    services = list(services)
    version_folders = _list_version_folders(services)
    readers = {database.name: database.readers for service in services for database in service.databases}
    try:
        await provision_databases(
            backends.database_url, {name: backends.get_password(name) for name in version_folders}, readers
        )
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise SettingsError(f"CARAVAN_DATABASE_URL: Postgres refuses its user: {error}") from None
    made = {
        name: await upgrade_database(name, backends.get_database_url(name), versions)
        for name, versions in version_folders.items()
    }
    for name, columns_by_reader in readers.items():
        await grant_reads(backends.get_database_url(name), columns_by_reader)
    bus_database = await Database.open(BUS, backends.get_database_url(BUS), size=2)
    try:
        await declare_channels(EmbeddedBus(bus_database, Leadership(backends.get_database_url(BUS), BUS)), services)
    finally:
        await bus_database.close()
    return {name: versions for name, versions in made.items() if versions}


async def declare_channels(bus: Bus, services: Sequence[Service], listeners: Sequence[Subscription] = ()) -> None:
    """The channels and readers of these services, and `listeners` that run elsewhere."""
    channels: list[Channel] = [AUDIT, *(channel for service in services for channel in service.channels)]
    await bus.declare_channels(channels, [*list_subscriptions(services), *listeners])


def choose_bus(kernel_settings: Settings, database: Database, leadership: Leadership) -> Bus:
    """Kafka and RabbitMQ where the settings name them, else Postgres."""
    if kernel_settings.kafka_url and kernel_settings.rabbitmq_url:
        # A process without brokers needs neither FastStream nor the clients, which take memory and time to load.
        from caravan.bus.brokers import BrokerBus
        from caravan.bus.kafka import KafkaBus
        from caravan.bus.kafka_servers import KafkaServers
        from caravan.bus.rabbitmq import RabbitBus

        client_id = f"caravan-{socket.gethostname()}-{os.getpid()}"
        management = (
            kernel_settings.rabbitmq_management_url.get_secret_value()
            if kernel_settings.rabbitmq_management_url
            else ""
        )
        return BrokerBus(
            KafkaBus(KafkaServers.from_settings(kernel_settings), client_id, replicas=kernel_settings.kafka_replicas),
            RabbitBus(kernel_settings.rabbitmq_url.get_secret_value(), client_id, management=management),
            is_owner=kernel_settings.declare,
        )
    return EmbeddedBus(database, leadership)


@asynccontextmanager
async def open_topic_log(
    kernel_settings: Settings, backends: Backends, topics: Sequence[str]
) -> AsyncIterator[TopicLog]:
    """The topics from their first message on, on Kafka where the settings name it, else in Postgres."""
    if kernel_settings.kafka_url and kernel_settings.rabbitmq_url:
        from caravan.bus.kafka.log import open_kafka_log
        from caravan.bus.kafka_servers import KafkaServers

        client_id = f"caravan-{socket.gethostname()}-{os.getpid()}"
        async with open_kafka_log(KafkaServers.from_settings(kernel_settings), client_id, topics) as kafka_log:
            yield kafka_log
        return
    database = await Database.open(BUS, backends.get_database_url(BUS), size=1)
    try:
        yield EmbeddedTopicLog(database, topics)
    finally:
        await database.close()


def choose_discovery(kernel_settings: Settings, database: Database) -> Discovery:
    """By name or through the database; by the operator's snapshot where the settings say where to read it."""
    fallback = DnsDiscovery(kernel_settings.discovery) if kernel_settings.discovery else DatabaseDiscovery(database)
    if kernel_settings.registry_url or kernel_settings.registry_file:
        return SnapshotDiscovery(fallback, kernel_settings.registry_file, kernel_settings.registry_url)
    return fallback


def list_consumers(service: Service) -> Sequence[Consumer]:
    groups = (service.consumers, *service.consumer_groups) if service.consumers else service.consumer_groups
    return [consumer for group in groups for consumer in group.handlers]


def list_subscriptions(services: Iterable[Service]) -> list[Subscription]:
    return [consumer.subscription for service in services for consumer in list_consumers(service)]
