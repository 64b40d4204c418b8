"""The whole shop in the test's process, and a scenario in which every message that it knows is sent at least once."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

from caravan.bus import Bus
from caravan.clock import new_id
from caravan.runtime import Backends, choose_bus, process
from services.registry import SERVICES
from tests.support.program import ADMIN, TERMINAL, Program, build_environment
from tests.support.shop import URL, Shop, run_services, wait_until

PACE = {"SHIPPING_PICKUP_SECONDS": "1.0", "SHIPPING_DELIVERY_SECONDS": "0.2", "PAYMENTS_RETRY_SECONDS": "[0.1,0.1,0.2]"}


@dataclass
class ShopScenario:
    """A shop and what happened in it: the orders by id, with the way they have to end."""

    shop: Shop
    program: Program
    orders: dict[str, str] = field(default_factory=dict)
    competing_orders: list[str] = field(default_factory=list)
    """Two orders for one unit: either may be first."""

    async def run_scenario(self) -> None:
        who = await self._create_customers()
        sku = await self._create_products(who)
        await self._place_orders(who, sku)

    async def _create_customers(self) -> dict[str, str]:
        """Customers, an invited one, a change of role, of name and of password, a forgotten one."""
        client, admin = self.program.client, await self.program.authorize_operator()
        invited = await client.post(
            "/v1/users/invitations", json={"email": f"{new_id()}@example.com", "name": "Grace Hopper"}, headers=admin
        )
        assert invited.status_code == 201, invited.text
        changed = await client.patch(f"/v1/users/{invited.json()['id']}", json={"role": "staff"}, headers=admin)
        assert changed.status_code == 200, changed.text
        who = await self.program.register_customer()
        renamed = await client.patch("/v1/users/me", json={"name": "Ada King"}, headers=who)
        assert renamed.status_code == 200, renamed.text
        reset = await client.post("/v1/auth/password-reset", json={"email": renamed.json()["email"]})
        assert reset.status_code == 202, reset.text
        return who

    async def _create_products(self, who: dict[str, str]) -> str:
        """One product goes on sale for less, which somebody waited for; another is withdrawn. The sku of the first."""
        client, admin = self.program.client, await self.program.authorize_operator()
        sku, withdrawn = await self.program.create_product(stock=100), await self.program.create_product(stock=0)
        assert (await client.post(f"/v1/products/{sku}/watch", headers=who)).status_code == 201
        cheaper = await client.patch(
            f"/v1/products/{sku}",
            json={"price": {"amount": 990, "currency": "GBP"}, "attributes": {"colour": "blue"}},
            headers=admin,
        )
        assert cheaper.status_code == 200, cheaper.text
        assert (await client.delete(f"/v1/products/{withdrawn}", headers=admin)).status_code == 204
        return sku

    async def _place_orders(self, who: dict[str, str], sku: str) -> None:
        for token, end in (
            ("tok_ok", "delivered"),
            ("tok_declined", "payment_failed"),
            ("tok_flaky", "delivered"),
            ("tok_timeout_charged", "delivered"),
        ):
            self.orders[await self._place_order(who, sku, token)] = end
        scarce = await self.program.create_product(stock=0)
        await self._cause_rejection(who, scarce)
        paid = await self._place_order(who, sku, "tok_ok")
        await wait_until(lambda: self._has_status(who, paid, "paid"))
        await self._cancel_order(who, paid)
        self.orders[paid] = "refunded"
        early = await self._place_order(who, sku, "tok_flaky")
        await self._cancel_order(who, early)
        self.orders[early] = ""  # cancelled, or refunded when the money was faster
        await self._cancel_too_late(who, sku)

    async def _cause_rejection(self, who: dict[str, str], sku: str) -> None:
        """Stock that is there when the order is placed, and gone before it is reserved: two orders for the last unit,
        until one is refused.
        """
        client, admin = self.program.client, await self.program.authorize_operator()
        while not self.competing_orders:
            received = await client.post(
                f"/v1/stock/{sku}/movements", json={"kind": "receive", "quantity": 1, "reason": "test"}, headers=admin
            )
            assert received.status_code == 201, received.text
            one, other = [await self.program.place_order(who, sku) for _ in range(2)]
            if other.status_code == 202:
                self.competing_orders = [one.json()["id"], other.json()["id"]]
                self.orders |= dict.fromkeys(self.competing_orders, "")
            else:
                self.orders[one.json()["id"]] = "delivered"

    async def _cancel_too_late(self, who: dict[str, str], sku: str) -> None:
        """A cancellation that is asked for after the parcel has left and before orders knows of it, which takes a try
        or two.
        """
        while True:
            order_id = await self._place_order(who, sku, "tok_ok")
            self.orders[order_id] = "delivered"
            await wait_until(lambda order_id=order_id: self._is_shipped(order_id), every=0.002)  # type: ignore[misc]
            answer = await self.program.client.post(f"/v1/orders/{order_id}/cancel", headers=who)
            if answer.status_code == 202:
                return
            assert answer.status_code == 409, answer.text

    async def _is_shipped(self, order_id: str) -> bool:
        shipments = self.shop.get_database("shipping")
        return bool(
            await shipments.fetchval("SELECT status = 'shipped' FROM shipment WHERE order_id = $1", UUID(order_id))
        )

    async def _place_order(self, who: dict[str, str], sku: str, token: str) -> str:
        response = await self.program.place_order(who, sku, quantity=2, token=token)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    async def _has_status(self, who: dict[str, str], order_id: str, status: str) -> bool:
        return bool((await self.program.get_order(who, order_id))["status"] == status)

    async def _cancel_order(self, who: dict[str, str], order_id: str) -> None:
        response = await self.program.client.post(f"/v1/orders/{order_id}/cancel", headers=who)
        assert response.status_code == 202, response.text

    async def wait_for_ends(self) -> None:
        """Wait until every order has ended as it has to."""
        admin = await self.program.authorize_operator()

        async def is_everything_ended() -> bool:
            statuses = {order_id: (await self.program.get_order(admin, order_id))["status"] for order_id in self.orders}
            for order_id, status in statuses.items():
                assert status in TERMINAL, f"order {order_id} is {status}"
                assert self.orders[order_id] in ("", status), (
                    f"order {order_id} is {status}, not {self.orders[order_id]}"
                )
            assert not self.competing_orders or sorted(statuses[order_id] for order_id in self.competing_orders) == [
                "delivered",
                "rejected",
            ]
            return True

        await wait_until(is_everything_ended, seconds=30, every=0.1)


@asynccontextmanager
async def run_whole_shop(
    backends: Backends, data: Path, *, wrap: Callable[[Bus], Bus] = lambda bus: bus, **settings: Any
) -> AsyncIterator[ShopScenario]:
    """Every service in this process. `wrap`: what stands between the services and their bus; `settings`: more fields of
    the kernel's.
    """
    choose = choose_bus

    def choose_wrapped_bus(*arguments: Any) -> Bus:
        return wrap(choose(*arguments))

    data.mkdir(parents=True, exist_ok=True)
    (data / "secret").write_text(backends.secret)
    kernel: dict[str, Any] = {
        "data": data,
        "seed": "none",
        "admin_email": ADMIN[0],
        "admin_password": ADMIN[1],
        **settings,
    }
    environment = {
        name: value for name, value in build_environment(data, **PACE).items() if not name.startswith("CARAVAN_")
    }
    with patch.dict(os.environ, environment), patch.object(process, "choose_bus", choose_wrapped_bus):
        async with run_services(backends, *SERVICES, **kernel) as shop:
            program = Program(URL, data, [])
            await program.client.aclose()
            program.client = shop.client
            yield ShopScenario(shop, program)
