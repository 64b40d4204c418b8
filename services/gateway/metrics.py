"""The metrics that the gateway keeps."""

from prometheus_client import Counter, Gauge

from caravan.telemetry.metrics import start_at_zero

LIMITED_REQUESTS = Counter("caravan_gateway_limited_total", "Requests refused by a rate limit", ["limit"])
COUNTING_LOCALLY = Gauge(
    "caravan_gateway_limits_local", "1 while this replica counts by itself because Redis is unavailable"
)
OPEN_STREAMS = Gauge("caravan_gateway_streams", "Live streams that are open at this replica")
OPEN_SOCKETS = Gauge("caravan_gateway_sockets", "WebSockets of the graph that are open at this replica")
CLOSED_SOCKETS = Counter("caravan_gateway_sockets_closed_total", "WebSockets of the graph that have ended", ["code"])
REQUESTS_UNDER_WAY = Gauge(
    "caravan_gateway_requests_under_way", "Requests of clients that a service works on for this replica", ["target"]
)
REQUESTS_WAITING = Gauge(
    "caravan_gateway_requests_waiting",
    "Requests of clients that wait at this replica until a service takes them",
    ["target"],
)
SHED_REQUESTS = Counter(
    "caravan_gateway_shed_total", "Requests answered 429 because a service had too many of them", ["target"]
)
REFUSED = Counter("caravan_gateway_refused_total", "Requests refused for want of a right", ["status"])

start_at_zero(LIMITED_REQUESTS, ("reads", "writes", "admins", "auth", "registration", "orders"))
start_at_zero(REFUSED, ("401", "403"))
