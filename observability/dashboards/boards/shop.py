"""The business at a glance: orders, money, stock, mails."""

from observability.dashboards.model import Board, Panel, Query, Row, Threshold
from observability.dashboards.queries import SHOP, quantile, select, share, sum_rate, take_max

ORDERS = "caravan_orders_total"
SAGA_SECONDS = "caravan_saga_duration_seconds"
CAPTURES = "caravan_payment_capture_results_total"
RESERVATIONS = "caravan_stock_reservations_total"


def of_state(*states: str) -> str:
    return f'{SHOP}, state=~"{"|".join(states)}"'


CREATED = sum_rate(ORDERS, scope=of_state("created"))

NOW = (
    Panel(
        "stat",
        "Orders per minute",
        "Orders that were accepted per minute. At night it is low; at noon 0 is an outage.",
        "none",
        (Query(f"60 * {CREATED}", "accepted"),),
        width=4,
        height=4,
        decimals=0,
    ),
    Panel(
        "stat",
        "Revenue in the last hour",
        "Amount of the orders that were paid in the last hour, in the currency's main unit.",
        "none",
        (
            Query(
                f"sum by (currency) (increase({select('caravan_order_revenue_minor_total')}[1h])) / 100",
                "{{currency}}",
            ),
        ),
        width=4,
        height=4,
        decimals=0,
    ),
    Panel(
        "stat",
        "Accepted to finished (p95)",
        "95 of 100 orders came from accepted to their end within this time.",
        "s",
        (Query(quantile(0.95, SAGA_SECONDS), "p95"),),
        width=4,
        height=4,
        thresholds=(Threshold(10, "yellow"), Threshold(60, "red")),
    ),
    Panel(
        "stat",
        "Orders in progress",
        "Orders that were accepted and have not come to their end.",
        "short",
        (Query(f"sum({take_max('caravan_saga_open', 'step')})", "open"),),
        width=4,
        height=4,
    ),
    Panel(
        "stat",
        "Oldest order in progress",
        "Age of the oldest order that waits for something. Above five minutes somebody has to look.",
        "s",
        (Query(take_max("caravan_saga_oldest_age_seconds"), "oldest"),),
        width=4,
        height=4,
        thresholds=(Threshold(60, "yellow"), Threshold(300, "red")),
    ),
    Panel(
        "stat",
        "Alerts firing",
        "Alerts that fire now, but the heartbeat. The runbook of each says what to do.",
        "none",
        (Query('count(ALERTS{alertstate="firing", severity!="none"}) or vector(0)', "firing"),),
        width=4,
        height=4,
        thresholds=(Threshold(1, "red"),),
    ),
)

ORDER_PANELS = (
    Panel(
        "lines",
        "Orders by state",
        "Orders per minute that reached a state. Created and paid should run together; what is rejected, cancelled or "
        "refunded should stay low.",
        "none",
        (Query(f"60 * {sum_rate(ORDERS, 'state')}", "{{state}}"),),
        width=12,
    ),
    Panel(
        "lines",
        "Revenue per hour",
        "Amount of the orders that were paid, per hour, in the currency's main unit.",
        "none",
        (Query(f"36 * {sum_rate('caravan_order_revenue_minor_total', 'currency')}", "{{currency}}"),),
        width=12,
        decimals=0,
    ),
    Panel(
        "lines",
        "Accepted to finished",
        "How long orders take from accepted to their end: half of them, and 95 of 100. A point leads to the trace of "
        "an order.",
        "s",
        (
            Query(quantile(0.5, SAGA_SECONDS), "p50"),
            Query(quantile(0.95, SAGA_SECONDS), "p95", exemplars=True),
        ),
        thresholds=(Threshold(60, "red"),),
    ),
    Panel(
        "lines",
        "Orders in progress by step",
        "Orders that wait, by what for. One step that rises alone names the service that is behind.",
        "short",
        (Query(take_max("caravan_saga_open", "step"), "{{step}}"),),
        stacked=True,
    ),
    Panel(
        "lines",
        "Orders undone",
        "Share of orders that were rejected, failed at the payment, were cancelled or refunded.",
        "percentunit",
        (
            Query(
                f"{sum_rate(ORDERS, 'state', of_state('rejected', 'payment_failed', 'cancelled', 'refunded'))}"
                f" / on () group_left () ({CREATED} > 0)",
                "{{state}}",
            ),
        ),
    ),
)

MONEY_AND_STOCK = (
    Panel(
        "lines",
        "Payments by result",
        "Charges per minute: captured, declined by the customer's bank, failed, or unknown, which is asked for again "
        "with the same key.",
        "none",
        (Query(f"60 * {sum_rate(CAPTURES, 'state')}", "{{state}}"),),
    ),
    Panel(
        "lines",
        "Payments that fail",
        "Share of charges that were declined, and of those where the provider failed or gave no result.",
        "percentunit",
        (
            Query(share(sum_rate(CAPTURES, scope=of_state("declined")), sum_rate(CAPTURES)), "declined"),
            Query(
                share(sum_rate(CAPTURES, scope=of_state("failed", "unknown")), sum_rate(CAPTURES)), "provider failed"
            ),
        ),
        thresholds=(Threshold(0.1, "red"),),
    ),
    Panel(
        "lines",
        "Answers of the providers (p95)",
        "95 of 100 calls of a third party took at most this long.",
        "s",
        (Query(quantile(0.95, "caravan_provider_call_duration_seconds", "provider"), "{{provider}}", exemplars=True),),
        thresholds=(Threshold(2, "yellow"), Threshold(10, "red")),
    ),
    Panel(
        "lines",
        "Stock by answer",
        "Answers per minute to what orders ask of the stock. Rejected ones are orders for what is not there.",
        "none",
        (Query(f"60 * {sum_rate(RESERVATIONS, 'state')}", "{{state}}"),),
    ),
    Panel(
        "lines",
        "Mails and short messages by kind",
        "Notifications per minute that were handed to a provider, by what they are about.",
        "none",
        (Query(f"60 * {sum_rate('caravan_notifications_total', 'kind')}", "{{kind}}"),),
    ),
    Panel(
        "lines",
        "Open cases of reconciliation",
        "Gaps in money and stock by the invariant that they break; each has a case that says what to do. 0 is right.",
        "short",
        (Query(take_max("caravan_invariant_gap", "invariant"), "{{invariant}}"),),
        thresholds=(Threshold(1, "red"),),
    ),
    Panel(
        "lines",
        "Books compared up to",
        "Age of the newest transaction that reconciliation has compared. About a minute is usual; it rises while a "
        "service is behind with its messages.",
        "s",
        (Query(take_max("caravan_reconciliation_watermark_age_seconds"), "age"),),
        thresholds=(Threshold(1800, "red"),),
    ),
    Panel(
        "lines",
        "Notifications waiting",
        "Notifications that are not sent yet. Those of orders and accounts go before campaigns.",
        "short",
        (Query(take_max("caravan_notifications_waiting", "priority"), "{{priority}}"),),
        stacked=True,
    ),
)

BOARDS = (
    Board(
        "shop",
        "Shop",
        "How the business goes: what is ordered, paid and sent, and what is in the way.",
        (
            Row("How does the business go?", NOW),
            Row("Do orders come to their end?", ORDER_PANELS),
            Row("Money, stock, mails", MONEY_AND_STOCK),
        ),
        hours=6,
    ),
)
