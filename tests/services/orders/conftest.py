"""The orders service with stand-ins for catalog and inventory."""

from collections.abc import AsyncIterator

import pytest

from caravan.runtime import Backends
from caravan.service import Service
from services.catalog.client import GET_OFFERS
from services.inventory.client import GET_AVAILABILITY
from tests.services.orders.neighbours import neighbours
from tests.support.shop import Shop, run_services


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    catalog = Service("catalog", operations=(GET_OFFERS.bind(neighbours.offers),))
    inventory = Service("inventory", operations=(GET_AVAILABILITY.bind(neighbours.availability),))
    async with run_services(backends, "orders", extra_services=(catalog, inventory)) as shop:
        yield shop
