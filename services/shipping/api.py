"""The HTTP entry point of shipping."""

from uuid import UUID

import orjson
from fastapi import APIRouter
from fastapi.responses import Response

from caravan.auth import Customer
from caravan.errors import NotFound
from caravan.http import Injected, make_json_response
from services.orders.client import GET_ORDER_OWNER, OrderOwnerRequest
from services.shipping import store
from services.shipping.schemas import ShipmentDocument
from services.shipping.use_cases import ShippingContext

router = APIRouter(tags=["shipping"])


@router.get("/v1/shipments/{order_id}", response_model=ShipmentDocument)
async def get_shipment(context: Injected[ShippingContext], order_id: UUID, caller: Customer) -> Response:
    """Where the parcels of an order are. 404 until the order is paid and goes to shipping."""
    row = await store.find_shipment(context.database, order_id)
    if row is None:
        raise NotFound(f"no shipment for order {order_id}")
    if not caller.has_role("staff") and not caller.can_see(
        (await context.call(GET_ORDER_OWNER, OrderOwnerRequest(order_id=order_id))).user_id
    ):
        raise NotFound(f"no shipment for order {order_id}")
    fields = {
        **row._asdict(),
        "parcels": orjson.loads(row.parcels),
        "carrier": row.carrier or None,
        "tracking_number": row.tracking_number or None,
    }
    return make_json_response(ShipmentDocument(**fields))
