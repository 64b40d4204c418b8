"""Catalog in the test's process, with a stand-in for inventory."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from caravan.clock import new_id
from caravan.errors import ServiceUnavailable
from caravan.runtime import Backends
from caravan.service import Service
from services.inventory import messages
from services.inventory.caches import STOCK
from services.inventory.client import GET_AVAILABILITY, Availabilities, Availability
from services.notifications import messages as notified
from tests.support.shop import Shop, run_services


class Inventory:
    """As far as catalog sees it."""

    available = 5
    is_unavailable = False

    async def availability(self, _: Any, request: Any) -> Availabilities:
        if self.is_unavailable:
            raise ServiceUnavailable("inventory is away")
        known = [sku for sku in request.skus if not sku.startswith("NOSTOCK")]
        return Availabilities(
            stock=[
                Availability(sku=sku, on_hand=self.available + 1, reserved=1, available=self.available) for sku in known
            ]
        )


@dataclass
class CatalogAdmin:
    """A shop and its admin at work."""

    shop: Shop
    inventory: Inventory

    def product(self, sku: str | None = None, **values: Any) -> dict[str, Any]:
        return {
            "sku": sku or f"T-{new_id().hex[-12:]}",
            "name": "Enamel mug",
            "description": "Holds tea.",
            "category": "kitchen",
            "price": {"amount": 1250, "currency": "GBP"},
            "attributes": {"material": "enamel"},
            **values,
        }

    async def call(self, method: str, path: str, body: Any = None, role: str = "admin", **headers: str) -> Any:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.shop.client.request(method, path, json=body, headers=self.shop.issue_headers(role) | given)

    async def change_stock(self, sku: str, available: int) -> None:
        """As inventory does: the change, then the tag of the sku."""
        self.inventory.available = available
        await self.shop.get_context("catalog").cache.invalidate({STOCK(sku)})

    async def made(self, **values: Any) -> str:
        product = self.product(**values)
        answer = await self.call("POST", "/v1/products", product)
        assert answer.status_code == 201, answer.text
        return str(product["sku"])

    async def events(self, sku: str) -> list[dict[str, Any]]:
        return [envelope["data"] for envelope in await self.shop.read_topic("product-updated", sku)]


@pytest.fixture(scope="module")
async def catalog_admin(backends: Backends) -> AsyncIterator[CatalogAdmin]:
    inventory = Inventory()
    stand_in = Service(
        "inventory", operations=(GET_AVAILABILITY.bind(inventory.availability),), channels=messages.CHANNELS
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CATALOG_OPERATOR_EMAIL", "desk@example.com")
        async with run_services(
            backends, "catalog", extra_services=(stand_in, Service("notifications", channels=notified.CHANNELS))
        ) as shop:
            yield CatalogAdmin(shop, inventory)
