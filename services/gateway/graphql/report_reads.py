"""The reads of reports; apart from the others in `queries.py` for their number."""

from services.analytics.schemas import (
    CohortsReport,
    CustomersReport,
    DailyReport,
    FunnelReport,
    ProductsReport,
    RefundsReport,
    SalesReport,
)
from services.gateway.graphql.reads import Read
from services.gateway.graphql.scalars import Date
from services.gateway.graphql.shapes import get_type

REPORT_READS: dict[str, Read] = {
    "sales_report": Read(
        "analytics",
        "/v1/reports/sales",
        get_type(SalesReport),
        "staff",
        "Sales by hour, day, product, category or country.",
        optional={"from_": Date, "to": Date, "by": str},
    ),
    "products_report": Read(
        "analytics",
        "/v1/reports/products",
        get_type(ProductsReport),
        "staff",
        "The products that sold best.",
        optional={"from_": Date, "to": Date, "sort": str, "limit": int},
    ),
    "refunds_report": Read(
        "analytics",
        "/v1/reports/refunds",
        get_type(RefundsReport),
        "staff",
        "What was given back, by day.",
        optional={"from_": Date, "to": Date},
    ),
    "customers_report": Read(
        "analytics",
        "/v1/reports/customers",
        get_type(CustomersReport),
        "staff",
        "How many customers bought, and how many came back.",
        optional={"from_": Date, "to": Date},
    ),
    "cohorts_report": Read(
        "analytics",
        "/v1/reports/cohorts",
        get_type(CohortsReport),
        "staff",
        "Who came back, by the week or month of the first order.",
        optional={"from_": Date, "to": Date, "by": str},
    ),
    "funnel_report": Read(
        "analytics",
        "/v1/reports/funnel",
        get_type(FunnelReport),
        "staff",
        "How many orders got how far.",
        optional={"from_": Date, "to": Date},
    ),
    "daily_report": Read(
        "analytics", "/v1/reports/daily/{day}", get_type(DailyReport), "staff", "The report of a day.", {"day": Date}
    ),
}
