"""The HTTP entry point of analytics: reports for staff, the audit log for admins."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from caravan.auth import Admin, Staff
from caravan.cache import CachedAnswer
from caravan.http import (
    CACHED_HEADERS,
    SLOW_READ,
    CursorParameter,
    IfNoneMatch,
    Injected,
    Limit,
    choose_content_type,
    decode_cursor,
    document_headers,
    make_cached_response,
    make_json_response,
    make_page_response,
)
from caravan.schemas import Page
from caravan.times import Day, Time, check_period, parse_time
from services.analytics import model, use_cases
from services.analytics.caches import OF_ALL_SALES, list_tags_of_days
from services.analytics.model import Period
from services.analytics.parquet import format_parquet
from services.analytics.schemas import (
    AuditItem,
    CohortLength,
    CohortsReport,
    CohortsRow,
    CustomersReport,
    CustomersRow,
    DailyReport,
    Dashboard,
    FunnelReport,
    FunnelStep,
    Grouping,
    ProductsReport,
    Ranking,
    RefundsReport,
    RefundsRow,
    ReportOfRows,
    ReportPeriod,
    SalesReport,
    SalesRow,
    Text,
)
from services.analytics.store import records
from services.analytics.store.records import AuditFilter
from services.analytics.use_cases import AnalyticsContext

router = APIRouter(tags=["analytics"])

From = Annotated[Day | None, Query(alias="from", description="first day (UTC); by default the 30 days up to `to`")]
To = Annotated[Day | None, Query(description="last day (UTC), included; by default today")]
Format = Annotated[
    Literal["json", "csv", "parquet"] | None,
    Query(description="also by `Accept: text/csv` or `application/vnd.apache.parquet`"),
]
FILE_RESPONSES = document_headers(
    200,
    "Vary",
    "Content-Disposition",
    description="the report",
    content={
        "text/csv": {"schema": {"type": "string"}},
        "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
    },
)
CACHED_RESPONSES: dict[int | str, dict[str, Any]] = {
    **document_headers(
        200,
        "Vary",
        "Content-Disposition",
        *CACHED_HEADERS,
        description="the report",
        content=FILE_RESPONSES[200]["content"],
    ),
    **document_headers(304, *CACHED_HEADERS, description="Not changed since the ETag in If-None-Match"),
}
VARY = {"Vary": "Accept"}
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
FORMATS = {JSON: "json", CSV: "csv", PARQUET: "parquet"}


def select_period(context: Injected[AnalyticsContext], first: From = None, to: To = None) -> Period:
    return model.resolve_period(first, to, context.clock().date())


def select_format(request: Request, format: Format = None) -> str:
    return format or FORMATS[choose_content_type(request.headers.get("accept", ""), *FORMATS)]


SelectedPeriod = Annotated[Period, Depends(select_period)]
SelectedFormat = Annotated[str, Depends(select_format)]


@dataclass(frozen=True, slots=True)
class CachedForm:
    """How a report that may come from the cache is asked for."""

    form: str
    if_none_match: str | None


def select_cached_form(form: SelectedFormat, if_none_match: IfNoneMatch = None) -> CachedForm:
    return CachedForm(form, if_none_match)


SelectedCachedForm = Annotated[CachedForm, Depends(select_cached_form)]


async def _to_cached_response(
    cached: CachedForm,
    answer: CachedAnswer,
    report_type: type[ReportOfRows],
    row_type: type[BaseModel],
    name: str,
) -> Response:
    """As `_to_response`, of a report that may come from the cache; who has it already is told so."""
    response = make_cached_response(
        answer, cached.if_none_match, is_private=True, entity_tag=_name_entity(answer, cached.form), headers=VARY
    )
    if cached.form == "json" or response.status_code == HTTPStatus.NOT_MODIFIED:
        return response
    report = report_type.model_validate_json(answer.value or b"")
    file = await _to_response(cached.form, report, row_type, report.rows, name)
    file.headers.update({each: response.headers[each] for each in (*CACHED_HEADERS, "Cache-Control")})
    return file


def _name_entity(answer: CachedAnswer, form: str) -> str:
    """Each form of a report is an entity of its own."""
    return f'"{hashlib.blake2b(answer.value or b"", digest_size=12).hexdigest()}-{form}"'


async def _to_response(
    form: str, report: ReportPeriod, row_type: type[BaseModel], rows: Sequence[BaseModel], name: str
) -> Response:
    """The report as JSON, or its rows as CSV or Parquet, in a file that is called after the report and its days."""
    headers = {"Vary": "Accept"}
    if form == "json":
        return make_json_response(report, headers=headers)
    headers["Content-Disposition"] = f'attachment; filename="{name}-{report.first}-{report.last}.{form}"'
    columns = model.order_columns(row_type.model_fields)
    if form == "parquet":
        content = await asyncio.to_thread(format_parquet, row_type, columns, rows)
        return Response(content, headers=headers, media_type=PARQUET)
    lines: list[Mapping[str, object]] = [row.model_dump(mode="json") for row in rows]
    return Response(model.format_csv(columns, lines), headers=headers, media_type=CSV)


@router.get("/v1/reports/sales", response_model=SalesReport, responses=CACHED_RESPONSES, openapi_extra=SLOW_READ)
async def report_sales(
    context: Injected[AnalyticsContext],
    _: Staff,
    period: SelectedPeriod,
    cached: SelectedCachedForm,
    by: Grouping = "day",
) -> Response:
    """Orders and revenue of at most 366 days, by hour, day, product, category or country; the last three currency by
    currency, the best first. An order counts in the hour in which it was placed.
    """
    compute = partial(use_cases.report_sales, context, period, by)
    answer = await use_cases.read_report(
        context, f"sales:{period}:{by}", list_tags_of_days(period.first, period.last), compute
    )
    return await _to_cached_response(cached, answer, SalesReport, SalesRow, f"sales-by-{by}")


@router.get("/v1/reports/products", response_model=ProductsReport, responses=CACHED_RESPONSES, openapi_extra=SLOW_READ)
async def report_products(
    context: Injected[AnalyticsContext],
    _: Staff,
    period: SelectedPeriod,
    cached: SelectedCachedForm,
    sort: Ranking = "revenue",
    limit: Limit = 20,
) -> Response:
    """The products with the most revenue, `limit` of each currency, or of which the most were sold."""
    compute = partial(use_cases.report_products, context, period, sort, limit)
    answer = await use_cases.read_report(
        context, f"products:{period}:{sort}:{limit}", list_tags_of_days(period.first, period.last), compute
    )
    return await _to_cached_response(cached, answer, ProductsReport, SalesRow, "products")


@router.get("/v1/reports/refunds", response_model=RefundsReport, responses=CACHED_RESPONSES, openapi_extra=SLOW_READ)
async def report_refunds(
    context: Injected[AnalyticsContext], _: Staff, period: SelectedPeriod, cached: SelectedCachedForm
) -> Response:
    """What was given back, by the day on which an order's money first was, whenever the order was placed."""
    compute = partial(use_cases.report_refunds, context, period)
    answer = await use_cases.read_report(context, f"refunds:{period}", OF_ALL_SALES, compute)
    return await _to_cached_response(cached, answer, RefundsReport, RefundsRow, "refunds")


@router.get(
    "/v1/reports/customers", response_model=CustomersReport, responses=CACHED_RESPONSES, openapi_extra=SLOW_READ
)
async def report_customers(
    context: Injected[AnalyticsContext], _: Staff, period: SelectedPeriod, cached: SelectedCachedForm
) -> Response:
    """How many customers bought, how many of them for the first time or more than once, and for how much."""
    compute = partial(use_cases.report_customers, context, period)
    answer = await use_cases.read_report(context, f"customers:{period}", OF_ALL_SALES, compute)
    return await _to_cached_response(cached, answer, CustomersReport, CustomersRow, "customers")


@router.get("/v1/reports/cohorts", response_model=CohortsReport, responses=CACHED_RESPONSES, openapi_extra=SLOW_READ)
async def report_cohorts(
    context: Injected[AnalyticsContext],
    _: Staff,
    period: SelectedPeriod,
    cached: SelectedCachedForm,
    by: CohortLength = "week",
) -> Response:
    """Of the customers who bought first in a week or month of the period, how many came back in each later one."""
    compute = partial(use_cases.report_cohorts, context, period, by)
    answer = await use_cases.read_report(context, f"cohorts:{period}:{by}", OF_ALL_SALES, compute)
    return await _to_cached_response(cached, answer, CohortsReport, CohortsRow, f"cohorts-by-{by}")


@router.get("/v1/reports/funnel", response_model=FunnelReport, responses=FILE_RESPONSES, openapi_extra=SLOW_READ)
async def report_funnel(
    context: Injected[AnalyticsContext], _: Staff, period: SelectedPeriod, form: SelectedFormat
) -> Response:
    """How far the orders of a period have come, and how long they took to be processed."""
    report = await use_cases.report_funnel(context, period)
    return await _to_response(form, report, FunnelStep, report.rows, "funnel")


@router.get("/v1/reports/daily/{day}", response_model=DailyReport)
async def read_daily(context: Injected[AnalyticsContext], _: Staff, day: Day) -> Response:
    """The report of a day that has ended, as it was written; late events of the last days bring a new revision."""
    return make_json_response(await use_cases.get_daily_report(context, day))


@router.get("/v1/dashboard", response_model=Dashboard)
async def show_dashboard(context: Injected[AnalyticsContext], _: Staff) -> Response:
    """Today's orders by state, revenue and best products, and the orders that are open."""
    return make_json_response(await use_cases.build_dashboard(context))


@router.get("/v1/audit", response_model=Page[AuditItem])
async def read_audit(
    context: Injected[AnalyticsContext],
    _: Admin,
    actor: Annotated[Text | None, Query(description="exactly, such as `customer:<id>`")] = None,
    action: Annotated[Text | None, Query(description="exactly, such as `price.changed`")] = None,
    target: Annotated[Text | None, Query(description="exactly, such as `product:MUG`")] = None,
    since: Annotated[Time | None, Query(alias="from", description="included (RFC 3339)")] = None,
    to: Annotated[Time | None, Query(description="not included (RFC 3339)")] = None,
    limit: Limit = 50,
    cursor: CursorParameter = None,
) -> Response:
    """Who did what to what, newest first."""
    check_period(since, to)
    position = decode_cursor(cursor, parse_time, UUID)
    rows = await records.search_records(
        context.database,
        AuditFilter(actor, action, target, since, to),
        (position[0], position[1]) if position else None,
        limit + 1,
    )
    return make_page_response(
        rows,
        limit,
        lambda row: AuditItem(**{**row, "details": orjson.loads(row["details"])}),
        lambda row: (row["time"], row["id"]),
    )
