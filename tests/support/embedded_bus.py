"""The fixture `embedded_bus`, and the same bus as another process has it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from caravan.bus.embedded import EmbeddedBus
from caravan.clock import Clock, utc_now
from caravan.database import Database
from caravan.database.migrations import provision_databases, upgrade_database
from caravan.leadership import Leadership
from caravan.runtime import BUS, BUS_VERSIONS, Backends


@asynccontextmanager
async def open_embedded_bus(backends: Backends, clock: Clock = utc_now) -> AsyncIterator[EmbeddedBus]:
    """A bus of its own on the same tables, as another process has it."""
    database = await Database.open(BUS, backends.get_database_url(BUS), size=6, clock=clock)
    leadership = Leadership(backends.get_database_url(BUS), BUS)
    bus = EmbeddedBus(database, leadership)
    await bus.start()
    yield bus
    await leadership.close()
    await database.close()


@pytest.fixture(scope="module")
async def embedded_bus(backends: Backends) -> AsyncIterator[EmbeddedBus]:
    await provision_databases(backends.database_url, {BUS: backends.get_password(BUS)})
    await upgrade_database(BUS, backends.get_database_url(BUS), [Path(BUS_VERSIONS)])
    async with open_embedded_bus(backends) as bus:
        yield bus
