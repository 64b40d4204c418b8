"""The notification service alone, with its mail in a folder, and messages to feed it."""

import email
import email.policy
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from caravan.clock import new_id, utc_now
from caravan.messages import Queue
from caravan.money import Money
from caravan.runtime import Backends
from services.notifications.messages import STANDARD_NOTIFICATIONS, SendNotification
from services.notifications.providers.protocol import SENT, SendResult
from services.notifications.rendering import RenderedMessage
from services.orders.messages import Address, OrderCreated, OrderLine
from services.processing.messages import OrderProcessed
from tests.support.shop import Shop, run_services

BOUNCE_SECRET = "a secret that a mail provider has, too"
GBP = Money(amount=123456, currency="GBP")


@dataclass
class Mailbox:
    folder: Path

    def mails(self, about: object = "") -> list[EmailMessage]:
        """The mails whose text mentions something, in the order of their file names."""
        found = [
            email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            for path in sorted(self.folder.glob("*.eml"))
        ]
        return [mail for mail in found if str(about) in text_of(mail)]


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


@dataclass
class Carrier:
    """A provider that does what the test says, and remembers."""

    verdict: SendResult = SENT
    messages: list[RenderedMessage] = field(default_factory=list)

    async def send(self, messages: list[RenderedMessage]) -> list[SendResult]:
        self.messages += messages
        return [self.verdict] * len(messages)


@dataclass
class MovedClock:
    """The real time, or the one at which it stands, and what the test adds to it."""

    ahead: timedelta = timedelta()
    stands_at: datetime | None = None

    def __call__(self) -> datetime:
        return (self.stands_at or utc_now()) + self.ahead

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.stands_at = utc_now()
        try:
            yield
        finally:
            self.stands_at = None


@pytest.fixture(scope="module")
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture(scope="module")
async def shop(backends: Backends, clock: MovedClock, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NOTIFICATIONS_CAMPAIGN_MAILS_PER_SECOND", "10000")  # test_sending_rate.py has one
        environment.setenv("NOTIFICATIONS_BOUNCE_SECRET", BOUNCE_SECRET)
        async with run_services(
            backends, "notifications", clock=clock, data=data, public_url="https://shop.example"
        ) as shop:
            yield shop


@pytest.fixture
def mailbox(shop: Shop) -> Mailbox:
    return Mailbox(shop.get_context("notifications").kernel_settings.data / "mail")


def order_created(order_id: UUID, user_id: UUID, name: str = "Ada") -> OrderCreated:
    return OrderCreated(
        order_id=order_id,
        user_id=user_id,
        email="ada@example.com",
        customer_name=name,
        lines=[OrderLine(sku="MUG", name="Mug", category="kitchen", quantity=1, unit_price=123456)],
        total=GBP,
        shipping_address=Address(name=name, street="1 Road", city="London", postcode="N1", country="GB"),
        payment_method="card",
        placed_at=utc_now(),
    )


def order_processed(order_id: UUID, user_id: UUID, outcome: str = "completed", reason: str = "") -> OrderProcessed:
    return OrderProcessed(
        order_id=order_id, user_id=user_id, email="ada@example.com", outcome=outcome, reason=reason, total=GBP
    )


def back_in_stock(user_id: UUID | None = None, about: str | None = None) -> SendNotification:
    return SendNotification(
        about=about or str(new_id()),
        kind="back_in_stock",
        user_id=user_id,
        email="ada@example.com",
        values={"sku": "MUG", "name": "Mug"},
    )


async def ask(shop: Shop, *commands: SendNotification, queue: Queue = STANDARD_NOTIFICATIONS) -> None:
    async with shop.get_database("notifications").unit_of_work() as uow:
        for command in commands:
            uow.emit(queue, command, key=command.about)


async def row(shop: Shop, about: object, kind: str | None = None) -> Any:
    rows = await shop.get_database("notifications").fetch(
        "SELECT * FROM notification WHERE about = $1 AND ($2::text IS NULL OR kind = $2)", str(about), kind
    )
    return rows[0] if rows else None


@pytest.fixture
async def carrier(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Carrier:
    carrier = Carrier()
    parts = shop.get_context("notifications").resources
    monkeypatch.setitem(parts.providers, "email", carrier)
    parts.backoffs.clear()
    return carrier


@pytest.fixture
async def nobody(shop: Shop) -> AsyncIterator[None]:
    """No customers but those that the test makes."""
    await shop.get_database("notifications").fetch("DELETE FROM recipient")
    yield
    await shop.get_database("notifications").fetch("UPDATE campaign SET stopped = true")
