"""What shipping tells of an order names nobody for what it does not know."""

from datetime import UTC, datetime, timedelta

from caravan.clock import new_id
from caravan.timeline import CauseFinder
from services.shipping.store import ShipmentRow
from services.shipping.timeline import build_entries

START = datetime(2026, 3, 1, tzinfo=UTC)
TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_who_ordered_a_shipment_has_not_cancelled_it() -> None:
    row = ShipmentRow(
        order_id=new_id(),
        status="cancelled",
        carrier="",
        tracking_number="",
        parcels="[]",
        actor="customer:ada",
        traceparent=f"00-{TRACE}-b7ad6b7169203331-01",
        cause=new_id(),
        requested_at=START,
        shipped_at=None,
        delivered_at=None,
        cancelled_at=START + timedelta(seconds=1),
    )
    assert [(entry.kind, entry.actor, entry.trace_id) for entry in build_entries(row, CauseFinder([]))] == [
        ("shipment_requested", "customer:ada", TRACE),
        ("shipment_cancelled", None, None),
    ]
