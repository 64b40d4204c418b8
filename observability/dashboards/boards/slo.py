"""What is promised, and how much of the error budget is left, by the recording rules of the SLOs."""

from observability.dashboards.model import Board, Panel, Query, Row, Threshold

ERRORS = "slo:sli_error:ratio_rate"
PROMISED = "max by (slo) (slo:objective:ratio)"


def burn(window: str) -> str:
    """1 spends the budget of 30 days in 30 days."""
    return f"max by (slo) ({ERRORS}{window}) / on (slo) (1 - {PROMISED})"


NOW = (
    Panel(
        "bars",
        "Error budget left",
        "Share of the errors that 30 days allow and that are not spent. Below 0 the promise is broken; below a half, "
        "put repairs before features.",
        "percentunit",
        (Query("max by (slo) (slo:error_budget_left:ratio30d)", "{{slo}}"),),
        thresholds=(Threshold(-100, "red"), Threshold(0, "yellow"), Threshold(0.5, "green")),
        maximum=1,
        decimals=1,
    ),
    Panel(
        "bars",
        "Promised",
        "Share of requests or orders that is promised to be good, over 30 days.",
        "percentunit",
        (Query(PROMISED, "{{slo}}"),),
        maximum=1,
        decimals=2,
    ),
    Panel(
        "bars",
        "Burning now (1 h)",
        "How many times faster than planned the budget is spent, over the last hour. At 14.4 it is gone in two days: "
        "an alert pages.",
        "none",
        (Query(burn("1h"), "{{slo}}"),),
        thresholds=(Threshold(1, "yellow"), Threshold(6, "orange"), Threshold(14.4, "red")),
        decimals=2,
    ),
)

BURNING = (
    Panel(
        "lines",
        "Burn rate over an hour",
        "How many times faster than planned the budget is spent. Above 14.4, here and over five minutes, an alert "
        "pages.",
        "none",
        (Query(burn("1h"), "{{slo}}"),),
        thresholds=(Threshold(14.4, "red"),),
        width=12,
    ),
    Panel(
        "lines",
        "Burn rate over six hours",
        "The same over six hours, which sees a slow leak. Above 6, here and over half an hour, an alert pages.",
        "none",
        (Query(burn("6h"), "{{slo}}"),),
        thresholds=(Threshold(6, "red"),),
        width=12,
    ),
    Panel(
        "lines",
        "Bad events over five minutes",
        "Share of requests or orders that broke the promise, over five minutes.",
        "percentunit",
        (Query(f"max by (slo) ({ERRORS}5m)", "{{slo}}"),),
        width=12,
    ),
    Panel(
        "lines",
        "Error budget over time",
        "How the budget of 30 days went. A step down is an incident.",
        "percentunit",
        (Query("max by (slo) (slo:error_budget_left:ratio30d)", "{{slo}}"),),
        width=12,
    ),
)

BOARDS = (
    Board(
        "slo",
        "SLO",
        "What the shop promises, and how much room for errors is left: look here before you deploy.",
        (Row("Do we keep our promises?", NOW), Row("How fast is the budget spent?", BURNING)),
        variables=(),
        hours=24,
    ),
)
