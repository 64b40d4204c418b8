"""One order across every process, and how long each station takes."""

from observability.dashboards.model import NAMESPACE, Board, Panel, Query, Row, Threshold, Variable
from observability.dashboards.queries import SHOP, quantile, sum_rate, take_max

ORDER = Variable("order_id", "Order")
TRACED = Variable("traced_service", "Service where its traces begin", default="caravan-orders")

STATIONS_PANELS = (
    Panel(
        "bars",
        "Orders at each station",
        "Orders per minute that reached a state: the first bar is what comes in, each next one is what is left.",
        "none",
        (Query(f"60 * {sum_rate('caravan_orders_total', 'state')}", "{{state}}"),),
        decimals=1,
    ),
    Panel(
        "bars",
        "Waiting at each step",
        "Orders that wait now, by what for.",
        "short",
        (Query(take_max("caravan_saga_open", "step"), "{{step}}"),),
    ),
    Panel(
        "bars",
        "Longest wait at each step",
        "Age of the oldest order at each step. Above five minutes an alert fires.",
        "s",
        (Query(take_max("caravan_saga_oldest_age_seconds", "step"), "{{step}}"),),
        thresholds=(Threshold(60, "yellow"), Threshold(300, "red")),
    ),
    Panel(
        "lines",
        "Duration by outcome (p95)",
        "95 of 100 orders came from accepted to this end within this time.",
        "s",
        (Query(quantile(0.95, "caravan_saga_duration_seconds", "outcome"), "{{outcome}}", exemplars=True),),
        thresholds=(Threshold(60, "red"),),
    ),
    Panel(
        "lines",
        "Handling of commands and events (p95)",
        "How long each service takes for a batch of an order's messages, claim to commit.",
        "s",
        (Query(quantile(0.95, "caravan_handler_duration_seconds", "service"), "{{service}}", exemplars=True),),
        thresholds=(Threshold(1, "red"),),
    ),
    Panel(
        "lines",
        "Calls of third parties (p95)",
        "How long the providers of payments, parcels and mails take.",
        "s",
        (Query(quantile(0.95, "caravan_provider_call_duration_seconds", "provider"), "{{provider}}", exemplars=True),),
        thresholds=(Threshold(2, "yellow"),),
    ),
    Panel(
        "lines",
        "From commit to bus (p95)",
        "What each outbox adds on the way.",
        "s",
        (Query(quantile(0.95, "caravan_outbox_lag_seconds", "service"), "{{service}}"),),
        width=12,
    ),
    Panel(
        "lines",
        "Age of the oldest message by channel",
        "What waiting in the broker adds on the way.",
        "s",
        (Query(take_max("caravan_consumer_lag_seconds", "channel", SHOP), "{{channel}}"),),
        width=12,
    ),
)

ONE_ORDER = (
    Panel(
        "traces",
        "Traces of the order",
        "The order's traces and those linked to it. Write its id into the field above; a click opens the trace.",
        "short",
        (Query("order.id=$order_id", ""),),
        width=24,
        height=8,
    ),
    Panel(
        "logs",
        "What every service logs of the order",
        "Lines of all services that name the order, oldest at the end.",
        "short",
        (Query('{service_namespace="caravan"} | order_id="$order_id" or order_ids=~".*$order_id.*"', ""),),
        width=24,
        height=12,
    ),
)

BOARDS = (
    Board(
        "order-journey",
        "Order journey",
        "Where orders are and where they wait; with an order's id, all that happened to that one.",
        (
            Row("Where do orders wait?", STATIONS_PANELS),
            Row("What happened to this order?", ONE_ORDER),
        ),
        variables=(NAMESPACE, ORDER, TRACED),
    ),
)
