"""The HTTP shapes of analytics. Sums are integers in minor units of the row's currency; days and hours are in UTC."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from caravan.text import TextLine

Text = Annotated[str, TextLine(200)]


Grouping = Literal["hour", "day", "product", "category", "country"]
Ranking = Literal["revenue", "units"]
CohortLength = Literal["week", "month"]


class Sums(BaseModel):
    currency: str = Field(examples=["GBP"])
    orders: int = Field(description="orders placed")
    paid: int = Field(description="of these, orders that were paid")
    units: int = Field(description="pieces in paid orders that were not wholly given back")
    captured: int
    refunded: int
    revenue: int = Field(description="captured less refunded")
    average_order: int | None = Field(None, description="captured for each paid order; null when none was paid")


class SalesRow(Sums):
    key: str = Field(
        description="hour, day, sku, category or country (ISO 3166, `ZZ` where it is not known)",
        examples=["2026-03-01T10:00:00Z"],
    )
    name: str | None = Field(None, description="of a product: a name it was sold under")


class ReportPeriod(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    first: date = Field(alias="from")
    last: date = Field(alias="to", description="included")


class ReportOfRows(ReportPeriod):
    rows: Sequence[BaseModel]


class SalesReport(ReportOfRows):
    by: Grouping
    rows: list[SalesRow]
    totals: list[Sums] = Field(description="all orders of the period, per currency")
    truncated: bool = Field(description="there are more rows than a report gives out")


class RefundSums(BaseModel):
    currency: str = Field(examples=["GBP"])
    orders: int = Field(description="orders of which money was given back")
    whole: int = Field(description="of these, orders of which all was given back")
    refunded: int


class RefundsRow(RefundSums):
    key: str = Field(description="the day on which money was first given back", examples=["2026-03-01"])


class RefundsReport(ReportOfRows):
    rows: list[RefundsRow]
    totals: list[RefundSums] = Field(description="per currency")


class CustomersRow(BaseModel):
    key: str = Field(description="`new`: bought nothing before the period; else `returning`", examples=["new"])
    currency: str = Field(examples=["GBP"])
    customers: int
    repeating: int = Field(description="of these, customers with two or more orders in the period")
    orders: int = Field(description="paid and not wholly given back")
    captured: int
    refunded: int
    revenue: int = Field(description="captured less refunded")
    average_order: int


class CustomersReport(ReportOfRows):
    rows: list[CustomersRow]
    customers: int = Field(description="who bought in the period, in whatever currency")
    new: int = Field(description="of these, customers who bought nothing before")
    repeating: int = Field(description="of all customers, those with two or more orders in the period")
    repeat_share: float | None = Field(description="repeating customers among all, 0 to 1; null when there are none")


class CohortsRow(BaseModel):
    cohort: date = Field(description="the first day of the week or month in which its customers bought first")
    later: int = Field(description="so many weeks or months after it")
    customers: int = Field(description="of the cohort, who bought then")
    share: float = Field(description="of the cohort, 0 to 1")
    orders: int


class CohortsReport(ReportOfRows):
    by: CohortLength
    rows: list[CohortsRow]


class ProductsReport(ReportOfRows):
    sort: Ranking
    rows: list[SalesRow]


class FunnelStep(BaseModel):
    step: str = Field(examples=["paid"])
    orders: int
    of_previous: float | None = Field(description="share of the step before, 0 to 1")
    of_created: float | None = Field(description="share of all orders, 0 to 1")


class EndedOrders(BaseModel):
    rejected: int
    payment_failed: int
    cancelled: int


class ProcessingTimes(BaseModel):
    p50: float
    p95: float


class FunnelReport(ReportPeriod):
    rows: list[FunnelStep]
    ended: EndedOrders
    seconds_to_process: ProcessingTimes | None = Field(
        description="from placed to processed, of completed orders; null when there are none"
    )


class DailyReport(BaseModel):
    day: date
    revision: int = Field(description="rises when late events changed the report")
    written_at: datetime
    orders: int
    states: dict[str, int]
    sales: list[Sums]


class Dashboard(BaseModel):
    """Today, in UTC."""

    day: date
    states: dict[str, int] = Field(description="today's orders by their state now; `created` includes reserved ones")
    revenue: list[Sums]
    open_orders: int = Field(description="orders on their way or waiting, also of earlier days")
    top_products: list[SalesRow] = Field(description="those with the most revenue, of each currency")


class AuditItem(BaseModel):
    id: UUID
    time: datetime
    actor: str = Field(examples=["admin:0197c2a0-0000-7000-8000-000000000000"])
    action: str = Field(examples=["price.changed"])
    target: str = Field(examples=["product:MUG"])
    result: str = Field(examples=["done"])
    details: dict[str, Any]
    trace_id: str | None
