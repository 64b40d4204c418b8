"""The service level objectives, and the recording rules and burn-rate alerts that follow from them.

An SLO says which of what is counted was bad, how much of it may be, and over how many requests at least the answer
means something: with three requests an hour, one that fails would page somebody. `make docs` writes
`prometheus/rules/slo.yaml` of it.

Burn rates and windows are Google's (SRE workbook, chapter 5), as sloth writes them: a page when 2 % of the budget of 30
days are spent in an hour or 5 % in six, a ticket when 10 % in a day or in three.
"""

from dataclasses import dataclass
from typing import Any

PERIOD = "30d"


@dataclass(frozen=True, slots=True)
class Burn:
    """Too fast when both windows burn at `factor` times the rate that spends the budget in the period."""

    factor: float
    long: str
    short: str
    severity: str


BURNS = (
    Burn(14.4, "1h", "5m", "page"),
    Burn(6, "6h", "30m", "page"),
    Burn(3, "1d", "2h", "ticket"),
    Burn(1, "3d", "6h", "ticket"),
)
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


@dataclass(frozen=True, slots=True)
class Slo:
    """`bad` and `total` are PromQL over the window `{window}`: numbers a second."""

    name: str
    alert: str
    promise: str
    objective: float
    bad: str
    total: str
    least_requests: int
    """In the longer window of a burn rate; below it no alert fires."""
    owner: str = "shop"

    @property
    def budget(self) -> float:
        return round(1 - self.objective, 6)


def _count_slow(metric: str, selector: str, bound: str) -> str:
    total = f"sum(rate({metric}_count{{{selector}}}[{{window}}]))"
    return f'{total} - sum(rate({metric}_bucket{{{selector}, le="{bound}"}}[{{window}}]))'


_HTTP = "http_server_request_duration_seconds"
_API = 'service="gateway", route!~"unmatched|/console.*"'
_PLACE_ORDER = 'service="gateway", method="POST", route="/v1/orders"'
_READ = 'service="gateway", method="GET", route=~"/v1/.*", route!~"/v1/reports.*|.*/(events|stream).*"'

SLOS = (
    Slo(
        name="api-availability",
        alert="ApiAvailabilityBurning",
        promise="99.9 % of the requests are answered without an error of the shop's own (5xx)",
        objective=0.999,
        bad=f'sum(rate({_HTTP}_count{{{_API}, status=~"5.."}}[{{window}}]))',
        total=f"sum(rate({_HTTP}_count{{{_API}}}[{{window}}]))",
        least_requests=500,
    ),
    Slo(
        name="order-availability",
        alert="OrderAvailabilityBurning",
        promise="99.9 % of the orders that somebody places are answered without an error of the shop's own (5xx)",
        objective=0.999,
        bad=f'sum(rate({_HTTP}_count{{{_PLACE_ORDER}, status=~"5.."}}[{{window}}]))',
        total=f"sum(rate({_HTTP}_count{{{_PLACE_ORDER}}}[{{window}}]))",
        least_requests=100,
    ),
    Slo(
        name="order-latency",
        alert="OrderLatencyBurning",
        promise="99 % of the orders are accepted or refused within 0.5 s",
        objective=0.99,
        bad=_count_slow(_HTTP, _PLACE_ORDER, "0.5"),
        total=f"sum(rate({_HTTP}_count{{{_PLACE_ORDER}}}[{{window}}]))",
        least_requests=100,
    ),
    Slo(
        name="read-latency",
        alert="ReadLatencyBurning",
        promise="99 % of the reads are answered within 0.25 s",
        objective=0.99,
        bad=_count_slow(_HTTP, _READ, "0.25"),
        total=f"sum(rate({_HTTP}_count{{{_READ}}}[{{window}}]))",
        least_requests=500,
    ),
    Slo(
        name="order-completion",
        alert="OrderCompletionBurning",
        promise="99 % of the orders are through their saga within 10 s",
        objective=0.99,
        bad=_count_slow("caravan_saga_duration_seconds", 'outcome!=""', "10.0"),
        total='sum(rate(caravan_saga_duration_seconds_count{outcome!=""}[{window}]))',
        least_requests=100,
    ),
    Slo(
        name="critical-notification",
        alert="CriticalNotificationBurning",
        promise="95 % of the critical notifications are with their provider within 2 s",
        objective=0.95,
        bad=_count_slow("caravan_notification_seconds", 'priority="critical"', "2.0"),
        total='sum(rate(caravan_notification_seconds_count{priority="critical"}[{window}]))',
        least_requests=50,
    ),
)

LEAST_BAD = 5
"""Fewer bad ones in its long window are no burn, whatever their share: one of a hundred at night is."""
ERROR_RATIO = "slo:sli_error:ratio_rate"


def build_rules() -> dict[str, Any]:
    """The content of `prometheus/rules/slo.yaml`."""
    return {"groups": [group for slo in SLOS for group in (_build_records(slo), _build_alerts(slo))]}


def _build_records(slo: Slo) -> dict[str, Any]:
    """Without a request there is no ratio: 0 / 0 in one sample would make the average of the period NaN."""
    labels = {"slo": slo.name}
    ratios = [
        {
            "record": f"{ERROR_RATIO}{window}",
            "expr": f"({slo.bad} or vector(0)) / ({slo.total} > 0)".replace("{window}", window),
            "labels": labels,
        }
        for window in WINDOWS
    ]
    of_period = f'avg_over_time({ERROR_RATIO}5m{{slo="{slo.name}"}}[{PERIOD}])'
    return {
        "name": f"slo-{slo.name}",
        "rules": [
            *ratios,
            {"record": "slo:objective:ratio", "expr": f"vector({slo.objective:g})", "labels": labels},
            {
                "record": f"slo:error_budget_left:ratio{PERIOD}",
                "expr": f"1 - {of_period} / {slo.budget:g}",
                "labels": labels,
            },
        ],
    }


def _build_alerts(slo: Slo) -> dict[str, Any]:
    return {
        "name": f"slo-{slo.name}-alerts",
        "rules": [_build_alert(slo, severity) for severity in ("page", "ticket")],
    }


def _build_alert(slo: Slo, severity: str) -> dict[str, Any]:
    terms = [
        f'(max({ERROR_RATIO}{burn.long}{{slo="{slo.name}"}}) > {burn.factor * slo.budget:g}\n'
        f'  and max({ERROR_RATIO}{burn.short}{{slo="{slo.name}"}}) > {burn.factor * slo.budget:g}\n'
        f"  and {slo.total.replace('{window}', burn.long)} > {slo.least_requests} / {_count_seconds(burn.long)}\n"
        f"  and ({slo.bad.replace('{window}', burn.long)}) > {LEAST_BAD} / {_count_seconds(burn.long)})"
        for burn in BURNS
        if burn.severity == severity
    ]
    return {
        "alert": slo.alert,
        "expr": "\nor\n".join(terms) + "\n",
        "labels": {"severity": severity, "owner": slo.owner, "slo": slo.name},
        "annotations": {
            "summary": f"{slo.name}: {{{{ $value | humanizePercentage }}}} are bad, and the error budget ends soon",
            "description": f"Promised: {slo.promise}.\n"
            + (
                "At this rate the budget of 30 days is gone within five days or sooner."
                if severity == "page"
                else "At this rate the budget does not last for its 30 days."
            )
            + "\nFind the route or step and what made it fail or slow, by the runbook.",
            "runbook_url": f"observability/runbooks/{slo.alert}.md",
        },
    }


def _count_seconds(window: str) -> int:
    return int(window[:-1]) * {"m": 60, "h": 3600, "d": 86400}[window[-1]]
