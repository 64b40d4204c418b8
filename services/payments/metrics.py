"""The metrics that payments keeps."""

from prometheus_client import Counter, Histogram

from caravan.telemetry import ProviderCalls
from caravan.telemetry.metrics import start_at_zero

CAPTURE_RESULTS = Counter(
    "caravan_payment_capture_results_total", "Calls to capture by what is known afterwards", ["state"]
)
RENDER_SECONDS = Histogram(
    "caravan_payment_invoice_render_seconds",
    "Drawing one invoice's PDF, without the wait for a turn",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2),
)

PROVIDER_CALLS = ProviderCalls("payment")

start_at_zero(CAPTURE_RESULTS, ("captured", "declined", "failed", "unknown"))
