"""Stand-ins for the services that orders asks, and the requests that the tests send."""

from typing import Any
from uuid import UUID

from caravan.clock import new_id
from caravan.errors import ServiceUnavailable
from caravan.money import Money
from services.catalog.client import Offer, Offers
from services.inventory.client import Availabilities, Availability
from services.inventory.messages import INVENTORY_RESERVED, InventoryReserved
from services.payments.messages import PAYMENT_COMPLETED, PaymentCompleted
from services.shipping.messages import ORDER_DELIVERED, ORDER_SHIPPED, OrderDelivered, OrderShipped
from tests.support.program import ADDRESS
from tests.support.shop import Shop


class Neighbours:
    """Catalog and inventory as far as orders sees them."""

    stock: dict[str, int] = {"MUG": 10**6, "LAMP": 10**6, "GONE": 0}
    is_unavailable = False

    async def offers(self, _: Any, request: Any) -> Offers:
        known = {"MUG": 1250, "LAMP": 999, "GONE": 1}
        dear = {sku: 10**9 for sku in request.skus if sku.startswith("DEAR")}
        offers = [
            Offer(sku=sku, name=sku.title(), category="all", price=Money(amount=price, currency="GBP"))
            for sku, price in (known | dear).items()
            if sku in request.skus
        ]
        long = [sku for sku in request.skus if sku.startswith("LONG")]
        offers += [
            Offer(sku=sku, name="\U0001f9e6" * 200, category="c" * 60, price=Money(amount=1, currency="GBP"))
            for sku in long
        ]
        return Offers(offers=offers)

    async def availability(self, _: Any, request: Any) -> Availabilities:
        if self.is_unavailable:
            raise ServiceUnavailable("inventory is away")
        stock = self.stock | {sku: 10**6 for sku in request.skus if sku.startswith(("DEAR", "LONG"))}
        found = [sku for sku in request.skus if sku in stock]
        return Availabilities(
            stock=[Availability(sku=sku, on_hand=stock[sku], reserved=0, available=stock[sku]) for sku in found]
        )


neighbours = Neighbours()


def make_order_body(*lines: tuple[str, int]) -> dict[str, Any]:
    return {
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines],
        "shipping_address": ADDRESS,
        "payment": {"method": "card", "token": "tok_ok"},
    }


async def place_order(shop: Shop, user: UUID, body: dict[str, Any], key: str | None = None) -> Any:
    return await shop.client.post(
        "/v1/orders",
        json=body,
        headers={**shop.issue_headers("customer", user), "Idempotency-Key": key or str(new_id())},
    )


async def create_order(shop: Shop, user: UUID) -> str:
    return str((await place_order(shop, user, make_order_body(("MUG", 2)))).json()["id"])


async def report_all(shop: Shop, order_id: str) -> None:
    """What the other services report of a good order, in the wrong order, and twice."""
    oid = UUID(order_id)
    for _ in range(2):
        await shop.send_message(
            "orders",
            ORDER_SHIPPED,
            OrderShipped(order_id=oid, email="a@b.c", carrier="c", tracking_number="T1", parcels=[]),
            key=oid,
        )
        paid = PaymentCompleted(
            order_id=oid, amount=Money(amount=2500, currency="GBP"), attempt=1, invoice_number="INV-1"
        )
        await shop.send_message("orders", PAYMENT_COMPLETED, paid, key=oid)
        await shop.send_message("orders", INVENTORY_RESERVED, InventoryReserved(order_id=oid), key=oid)
        await shop.send_message("orders", ORDER_DELIVERED, OrderDelivered(order_id=oid, tracking_number="T1"), key=oid)
