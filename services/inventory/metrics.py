"""The metrics that inventory keeps."""

from prometheus_client import Counter

from caravan.telemetry.metrics import start_at_zero

RESERVATION_COUNTER = Counter(
    "caravan_stock_reservations", "Answers to ReserveStock, repeated ones included", ["state"]
)

start_at_zero(RESERVATION_COUNTER, ("held", "shipped", "rejected", "released"))
