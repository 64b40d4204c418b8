"""What payments answers to other services."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from caravan.client import Operation
from services.payments.schemas import LedgerKind, LedgerOutcome


class HoldRequest(BaseModel):
    """`briefly`: the cancellation came to nothing; another one may be on its way, so that the hold ends soon instead of
    at once.
    """

    order_id: UUID
    briefly: bool = False


class HoldResult(BaseModel):
    """No attempt to charge the order begins from now on, for some minutes: time enough for the command that ends the
    payment for good.
    """


HOLD_CAPTURE = Operation("payments", "hold_capture", HoldRequest, HoldResult, seconds=1.0)


class StatementRequest(BaseModel):
    """Either what the provider did after a position, or all that it did for each of some references."""

    after_time: datetime | None = None
    after_key: str = ""
    limit: int = Field(1000, ge=1, le=1000)
    references: Annotated[list[str], Field(max_length=1000)] | None = None


class StatementEntry(BaseModel):
    """What the provider's books hold for a key. `amount` in minor units."""

    key: str
    reference: str
    kind: LedgerKind
    outcome: LedgerOutcome
    amount: int
    currency: str
    at: datetime


class Statement(BaseModel):
    items: list[StatementEntry]


READ_STATEMENT = Operation("payments", "read_statement", StatementRequest, Statement, seconds=10.0)
