"""The rules of a shipment: what whoever wants to stop it is told in each state."""

from typing import get_args

import pytest

from caravan.clock import new_id, utc_now
from services.shipping.messages import OrderShipped, Parcel, ShipmentCancelled, ShipmentStatus
from services.shipping.model import Shipment

STATES: tuple[ShipmentStatus, ...] = get_args(ShipmentStatus)


def make_shipment(status: ShipmentStatus, **changes: object) -> Shipment:
    shipment = Shipment(
        order_id=new_id(),
        status=status,
        email="ada@example.com",
        parcels='[{"sku": "MUG", "quantity": 2}]',
        carrier="Camel Post",
        tracking_number="CP1",
        shipped_at=None,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        actor="customer:ada",
        cause=new_id(),
    )
    for name, value in changes.items():
        setattr(shipment, name, value)
    return shipment


@pytest.mark.parametrize("status", STATES)
def test_a_cancellation_is_answered_once_it_is_known_whether_the_parcel_has_left(status: ShipmentStatus) -> None:
    shipment = make_shipment(status)
    expected = {
        "requested": None,
        "booking": None,
        "cancelled": ShipmentCancelled(order_id=shipment.order_id),
        "shipped": shipment.build_order_shipped(),
        "delivered": shipment.build_order_shipped(),
    }
    assert shipment.build_cancel_reply() == expected[status]


def test_a_shipped_order_is_announced_with_its_parcels_and_its_number() -> None:
    shipment = make_shipment("shipped")
    assert shipment.build_order_shipped() == OrderShipped(
        order_id=shipment.order_id,
        email="ada@example.com",
        carrier="Camel Post",
        tracking_number="CP1",
        parcels=[Parcel(sku="MUG", quantity=2)],
    )


def test_what_is_published_names_the_command_behind_it_where_that_was_kept() -> None:
    shipment, now = make_shipment("booking"), utc_now()
    command = shipment.restore_command(now)
    assert command is not None
    assert (command.id, command.traceparent, command.actor) == (shipment.cause, shipment.traceparent, "customer:ada")
    assert make_shipment("booking", cause=None).restore_command(now) is None
