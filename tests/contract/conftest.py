"""The buses that contracts are proved on, each started once per module; tests make channels of their own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from caravan.bus.embedded import EmbeddedBus
from caravan.bus.kafka import KafkaBus
from caravan.bus.rabbitmq import RabbitBus
from caravan.database import Database
from caravan.database.migrations import provision_databases, upgrade_database
from caravan.leadership import Leadership
from caravan.runtime import BUS, BUS_VERSIONS, Backends
from tests.support.backends import Broker


@pytest.fixture(scope="module")
async def embedded_bus(backends: Backends) -> AsyncIterator[EmbeddedBus]:
    await provision_databases(backends.database_url, {BUS: backends.get_password(BUS)})
    await upgrade_database(BUS, backends.get_database_url(BUS), [Path(BUS_VERSIONS)])
    database = await Database.open(BUS, backends.get_database_url(BUS), size=6)
    leadership = Leadership(backends.get_database_url(BUS), BUS)
    bus = EmbeddedBus(database, leadership)
    await bus.start()
    yield bus
    await leadership.close()
    await database.close()


@pytest.fixture(scope="module")
async def kafka_bus(kafka: Broker) -> AsyncIterator[KafkaBus]:
    bus = KafkaBus(kafka.url, "contract")
    await bus.start()
    yield bus
    await bus.stop()
    await bus.close()


@pytest.fixture(scope="module")
async def rabbit_bus(rabbitmq: Broker) -> AsyncIterator[RabbitBus]:
    bus = RabbitBus(rabbitmq.url, "contract", management=rabbitmq.management_url)
    await bus.start()
    yield bus
    await bus.stop()
    await bus.close()
