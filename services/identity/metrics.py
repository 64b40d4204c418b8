"""The metrics that identity keeps."""

from prometheus_client import Counter, Gauge

from caravan.telemetry.metrics import start_at_zero

FETCHES = Counter(
    "caravan_openid_fetches", "Documents of the outside issuer: fetched or failed", ["document", "result"]
)
KEYS_FETCHED_AT = Gauge(
    "caravan_openid_keys_fetched_timestamp_seconds",
    "When the outside issuer's keys were fetched last; 0 while they are not known",
)
PASSWORD_ATTEMPTS = Counter(
    "caravan_password_attempts", "Passwords given: right, wrong, or delayed before they were looked at", ["result"]
)
TOKEN_REQUESTS = Counter("caravan_token_requests", "Token requests by grant: granted or refused", ["grant", "result"])

start_at_zero(FETCHES, ("metadata", "keys"), ("fetched", "failed"))
start_at_zero(PASSWORD_ATTEMPTS, ("right", "wrong", "delayed"))
start_at_zero(
    TOKEN_REQUESTS, ("password", "refresh_token", "client_credentials", "token-exchange"), ("granted", "refused")
)
