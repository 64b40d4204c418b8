"""The changes of orders for live streams: from their event streams, which keep all of them."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from caravan.clock import format_rfc3339
from caravan.database import Database
from caravan.live_streams import Change, encode_change
from services.orders.model import EVENT_STORE, Order
from services.orders.store import streams


class OrderChanges:
    """Each event of an order is a change, with the status that it led to. The last one ends the order."""

    subject = "orders"
    is_state = False

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load_changes(self, versions: Mapping[str, int]) -> Mapping[str, Sequence[Change]]:
        newest = await streams.load_versions(self._database, [UUID(key) for key in versions])
        behind = [order_id for order_id, version in newest.items() if version > versions[str(order_id)]]
        changes: dict[str, Sequence[Change]] = {}
        for order_id, recorded_events in (await EVENT_STORE.load_streams(self._database, behind)).items():
            order, new = Order(), []
            for item in recorded_events:
                order.apply(item.event, item.time)
                if item.version > versions[str(order_id)]:
                    data = {
                        "version": item.version,
                        "type": type(item.event).__name__,
                        "status": order.status,
                        "time": format_rfc3339(item.time),
                    }
                    new.append(encode_change("status", item.version, data, is_last=order.has_ended))
            changes[str(order_id)] = new
        return changes
