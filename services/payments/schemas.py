"""The HTTP shapes of payments."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from caravan.money import Money
from services.payments.messages import PaymentStatus

AttemptState = Literal["sent", "unknown", "captured", "declined", "failed"]
RefundState = Literal["requested", "sent", "unknown", "done"]
LedgerKind = Literal["capture", "refund"]
LedgerOutcome = Literal["captured", "declined", "failed", "refunded"]


class Attempt(BaseModel):
    """One attempt to charge. `unknown`: the provider gave no answer, and is asked again with the same key."""

    attempt: int
    key: str = Field(description="the idempotency key at the provider")
    state: AttemptState
    calls: int = Field(description="how often it was sent, always with the same key")
    reason: str
    started_at: datetime
    finished_at: datetime | None


class Capture(BaseModel):
    key: str
    charge: str = Field(description="the provider's name for it")
    amount: Money
    captured_at: datetime


class RefundItem(BaseModel):
    key: str
    state: RefundState
    amount: Money
    reason: str
    requested_at: datetime
    refunded_at: datetime | None


class PaymentItem(BaseModel):
    order_id: UUID
    status: PaymentStatus
    amount: Money
    attempt: int = Field(description="the present attempt; 0 before the first")
    next_attempt_at: datetime | None = Field(description="when it is tried, or asked about, again")
    reason: str
    invoice_number: str | None
    created_at: datetime
    updated_at: datetime


class PaymentDocument(PaymentItem):
    attempts: list[Attempt]
    captures: list[Capture]
    refunds: list[RefundItem]


class LedgerEntry(BaseModel):
    """What the provider did for one key."""

    key: str
    kind: LedgerKind
    outcome: LedgerOutcome
    amount: Money
    reason: str
    charge: str | None
    at: datetime


class Ledger(BaseModel):
    items: list[LedgerEntry]
