"""Runs the shop of an early step as real processes, with a mail server of the test's; and what every step's shop has to
do, whatever it is made of.
"""

import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink

from caravan.clock import new_id
from tests.support.shop import wait_until

JOURNEY = Path(__file__).parents[2] / "docs/journey"
CREDENTIAL = "known to gateway and services"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MailServer(Sink):
    """Somebody else's mail server: it can be stopped, and it can refuse an address."""

    def __init__(self) -> None:
        self.port = free_port()
        self.attempts: list[str] = []
        self.sent_to: list[str] = []
        self.refused: set[str] = set()
        self.start()

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802 -- aiosmtpd's name
        self.attempts += envelope.rcpt_tos
        if self.refused & set(envelope.rcpt_tos):
            return "450 this mailbox is full"
        self.sent_to += envelope.rcpt_tos
        return "250 OK"

    def start(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()
        self.up = True

    def stop(self) -> None:
        if self.up:
            self._controller.stop()
        self.up = False


@dataclass
class EarlyShop:
    """`urls`: where the clients of users, products and orders have to go."""

    folder: Path
    settings: dict[str, str]
    mail: MailServer = field(default_factory=MailServer)
    urls: dict[str, str] = field(default_factory=dict)
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    client: httpx2.AsyncClient = field(default_factory=lambda: httpx2.AsyncClient(timeout=20))

    async def start(self, program: str, *arguments: str, name: str = "", **settings: str) -> str:
        """Start `docs/journey/<program>`; where it listens, if it does. Started again under its name, it listens where
        it did.
        """
        name = name or (arguments[0] if arguments else Path(program).stem)
        before = re.search(r":(\d+)$", self.urls.get(f"inside {name}", ""))
        environment = {
            **os.environ,
            **self.settings,
            "MAIL": f"127.0.0.1:{self.mail.port}",
            "PORT": before[1] if before else "0",
            **settings,
        }
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            begins = out.tell()
            process = self.processes[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                str(JOURNEY / program),
                *arguments,
                cwd=self.folder,
                env=environment,
                stdout=out,
                stderr=out,
            )

        async def running() -> str | None:
            text = log.read_text()[begins:]
            assert process.returncode is None, f"{program} ended: {text[-2000:]}"
            found = re.search(r"Uvicorn running on (http://[\d.]+:\d+)|is running", text)
            return found and (found[1] or "running")

        url = self.urls[f"inside {name}"] = str(await wait_until(running, seconds=60, every=0.05))
        return url

    async def kill(self, name: str) -> None:
        self.processes[name].kill()
        await self.processes[name].wait()

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.terminate()
        for process in self.processes.values():
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
        self.mail.stop()
        await self.client.aclose()

    async def customer(self) -> dict[str, str]:
        answer = await self.client.post(f"{self.urls['users']}/users", json={"email": f"{new_id()}@example.com"})
        assert answer.status_code == 201, answer.text
        found: dict[str, str] = answer.json()
        return found

    async def place(
        self, customer: dict[str, str], sku: str = "MUG", quantity: int = 2, card: str = "tok_ok"
    ) -> httpx2.Response:
        body = {"user_id": customer["id"], "sku": sku, "quantity": quantity, "card": card}
        return await self.client.post(f"{self.urls['orders']}/orders", json=body)

    async def stock(self, sku: str = "MUG") -> int:
        return int((await self.client.get(f"{self.urls['products']}/products/{sku}")).json()["stock"])

    async def orders(self) -> dict[str, str]:
        """Status by id."""
        return {
            order["id"]: order["status"] for order in (await self.client.get(f"{self.urls['orders']}/orders")).json()
        }

    def charges(self) -> list[str]:
        """What the card provider has charged, by the order it was for."""
        ledger = self.folder / "card-provider.jsonl"
        entries = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
        return [entry["key"] for entry in entries if entry["outcome"] == "charged"]

    async def got_mail(self, customer: dict[str, str]) -> None:
        async def arrived() -> bool:
            return customer["email"] in self.mail.sent_to

        await wait_until(arrived, seconds=30)


@asynccontextmanager
async def early_shop(folder: Path, **settings: str) -> AsyncIterator[EarlyShop]:
    quick = {"CARD_SECONDS": "0", "PER_MINUTE": "100000", "INTERNAL_CREDENTIAL": CREDENTIAL}
    shop = EarlyShop(folder, {**quick, **settings})
    try:
        yield shop
    finally:
        await shop.stop()


class SameApi:
    """What the clients of each step rely on."""

    async def test_an_order_is_stock_payment_and_mail(self, shop: EarlyShop) -> None:
        customer, stock = await shop.customer(), await shop.stock()
        answer = await shop.place(customer)
        assert (answer.status_code, answer.json()["total"]) == (201, 2500), answer.text
        order_id = answer.json()["id"]
        assert (await shop.orders())[order_id] == "confirmed"
        assert await shop.stock() == stock - 2
        assert order_id in shop.charges()
        await shop.got_mail(customer)

    async def test_more_than_there_is_can_not_be_ordered(self, shop: EarlyShop) -> None:
        charged = shop.charges()
        answer = await shop.place(await shop.customer(), "LAMP", quantity=6)
        assert answer.status_code == 409
        assert answer.json()["detail"] == "not enough LAMP in stock"
        assert shop.charges() == charged

    async def test_strangers_and_unknown_things_are_refused(self, shop: EarlyShop) -> None:
        customer = await shop.customer()
        assert (await shop.place({"id": "nobody"})).status_code == 404
        assert (await shop.place(customer, quantity=0)).status_code == 422
        assert (await shop.client.get(f"{shop.urls['products']}/products/NONE")).status_code == 404
        again = await shop.client.post(f"{shop.urls['users']}/users", json={"email": customer["email"]})
        assert again.status_code == 409


class MailInTheRequest(SameApi):
    """What hurts until step 4."""

    async def test_when_the_mail_server_dies_nobody_can_order_and_the_card_is_charged_all_the_same(
        self, shop: EarlyShop
    ) -> None:
        customer, stock, orders, charged = (
            await shop.customer(),
            await shop.stock(),
            await shop.orders(),
            len(shop.charges()),
        )
        shop.mail.stop()
        try:
            assert (await shop.place(customer)).status_code == 503
            assert await shop.orders() == orders
            assert await shop.stock() == stock, "the shop takes its part back"
            assert len(shop.charges()) == charged + 1, "the card provider doesn't"
            assert (await shop.place(customer)).status_code == 503
            assert len(shop.charges()) == charged + 2, "and the customer's second try is charged again"
        finally:
            shop.mail.start()


async def start_behind_gateway(shop: EarlyShop, *orders: str, **settings: str) -> None:
    """Users and products, then the program of orders, then the gateway."""
    users, products = await asyncio.gather(
        shop.start("step3_gateway/inside.py", "users"), shop.start("step3_gateway/inside.py", "products")
    )
    shop.settings |= {"USERS_URL": users, "PRODUCTS_URL": products}
    shop.settings["ORDERS_URL"] = await shop.start(*orders, name="orders", **settings)
    gateway = await shop.start("step3_gateway/gateway.py")
    shop.urls |= {"users": gateway, "products": gateway, "orders": gateway}
