"""The HTTP shapes of reconciliation."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from caravan.money import Money
from caravan.text import TextLine

CaseState = Literal["open", "awaiting_approval", "repairing", "resolved", "closed", "dismissed"]
RunMode = Literal["changes", "full"]
Reason = Annotated[str, TextLine(500, min_length=3)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RunRequest(Body):
    mode: RunMode = Field("changes", description="`full` compares old orders, too")


class RepairRequest(Body):
    dry_run: bool = Field(True, description="say what would be done, and do nothing")
    reason: Reason | None = None


class RepairsRequest(Body):
    dry_run: bool = Field(True, description="say what would be done, and do nothing")


class ApprovalRequest(Body):
    reason: Reason | None = None


class DismissalRequest(Body):
    reason: Reason


class RunView(BaseModel):
    """One comparison. What changed after the watermark was not compared: its messages may be on their way."""

    id: UUID
    mode: RunMode
    state: Literal["requested", "running", "done", "failed"]
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    watermark: datetime | None
    held_by: str = Field(description="why the watermark is older than it had to be; empty when it is not")
    orders: int = Field(description="compared so far")
    products: int
    opened: int = Field(description="cases")
    closed: int
    reason: str = Field(description="why it failed")


class InvariantView(BaseModel):
    invariant: str
    title: str
    gaps: int = Field(description="open cases")


class Overview(BaseModel):
    watermark: datetime | None = Field(description="all that changed until then is compared; null before the first run")
    held_by: str
    watched_orders: int = Field(description="changed, and not compared yet")
    self_test_failures: int = Field(description="planted gaps that the last self-test did not find")
    self_tested_at: datetime | None
    invariants: list[InvariantView]
    runs: list[RunView] = Field(description="the last ones")


class CaseView(BaseModel):
    """A gap: found, and kept until it is gone. `amount`: the money in question."""

    id: UUID
    gap: str
    title: str
    invariant: str
    severity: Literal["critical", "warning"]
    subject: str = Field(description="an order's id, a product's sku, a provider's key, or a database and channel")
    order_id: UUID | None
    amount: Money | None
    details: dict[str, Any]
    state: CaseState
    action: str = Field(description="what is proposed")
    repair: Literal["refund_payment", "release_stock"] | None = Field(description="the command that repairs it, if any")
    needs_approval: bool = Field(description="whether another admin has to approve the repair")
    proposed_by: str | None
    opened_at: datetime
    seen_at: datetime = Field(description="when it was there last")
    changed_at: datetime


class StepView(BaseModel):
    state: CaseState
    actor: str
    reason: str
    time: datetime


class CaseDocument(CaseView):
    history: list[StepView]


class PlanView(BaseModel):
    case_id: UUID
    gap: str
    subject: str
    amount: Money | None
    repair: Literal["refund_payment", "release_stock"] | None
    outcome: str


class RepairsView(BaseModel):
    dry_run: bool
    items: list[PlanView]


class MoneyRow(BaseModel):
    """Of one day (UTC) and currency, in minor units. Explained is what no open case questions."""

    day: date
    currency: str
    captured: int
    refunded: int
    captured_explained: int
    refunded_explained: int
    net: int
    net_explained: int
    unexplained: int = Field(description="captured and refunded that an open case questions")


class MoneyReport(BaseModel):
    first: date
    last: date
    watermark: datetime | None
    rows: list[MoneyRow]
