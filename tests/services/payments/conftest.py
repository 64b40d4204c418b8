"""A running payments service with short delays, and what tests ask of it."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from caravan.clock import new_id
from caravan.money import Money
from caravan.runtime import Backends
from services.payments.messages import (
    CAPTURE_PAYMENT,
    EXPECT_PAYMENT,
    REFUND_PAYMENT,
    CapturePayment,
    ExpectPayment,
    InvoiceLine,
    RefundPayment,
)
from tests.support.shop import Shop, run_services, wait_until

SETTINGS = {
    "PAYMENTS_RETRY_SECONDS": "[0.02, 0.04, 0.06, 0.08]",
    "PAYMENTS_REQUERY_SECONDS": "0.02",
    "PAYMENTS_CALL_TIMEOUT_SECONDS": "0.3",
}


class Around:
    """A provider around the real one: a subclass says what goes wrong."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@dataclass
class Till:
    shop: Shop
    staff: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.staff = self.shop.issue_headers("staff")

    def order(self, token: str = "tok_ok", **changes: Any) -> ExpectPayment:
        lines = [
            InvoiceLine(sku="MUG", name="Mug", quantity=3, unit_price=450),
            InvoiceLine(sku="TEA", name="Tea", quantity=1, unit_price=649),
        ]
        defaults: dict[str, Any] = {
            "order_id": new_id(),
            "user_id": new_id(),
            "email": "ada@example.com",
            "customer_name": "Ada Lovelace",
            "amount": Money(amount=1999, currency="GBP"),
            "method": "card",
            "token": token,
            "lines": lines,
            "billing_address": "12 St James's Square\nLondon SW1Y 4JH\nGB",
        }
        return ExpectPayment(**{**defaults, **changes})

    async def expect(self, order: ExpectPayment, *, identifier: UUID | None = None) -> None:
        await self.shop.send_message("payments", EXPECT_PAYMENT, order, key=order.order_id, message_id=identifier)

    async def expected(self, order: ExpectPayment) -> None:
        """As after the order was placed: payments knows what it will be charged with."""
        await self.expect(order)
        database = self.shop.get_database("payments")
        await wait_until(
            lambda: database.fetchval(
                "SELECT 1 FROM payment WHERE order_id = $1 AND user_id IS NOT NULL", order.order_id
            )
        )

    async def command(self, order: ExpectPayment, *, identifier: UUID | None = None) -> None:
        await self.shop.send_message(
            "payments",
            CAPTURE_PAYMENT,
            CapturePayment(order_id=order.order_id),
            key=order.order_id,
            message_id=identifier,
        )

    async def capture(self, order: ExpectPayment, *, identifier: UUID | None = None) -> None:
        await self.expected(order)
        await self.command(order, identifier=identifier)

    async def refund(self, order_id: UUID, *, reason: str = "changed my mind") -> None:
        await self.shop.send_message(
            "payments", REFUND_PAYMENT, RefundPayment(order_id=order_id, reason=reason), key=order_id
        )

    async def events(self, order_id: UUID) -> list[tuple[str, dict[str, Any]]]:
        """What was published about an order: (topic, data), topic by topic."""
        topics = ("payment-completed", "payment-failed", "payment-refunded")
        return [
            (topic, envelope["data"]) for topic in topics for envelope in await self.shop.read_topic(topic, order_id)
        ]

    async def wait_for(self, order_id: UUID, topic: str, count: int = 1) -> list[dict[str, Any]]:
        """The data of the first `count` events on a topic; wakes the sweepers meanwhile."""
        context = self.shop.get_context("payments")

        async def there() -> list[dict[str, Any]] | None:
            found = [envelope["data"] for envelope in await self.shop.read_topic(topic, order_id)]
            context.wake("captures")
            context.wake("refunds")
            return found if len(found) >= count else None

        found = await wait_until(there)
        assert found is not None
        return found

    async def payment(self, order_id: UUID) -> Any:
        answer = await self.shop.client.get(f"/v1/payments/{order_id}", headers=self.staff)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def ledger(self, order_id: UUID) -> list[tuple[str, str]]:
        """The provider's own books: (key without the order id, outcome)."""
        answer = await self.shop.client.get(f"/v1/payments/{order_id}/provider-ledger", headers=self.staff)
        assert answer.status_code == 200, answer.text
        return [(entry["key"].removeprefix(f"{order_id}:"), entry["outcome"]) for entry in answer.json()["items"]]


@pytest.fixture(scope="module")
async def till(backends: Backends) -> AsyncIterator[Till]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        async with run_services(backends, "payments") as shop:
            yield Till(shop)


@pytest.fixture
def provider(till: Till) -> Iterator[Any]:
    """Put another provider in place for one test: `provider(Forgetful)`, where Forgetful is `Around` the real one."""
    parts = till.shop.get_context("payments").resources
    real = parts.provider

    def use(make: Any) -> Any:
        parts.provider = make(real)
        return parts.provider

    yield use
    parts.provider = real


@pytest.fixture
def patient(till: Till) -> Any:
    """Further attempts come in an hour, unless somebody promotes them."""
    context = till.shop.get_context("payments")
    settings, context.settings = (
        context.settings,
        context.settings.model_copy(update={"retry_seconds": (3600.0, 3600.0)}),
    )
    yield context
    context.settings = settings
