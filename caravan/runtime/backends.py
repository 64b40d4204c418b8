"""Where a process keeps things, the databases that its services need there, and which transport and discovery the settings choose."""

import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from caravan import settings
from caravan.audit import AUDIT
from caravan.bus import Bus, Subscription
from caravan.bus.brokers import Brokers
from caravan.bus.embedded import EmbeddedBus
from caravan.bus.kafka import KafkaBus
from caravan.bus.rabbit import RabbitBus
from caravan.database import Database
from caravan.derivation import derive
from caravan.discovery import ByName, ByRegistry, Discovery
from caravan.inbox import Consumer
from caravan.leadership import Leadership
from caravan.messages import Channel
from caravan.migrations import KERNEL, check, provision, role_url, upgrade
from caravan.registry import BySnapshot
from caravan.service import Service
from caravan.settings import Settings

BUS = "bus"
BUS_VERSIONS = Path(__file__).parent.parent / "bus" / "versions"


@dataclass(frozen=True, slots=True)
class Backends:
    """Where a process keeps things: a Postgres server (administrative URL), Redis, and the secret from which passwords are derived.

    `jobs_redis_url`: another Redis for the jobs; without it they share the one of the cache.
    """

    database_url: str
    redis_url: str
    secret: str
    jobs_redis_url: str | None = None
    passwords: Path | None = None
    """A file per database with the password of its role; None: derived from the secret."""

    def password(self, database: str) -> str:
        if self.passwords is None:
            return derive(self.secret, "database:" + database)
        try:
            return (self.passwords / database).read_text().strip()
        except OSError as error:
            raise settings.SettingsError(f"CARAVAN_DATABASE_PASSWORDS: no password for the database {database}: {error}") from None

    def database(self, name: str) -> str:
        return role_url(self.database_url, name, self.password(name))


def _versions(services: Iterable[Service]) -> dict[str, list[Path]]:
    """The folders of versions of each database."""
    declared = [database for service in services for database in service.databases]
    return {BUS: [BUS_VERSIONS]} | {database.name: [*([KERNEL] if database.kernel else []), database.versions] for database in declared}


async def migrated(services: Iterable[Service], backends: Backends) -> None:
    """Raises NotMigrated unless every database of these services is as this code needs it."""
    for name, versions in _versions(services).items():
        await check(name, backends.database(name), versions)


async def migrate(services: Iterable[Service], backends: Backends) -> dict[str, list[str]]:
    """Make and upgrade the databases of these services and of the bus, and declare their channels and readers. Returns which versions are new in which."""
    services = list(services)
    databases = _versions(services)
    await provision(backends.database_url, {name: backends.password(name) for name in databases})
    made = {name: await upgrade(name, backends.database(name), versions) for name, versions in databases.items()}
    bus_database = await Database.open(BUS, backends.database(BUS), size=2)
    try:
        await declare(EmbeddedBus(bus_database, Leadership(backends.database(BUS), BUS)), services)
    finally:
        await bus_database.close()
    return {name: versions for name, versions in made.items() if versions}


async def declare(bus: Bus, services: Sequence[Service], listeners: Sequence[Subscription] = ()) -> None:
    """The channels and readers of these services, and `listeners` that run elsewhere."""
    channels: list[Channel] = [AUDIT, *(channel for service in services for channel in service.channels)]
    await bus.declare(channels, [*subscriptions(services), *listeners])


def choose_bus(kernel: Settings, database: Database, leadership: Leadership) -> Bus:
    """Kafka and RabbitMQ where the settings name them, else Postgres."""
    if kernel.kafka_url and kernel.rabbitmq_url:
        client = f"caravan-{socket.gethostname()}-{os.getpid()}"
        management = kernel.rabbitmq_management_url.get_secret_value() if kernel.rabbitmq_management_url else ""
        return Brokers(
            KafkaBus(kernel.kafka_url, client, replicas=kernel.kafka_replicas),
            RabbitBus(kernel.rabbitmq_url.get_secret_value(), client, management=management),
            owner=kernel.declare,
        )
    return EmbeddedBus(database, leadership)


def choose_discovery(kernel: Settings, database: Database) -> Discovery:
    """By name or through the database; by the operator's snapshot where the settings say where to read it."""
    addresses = ByName(kernel.discovery) if kernel.discovery else ByRegistry(database)
    if kernel.registry_url or kernel.registry_file:
        return BySnapshot(addresses, kernel.registry_file, kernel.registry_url)
    return addresses


def consumers(service: Service) -> Sequence[Consumer]:
    return service.consumers.declared if service.consumers else ()


def subscriptions(services: Iterable[Service]) -> list[Subscription]:
    return [consumer.subscription for service in services for consumer in consumers(service)]
