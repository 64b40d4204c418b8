"""The metrics that reconciliation keeps."""

from prometheus_client import Counter, Gauge, Histogram

GAPS = Gauge("caravan_invariant_gap", "Open cases of reconciliation by the invariant that is broken", ["invariant"])
WATERMARK_AGE = Gauge(
    "caravan_reconciliation_watermark_age_seconds", "Age of the newest transaction that the last comparison covers"
)
RUN_SECONDS = Histogram(
    "caravan_reconciliation_run_seconds",
    "One comparison of the books, by what it compared: changes or everything",
    ["mode"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
REPAIRS = Counter("caravan_reconciliation_repairs_total", "Correcting commands sent, by what they do", ["repair"])
SELF_TEST_FAILURES = Gauge(
    "caravan_reconciliation_self_test_failures", "Planted gaps that the last self-test did not find as what they are"
)
