"""The rules of a payment: when it may be tried again, when it must not, and what a refund does to it.

    move \\ from   expected   capturing            retrying   completed   failed   refunding   refunded   voided
    captured       -          completed¹           -          -           -        -           -          -
    declined       -          failed²              -          -           -        -           -          -
    failed softly  -          retrying, failed²    -          -           -        -           -          -
    no answer      -          capturing            -          -           -        -           -          -
    refund asked   voided     (remembered)         voided     refunding   (same)   (same)      (same)     (same)
    refunded       -          -                    -          -           -        refunded    -          -

    ¹ refunding, when a refund was asked for meanwhile   ² voided, likewise

The first attempt is due (`retrying`, with attempt 0) for an order whose command to charge came before what it is
charged with, or while the payment was held.
The attempt rises only after a definite failure: after a call without an answer the provider is asked again with the
same key.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from caravan.messages import Delivery
from services.payments.messages import InvoiceLine, PaymentStatus

CANCELLED_REASON = "the order was cancelled before it was charged"
OUT_OF_STOCK_REASON = "the order was rejected before it was charged: it was not in stock"
MAX_CALL_DELAY = timedelta(seconds=60)


def build_charge_key(order_id: UUID, attempt: int) -> str:
    """What the provider knows an attempt by."""
    return f"{order_id}:{attempt}"


def build_refund_key(order_id: UUID) -> str:
    return f"{order_id}:refund"


def format_invoice_number(number: int) -> str:
    return f"INV-{number:06d}"


def format_credit_note_number(number: int) -> str:
    """Of a sequence of their own, without holes, as tax offices want it."""
    return f"CN-{number:06d}"


@dataclass(frozen=True, slots=True)
class CaptureResult:
    """What is known after a call. `failed` may be tried again as a new attempt; `unknown` may have charged."""

    state: Literal["captured", "declined", "failed", "unknown"]
    reason: str = ""
    charge: str | None = None


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """`delays` before attempt 2, 3, ...; `requery_delay` before the second call of one attempt, doubled for each
    further one.
    """

    delays: Sequence[float]
    requery_delay: float

    def compute_next_attempt(self, attempt: int, now: datetime) -> datetime | None:
        """When the attempt after this one is due; None when there is none."""
        return now + timedelta(seconds=self.delays[attempt - 1]) if attempt <= len(self.delays) else None

    def compute_next_call(self, calls: int, now: datetime) -> datetime:
        return now + min(timedelta(seconds=self.requery_delay * 2 ** min(calls - 1, 20)), MAX_CALL_DELAY)


@dataclass(slots=True)
class Payment:
    order_id: UUID
    status: PaymentStatus
    amount: int
    currency: str
    token: str = field(repr=False)
    attempt: int
    reason: str
    refund_asked: bool
    due_at: datetime | None
    traceparent: str | None
    actor: str | None
    cause: UUID | None
    calls: int = 1
    """How often the present attempt has been sent."""
    invoice: int | None = None

    @property
    def key(self) -> str:
        return build_charge_key(self.order_id, self.attempt)

    def apply_result(self, attempt: int, result: CaptureResult, schedule: RetrySchedule, now: datetime) -> bool:
        """Apply the provider's answer to an attempt. False when the payment has moved on."""
        if self.status != "capturing" or self.attempt != attempt:
            return False
        self.reason = result.reason
        match result.state:
            case "unknown":
                self.due_at = schedule.compute_next_call(self.calls, now)
            case "captured":
                self._set_status("refunding" if self.refund_asked else "completed")
            case "failed" if not self.refund_asked and (retry_at := schedule.compute_next_attempt(attempt, now)):
                self._set_status("retrying", retry_at)
            case _:
                self._set_status("voided" if self.refund_asked else "failed")
        return True

    def request_refund(self) -> None:
        """Give back what was captured; what was not captured yet must never be, unless a call is under way: its outcome
        comes first.
        """
        self.refund_asked = True
        if self.status == "completed":
            self._set_status("refunding")
        elif self.status in ("expected", "retrying"):
            self._set_status("voided")
            self.reason = CANCELLED_REASON

    def _set_status(self, status: PaymentStatus, due_at: datetime | None = None) -> None:
        self.status, self.due_at = status, due_at


@dataclass(slots=True)
class Refund:
    """Money on its way back. `charge` is the provider's name of what was captured."""

    order_id: UUID
    amount: int
    currency: str
    reason: str
    calls: int
    charge: str | None
    traceparent: str | None
    actor: str | None
    cause: UUID | None

    @property
    def key(self) -> str:
        return build_refund_key(self.order_id)


def restore_command(record: Payment | Refund, now: datetime) -> Delivery[Any] | None:
    """The command behind it, as far as it was kept: what is published names it and stays in its trace, also hours
    later.
    """
    if record.cause is None:
        return None
    return Delivery(None, record.cause, str(record.order_id), now, record.traceparent, record.actor)


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    """One line of an invoice, in minor units."""

    name: str
    sku: str
    quantity: int
    unit_price: int

    @property
    def amount(self) -> int:
        return self.quantity * self.unit_price


def build_invoice_rows(lines: Iterable[InvoiceLine], total: int) -> list[InvoiceRow]:
    """The lines of an invoice over `total`: what the lines leave open (delivery, a discount) is a line of its own."""
    rows = [InvoiceRow(line.name, line.sku, line.quantity, line.unit_price) for line in lines]
    remainder = total - sum(row.amount for row in rows)
    if remainder:
        rows.append(InvoiceRow("Delivery" if remainder > 0 else "Discount", "", 1, remainder))
    return rows
