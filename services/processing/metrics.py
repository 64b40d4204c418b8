"""The metrics that processing keeps."""

from prometheus_client import Gauge, Histogram

from caravan.telemetry.metrics import start_at_zero

OPEN_SAGAS = Gauge("caravan_saga_open", "Sagas that wait, by what for", ["step"])
OLDEST_SAGA = Gauge("caravan_saga_oldest_age_seconds", "Age of the oldest saga that waits, by what for", ["step"])
SAGA_DURATION = Histogram(
    "caravan_saga_duration_seconds",
    "From the order's acceptance to the end of its saga",
    ["outcome"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)

start_at_zero(SAGA_DURATION, ("completed", "rejected", "payment_failed", "cancelled"))
