"""Builds the documents of the API: from a row of the read side, or from an order's events."""

from typing import Any

import asyncpg
import orjson

from caravan.events import RecordedEvent
from caravan.money import Money
from services.orders import model
from services.orders.messages import CancellationState
from services.orders.schemas import Cancellation, HistoryEntry, LineItem, OrderDocument, OrderItem


def build_item(row: asyncpg.Record) -> OrderItem:
    return OrderItem(**{**row, "total": Money(amount=row["total"], currency=row["currency"])})


def build_document_from_row(row: asyncpg.Record) -> OrderDocument:
    currency = row["currency"]
    return OrderDocument(
        id=row["id"],
        status=row["status"],
        version=row["version"],
        user_id=row["user_id"],
        lines=[_to_line_item(line, currency) for line in orjson.loads(row["lines"])],
        total=Money(amount=row["total"], currency=currency),
        shipping_address=orjson.loads(row["shipping_address"]),
        cancelling=row["cancelling"],
        cancellation=_to_cancellation(row["cancellation"], row["cancellation_reason"]),
        reason=row["reason"],
        invoice_number=row["invoice_number"],
        tracking_number=row["tracking_number"],
        refunded=Money(amount=row["refunded"], currency=currency) if row["refunded"] is not None else None,
        placed_at=row["placed_at"],
        updated_at=row["updated_at"],
    )


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


def build_document_from_order(order: model.Order) -> OrderDocument:
    created = order.created
    assert created is not None
    return OrderDocument(
        id=created.order_id,
        status=order.status,
        version=order.version,
        user_id=created.user_id,
        lines=[_to_line_item(line.model_dump(), created.total.currency) for line in created.lines],
        total=created.total,
        shipping_address=created.shipping_address.model_dump(),
        cancelling=order.cancelling,
        cancellation=_to_cancellation(order.cancellation, order.cancellation_reason),
        reason=order.reason,
        invoice_number=order.invoice_number,
        tracking_number=order.tracking_number,
        refunded=order.refunded,
        placed_at=created.placed_at,
        updated_at=order.updated_at or created.placed_at,
    )


def build_history_entries(recorded_events: list[RecordedEvent]) -> list[HistoryEntry]:
    order = model.Order()
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
