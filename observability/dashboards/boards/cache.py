"""The shared cache: what it answers, and what filling it costs."""

from observability.dashboards.model import NAMESPACE, SERVICE, Board, Panel, Query, Row, Threshold
from observability.dashboards.queries import SERVICE as OF_SERVICE
from observability.dashboards.queries import quantile, select, sum_rate

READS = "caravan_cache_requests_total"
SERVED = f'{OF_SERVICE}, result=~"hit|stale"'


def hit_rate(by: str = "") -> str:
    return f"{sum_rate(READS, by, SERVED)} / ({sum_rate(READS, by, OF_SERVICE)} > 0)"


NOW = (
    Panel(
        "stat",
        "Hit rate",
        "Share of reads that the cache answered, stale answers that are being refreshed included. Below 50 % it does "
        "little for the database.",
        "percentunit",
        (Query(hit_rate(), "hits"),),
        width=8,
        height=4,
        thresholds=(Threshold(0, "red"), Threshold(0.5, "yellow"), Threshold(0.8, "green")),
        decimals=1,
    ),
    Panel(
        "stat",
        "Reads per second",
        "Reads of the shared cache by the chosen services.",
        "reqps",
        (Query(sum_rate(READS, scope=OF_SERVICE), "reads"),),
        width=8,
        height=4,
        decimals=1,
    ),
    Panel(
        "stat",
        "Processes without the cache",
        "Processes that can't use the Redis of the cache: their answers are right and slower.",
        "none",
        (Query(f"count({select('caravan_cache_available')} == 0) or vector(0)", "cut off"),),
        width=8,
        height=4,
        thresholds=(Threshold(1, "red"),),
    ),
)

READING = (
    Panel(
        "lines",
        "Hit rate by service",
        "Share of reads that the cache answered. It falls after a deployment and after invalidations, and recovers.",
        "percentunit",
        (Query(hit_rate("service"), "{{service}}"),),
        maximum=1,
        width=12,
    ),
    Panel(
        "lines",
        "Reads by result",
        "hit; stale: served while it is refreshed; miss: computed; collapsed: another reader computed it; bypass: "
        "computed without Redis.",
        "reqps",
        (Query(sum_rate(READS, "result", OF_SERVICE), "{{result}}"),),
        stacked=True,
        width=12,
    ),
)

FILLING = (
    Panel(
        "lines",
        "Computing an entry (p95)",
        "Time to compute what was not in the cache, for 95 of 100 entries: what a miss costs the reader.",
        "s",
        (Query(quantile(0.95, "caravan_cache_fill_seconds", "service, cache", OF_SERVICE), "{{service}}: {{cache}}"),),
        thresholds=(Threshold(0.25, "yellow"), Threshold(1, "red")),
    ),
    Panel(
        "lines",
        "Computed entries by result",
        "stored; fenced: invalidated meanwhile; lost: took longer than its lease; too_large; failed; unavailable. "
        "All but stored is work for nothing.",
        "ops",
        (Query(sum_rate("caravan_cache_fill_seconds_count", "result", OF_SERVICE), "{{result}}"),),
        stacked=True,
    ),
    Panel(
        "lines",
        "Invalidations by kind of tag",
        "Changes per second that void entries.",
        "ops",
        (Query(sum_rate("caravan_cache_invalidations_total", "tag"), "{{tag}}"),),
        stacked=True,
    ),
)

BOARDS = (
    Board(
        "cache",
        "Cache",
        "How much the shared cache spares the databases, and what a miss costs.",
        (
            Row("Does the cache help?", NOW),
            Row("Who reads what?", READING),
            Row("What does filling it cost?", FILLING),
        ),
        variables=(NAMESPACE, SERVICE),
    ),
)
