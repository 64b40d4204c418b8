"""The whole shop in the test's process, and a story in which every message that it knows is sent at least once."""

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
from caravan.runtime import Backends, process
from services.__main__ import SERVICES
from tests.program import ADMIN, TERMINAL, Program, environment
from tests.shop import URL, Shop, running, until

PACE = {"SHIPPING_PICKUP_SECONDS": "1.0", "SHIPPING_DELIVERY_SECONDS": "0.2", "PAYMENTS_RETRY_SECONDS": "[0.1,0.1,0.2]"}


@dataclass
class Story:
    """A shop and what happened in it: the orders by id, with the way they have to end."""

    shop: Shop
    program: Program
    orders: dict[str, str] = field(default_factory=dict)
    rivals: list[str] = field(default_factory=list)
    """Two orders for one unit: either may be first."""

    async def tell(self) -> None:
        who = await self._people()
        sku = await self._products(who)
        await self._orders(who, sku)

    async def _people(self) -> dict[str, str]:
        """Customers, an invited one, a change of role, of name and of password, a forgotten one."""
        client, admin = self.program.client, await self.program.operator()
        invited = await client.post(
            "/v1/users/invitations", json={"email": f"{new_id()}@example.com", "name": "Grace Hopper"}, headers=admin
        )
        assert invited.status_code == 201, invited.text
        changed = await client.patch(f"/v1/users/{invited.json()['id']}", json={"role": "staff"}, headers=admin)
        assert changed.status_code == 200, changed.text
        who = await self.program.customer()
        renamed = await client.patch("/v1/users/me", json={"name": "Ada King"}, headers=who)
        assert renamed.status_code == 200, renamed.text
        reset = await client.post("/v1/auth/password-reset", json={"email": renamed.json()["email"]})
        assert reset.status_code == 202, reset.text
        return who

    async def _products(self, who: dict[str, str]) -> str:
        """One product goes on sale for less, which somebody waited for; another is withdrawn. The sku of the first."""
        client, admin = self.program.client, await self.program.operator()
        sku, withdrawn = await self.program.product(stock=100), await self.program.product(stock=0)
        assert (await client.post(f"/v1/products/{sku}/watch", headers=who)).status_code == 201
        cheaper = await client.patch(
            f"/v1/products/{sku}", json={"price": {"amount": 990, "currency": "GBP"}, "attributes": {"colour": "blue"}}, headers=admin
        )
        assert cheaper.status_code == 200, cheaper.text
        assert (await client.delete(f"/v1/products/{withdrawn}", headers=admin)).status_code == 204
        return sku

    async def _orders(self, who: dict[str, str], sku: str) -> None:
        for token, end in (
            ("tok_ok", "delivered"),
            ("tok_declined", "payment_failed"),
            ("tok_flaky", "delivered"),
            ("tok_timeout_charged", "delivered"),
        ):
            self.orders[await self._place(who, sku, token)] = end
        scarce = await self.program.product(stock=0)
        await self._reject(who, scarce)
        paid = await self._place(who, sku, "tok_ok")
        await until(lambda: self._is(who, paid, "paid"))
        await self._cancel(who, paid)
        self.orders[paid] = "refunded"
        early = await self._place(who, sku, "tok_flaky")
        await self._cancel(who, early)
        self.orders[early] = ""  # cancelled, or refunded when the money was faster
        await self._cancel_too_late(who, sku)

    async def _reject(self, who: dict[str, str], sku: str) -> None:
        """Stock that is there when the order is placed, and gone before it is reserved: two orders for the last unit, until one is refused."""
        client, admin = self.program.client, await self.program.operator()
        while not self.rivals:
            received = await client.post(
                f"/v1/stock/{sku}/movements", json={"kind": "receive", "quantity": 1, "reason": "test"}, headers=admin
            )
            assert received.status_code == 201, received.text
            one, other = [await self.program.place(who, sku) for _ in range(2)]
            if other.status_code == 202:
                self.rivals = [one.json()["id"], other.json()["id"]]
                self.orders |= dict.fromkeys(self.rivals, "")
            else:
                self.orders[one.json()["id"]] = "delivered"

    async def _cancel_too_late(self, who: dict[str, str], sku: str) -> None:
        """A cancellation that is asked for after the parcel has left and before orders knows of it, which takes a try or two."""
        while True:
            order_id = await self._place(who, sku, "tok_ok")
            self.orders[order_id] = "delivered"
            await until(lambda order_id=order_id: self._left(order_id), every=0.002)  # type: ignore[misc]
            answer = await self.program.client.post(f"/v1/orders/{order_id}/cancel", headers=who)
            if answer.status_code == 202:
                return
            assert answer.status_code == 409, answer.text

    async def _left(self, order_id: str) -> bool:
        shipments = self.shop.database("shipping")
        return bool(await shipments.fetchval("SELECT status = 'shipped' FROM shipment WHERE order_id = $1", UUID(order_id)))

    async def _place(self, who: dict[str, str], sku: str, token: str) -> str:
        answer = await self.program.place(who, sku, quantity=2, token=token)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def _is(self, who: dict[str, str], order_id: str, status: str) -> bool:
        return bool((await self.program.order(who, order_id))["status"] == status)

    async def _cancel(self, who: dict[str, str], order_id: str) -> None:
        answer = await self.program.client.post(f"/v1/orders/{order_id}/cancel", headers=who)
        assert answer.status_code == 202, answer.text

    async def rest(self) -> None:
        """Wait until every order has ended as it has to."""
        admin = await self.program.operator()

        async def ended() -> bool:
            came_to = {order_id: (await self.program.order(admin, order_id))["status"] for order_id in self.orders}
            for order_id, status in came_to.items():
                assert status in TERMINAL, f"order {order_id} is {status}"
                assert self.orders[order_id] in ("", status), f"order {order_id} is {status}, not {self.orders[order_id]}"
            assert not self.rivals or sorted(came_to[order_id] for order_id in self.rivals) == ["delivered", "rejected"]
            return True

        await until(ended, seconds=30, every=0.1)


@asynccontextmanager
async def whole_shop(
    backends: Backends, data: Path, *, wrap: Callable[[Bus], Bus] = lambda bus: bus, **settings: Any
) -> AsyncIterator[Story]:
    """Every service in this process. `wrap`: what stands between the services and their bus; `settings`: more fields of the kernel's."""
    choose = process.choose_bus

    def chosen(*arguments: Any) -> Bus:
        return wrap(choose(*arguments))

    data.mkdir(parents=True, exist_ok=True)
    (data / "secret").write_text(backends.secret)
    kernel: dict[str, Any] = {"data": data, "seed": "none", "admin_email": ADMIN[0], "admin_password": ADMIN[1], **settings}
    own = {name: value for name, value in environment(data, **PACE).items() if not name.startswith("CARAVAN_")}
    with patch.dict(os.environ, own), patch.object(process, "choose_bus", chosen):
        async with running(backends, *SERVICES, **kernel) as shop:
            program = Program(URL, data, [])
            await program.client.aclose()
            program.client = shop.client
            yield Story(shop, program)
