"""What nobody answers is sent again and again; the saga remembers that it took the step, not each time it was sent."""

from datetime import UTC, datetime, timedelta

import pytest

from caravan.clock import new_id, utc_now
from caravan.messages import Message
from caravan.money import Money
from caravan.runtime import Backends
from services.orders.messages import ORDER_CREATED, Address, OrderCreated
from services.orders.model import OfferedProduct, create_order
from services.processing import store
from services.processing.use_cases import resend_overdue
from tests.support.shop import run_services, wait_until

TIMES = 50


async def test_a_step_that_is_sent_again_is_remembered_once(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id, price = new_id(), Money(amount=1250, currency="GBP")
    address = Address(name="Ada", street="12 St James's Square", city="London", postcode="SW1Y 4JH", country="GB")
    lines = [(OfferedProduct("MUG", "Mug", "all", price), 1)]
    created: Message = create_order(
        order_id, new_id(), "ada@example.com", "Ada", lines, address, "card", datetime.now(UTC)
    )
    assert isinstance(created, OrderCreated)
    async with run_services(backends, "processing") as shop:
        await shop.send_message("processing", ORDER_CREATED, created, key=order_id)
        await wait_until(lambda: shop.read_queue("inventory.reserve-stock", order_id))
        database, context = shop.get_database("processing"), shop.get_context("processing")
        for day in range(1, TIMES + 1):
            monkeypatch.setattr(context, "clock", lambda day=day: utc_now() + timedelta(days=day))
            await resend_overdue(context)
        row = await store.find_saga(database, order_id)
        assert row is not None
        assert row.reminders >= TIMES
        assert [taken.step for taken in row.list_steps()] == ["reserve_stock"]
