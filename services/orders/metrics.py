"""The metrics that orders keeps."""

from collections.abc import Iterable
from typing import get_args

from prometheus_client import Counter

from caravan.money import Money
from caravan.telemetry.metrics import start_at_zero
from services.orders.model import OrderStatus

ORDERS = Counter("caravan_orders_total", "Orders that have reached a state", ["state"])
REVENUE = Counter("caravan_order_revenue_minor_total", "What orders were paid, in minor units", ["currency"])

start_at_zero(ORDERS, get_args(OrderStatus))


def count_orders(states: Iterable[str], payments: Iterable[Money] = ()) -> None:
    """After the commit that brought orders into these states, with what they were paid."""
    for state in states:
        ORDERS.labels(state).inc()
    for money in payments:
        REVENUE.labels(money.currency).inc(money.amount)
