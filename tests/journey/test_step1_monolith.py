"""Step 1 of the journey does what its page says, also what hurts."""

import asyncio
import runpy
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink

STEP = Path(__file__).parents[2] / "docs/journey/step1_monolith"
MUGS = {"email": "ada@example.com", "sku": "MUG", "quantity": 2}
monolith = SimpleNamespace(**runpy.run_path(str(STEP / "shop.py"), run_name="monolith"))


class Letters(Sink):
    def __init__(self) -> None:
        self.sent_to: list[str] = []

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:
        self.sent_to += envelope.rcpt_tos
        return "250 OK"


@dataclass
class Shop:
    client: httpx2.AsyncClient
    cards: Any
    letters: Letters
    mailer: Controller

    async def order(self) -> int:
        return (await self.client.post("/orders", json=MUGS)).status_code

    async def stock(self) -> int:
        return int((await self.client.get("/products/MUG")).json()["stock"])

    async def orders(self) -> list[Any]:
        found: list[Any] = (await self.client.get("/orders")).json()
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def open_shop(folder: Path, *, card_seconds: float = 0.0) -> AsyncIterator[Shop]:
    letters, cards = Letters(), monolith.SimulatedProvider(card_seconds)
    mailer = Controller(letters, hostname="127.0.0.1", port=free_port())
    mailer.start()
    app = monolith.create_app(folder / "monolith.sqlite", "127.0.0.1", mailer.port, cards)
    try:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://monolith") as client:
            yield Shop(client, cards, letters, mailer)
    finally:
        if not mailer.loop.is_closed():
            mailer.stop()


async def test_while_all_is_well_an_order_is_stock_payment_and_mail_in_one_request(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        assert await shop.order() == 201
        assert await shop.stock() == 98
        assert list(shop.cards.charges.values()) == [2500]
        assert shop.letters.sent_to == ["ada@example.com"]
        assert [order["total"] for order in await shop.orders()] == [2500]


async def test_more_than_there_is_can_not_be_ordered(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        answer = await shop.client.post("/orders", json={**MUGS, "sku": "LAMP", "quantity": 6})
        assert answer.status_code == 409
        assert shop.cards.charges == {}


async def test_when_the_mail_server_dies_nobody_can_order_and_the_card_is_charged_all_the_same(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        shop.mailer.stop()
        assert await shop.order() == 503
        assert await shop.orders() == []
        assert await shop.stock() == 100, "the database takes its part back"
        assert list(shop.cards.charges.values()) == [2500], "the card provider doesn't"
        assert await shop.order() == 503
        assert len(shop.cards.charges) == 2, "and the customer's second try is charged again"


async def test_one_slow_card_makes_the_next_customer_wait(tmp_path: Path) -> None:
    async with open_shop(tmp_path, card_seconds=0.2) as shop:
        began = time.monotonic()
        assert await asyncio.gather(shop.order(), shop.order()) == [201, 201]
        assert time.monotonic() - began >= 0.4


def test_the_overview_names_the_steps_that_exist() -> None:
    rows = [line for line in (STEP.parent / "README.md").read_text().splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(rows) == 8
    existing = [row[2] for row in rows if row.rstrip(" |").rpartition("| ")[2].startswith("yes")]
    assert existing == sorted(folder.name[4] for folder in STEP.parent.glob("step*"))


@pytest.mark.parametrize("page", sorted(STEP.parent.rglob("*.md")), ids=lambda page: page.parent.name)
def test_links_and_files_that_the_pages_name_exist(page: Path) -> None:
    text = page.read_text()
    targets = [part.partition(")")[0] for part in text.split("](")[1:]]
    assert targets and all((page.parent / target).exists() for target in targets)
