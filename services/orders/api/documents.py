"""Builds the documents of the API: from a row of the read side, or from an order's events."""

from typing import Any

import orjson

from caravan.events import RecordedEvent
from caravan.money import Money
from services.orders.messages import CancellationState
from services.orders.model import Order
from services.orders.schemas import Cancellation, HistoryEntry, LineItem, OrderDocument, OrderItem
from services.orders.store.summaries import ListedOrder, Summary


def build_item(row: ListedOrder) -> OrderItem:
    return OrderItem(**{**row._asdict(), "total": Money(amount=row.total, currency=row.currency)})


def build_document_from_summary(summary: Summary) -> OrderDocument:
    placed, order = summary
    return OrderDocument(
        id=placed.id,
        user_id=placed.user_id,
        lines=[_to_line_item(line, placed.currency) for line in orjson.loads(placed.lines)],
        total=Money(amount=placed.total, currency=placed.currency),
        shipping_address=orjson.loads(placed.shipping_address),
        placed_at=placed.placed_at,
        **_list_state(order),
    )


def build_document_from_order(order: Order) -> OrderDocument:
    created = order.created
    assert created is not None
    return OrderDocument(
        id=created.order_id,
        user_id=created.user_id,
        lines=[_to_line_item(line.model_dump(), created.total.currency) for line in created.lines],
        total=created.total,
        shipping_address=created.shipping_address.model_dump(),
        placed_at=created.placed_at,
        **_list_state(order),
    )


def _list_state(order: Order) -> dict[str, Any]:
    return {
        "status": order.status,
        "version": order.version,
        "updated_at": order.updated_at,
        "cancelling": order.cancelling,
        "cancellation": _to_cancellation(order.cancellation, order.cancellation_reason),
        "reason": order.reason,
        "invoice_number": order.invoice_number,
        "tracking_number": order.tracking_number,
        "refunded": order.refunded,
    }


def _to_cancellation(state: CancellationState | None, reason: str | None) -> Cancellation | None:
    return Cancellation(state=state, reason=reason or "") if state else None


def _to_line_item(line: dict[str, Any], currency: str) -> LineItem:
    return LineItem(
        sku=line["sku"],
        name=line["name"],
        quantity=line["quantity"],
        unit_price=Money(amount=line["unit_price"], currency=currency),
        amount=Money(amount=line["unit_price"] * line["quantity"], currency=currency),
    )


def build_history_entries(recorded_events: list[RecordedEvent]) -> list[HistoryEntry]:
    order = Order()
    entries = []
    for item in recorded_events:
        order.apply(item.event, item.time)
        data = item.event.model_dump(mode="json")
        name = type(item.event).__name__
        entries.append(
            HistoryEntry(
                version=item.version,
                type=name,
                status=order.status,
                time=item.time,
                actor=item.actor,
                trace_id=item.trace_id,
                data=data,
            )
        )
    return entries
