"""What analytics keeps in the shared cache, and the tags that void it. The funnel and the dashboard are not kept: they
change with every step of every order.
"""

from collections.abc import Iterable
from datetime import date, timedelta

from caravan.cache import Cache, TagKind
from services.orders.messages import ORDER_CANCELLED, ORDER_CREATED
from services.payments.messages import PAYMENT_COMPLETED, PAYMENT_REFUNDED

_SALES_EVENTS = (ORDER_CREATED, PAYMENT_COMPLETED, PAYMENT_REFUNDED, ORDER_CANCELLED)
SALES_OF_DAY = TagKind(
    "sales-of-day", "day", _SALES_EVENTS, "an order of the day was placed, was paid, or got money back"
)
ALL_SALES = TagKind("sales", "", _SALES_EVENTS, "any order was placed, was paid, or got money back")

REPORTS = Cache(
    "analytics.reports",
    "a report of sales, products, refunds, customers or cohorts; a rebuild of `sales` does not void it",
    "report, period, its other parameters",
    (SALES_OF_DAY, ALL_SALES),
    "staff",
    seconds=60.0,
    lease_seconds=10.0,
    max_bytes=1024 * 1024,
)
CACHES = (REPORTS,)
OF_ALL_SALES = frozenset({ALL_SALES()})
"""Of a report that looks beyond its period: who bought before, what was given back later."""


def list_tags_of_days(first: date, last: date) -> frozenset[str]:
    """Of a report that looks at the orders of these days alone, the last one included."""
    return frozenset(SALES_OF_DAY(first + timedelta(days=number)) for number in range((last - first).days + 1))


def list_tags_of_change(days: Iterable[date]) -> frozenset[str]:
    """What a change of orders of these days voids."""
    return frozenset({ALL_SALES(), *map(SALES_OF_DAY, days)})
