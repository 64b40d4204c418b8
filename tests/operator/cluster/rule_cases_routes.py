"""Cases of the rules for routes of services."""

from typing import Any

from tests.operator.cluster.rule_cases import Case, make_immutable_case


def _build_limited_route(period: str) -> dict[str, Any]:
    return {"pathExact": "/", "rateLimit": {"requests": 1, "period": period}}


ROUTE_CASES = [
    Case("ServiceRoute", "the name is a service's", {}, {}, bad_name="1.orders"),
    make_immutable_case("ServiceRoute", "gateway", "one", "two"),
    Case("ServiceRoute", "gateway is immutable", {}, {"gateway": "new"}, before={}),
    Case(
        "ServiceRoute",
        "exactly one of pathPrefix",
        {"routes": [{"pathExact": "/"}]},
        {"routes": [{"pathExact": "/", "pathPrefix": "/"}]},
    ),
    Case(
        "ServiceRoute",
        "exactly one of pathPrefix",
        {"routes": [{"pathsFrom": "OpenAPI"}]},
        {"routes": [{"host": "shop.test"}]},
    ),
    Case(
        "ServiceRoute",
        "rewritePrefix goes with pathPrefix",
        {"routes": [{"pathPrefix": "/v2", "rewritePrefix": "/v1"}]},
        {"routes": [{"pathExact": "/v2", "rewritePrefix": "/v1"}]},
    ),
    Case(
        "ServiceRoute",
        "a path has no segments",
        {"routes": [{"pathPrefix": "/a..b"}]},
        {"routes": [{"pathPrefix": "/a/../b"}]},
    ),
    *(
        Case(
            "ServiceRoute",
            f"must be from {bounds}",
            {"routes": [_build_limited_route(good)]},
            {"routes": [_build_limited_route(bad)]},
        )
        for bounds, good, bad in (("1s to 24h", "1m", "25h"),)
    ),
    *(
        Case("ServiceRoute", f"must be from {bounds}", {part: {field: good}}, {part: {field: bad}})
        for part, field, bounds, good, bad in (
            ("timeouts", "request", "1ms to 1h", "30s", "2h"),
            ("timeouts", "backendRequest", "1ms to 1h", "30s", "0s"),
            ("timeouts", "connect", "1ms to 1m", "30s", "2m"),
            ("retry", "backoff", "0s to 1m", "0s", "2m"),
            ("circuitBreaker", "window", "1s to 1h", "30s", "2h"),
            ("circuitBreaker", "openFor", "100ms to 1h", "30s", "1ms"),
        )
    ),
    Case(
        "ServiceRoute",
        "backendRequest can't be above request",
        {"timeouts": {"request": "3s", "backendRequest": "3000ms"}},
        {"timeouts": {"request": "3s", "backendRequest": "1m"}},
    ),
]
