"""Internal operations: a service's token alone reads no user's things, and the port that clients reach has none of
them.
"""

from typing import Any

import httpx2
import pytest

from caravan.auth import issue_internal_token
from caravan.client import Operation
from caravan.clock import new_id
from caravan.derivation import derive_secret
from caravan.runtime import Backends
from services.notifications.client import LIST_LATEST_NOTIFICATIONS, LatestNotificationsRequest
from services.orders.client import LIST_RECENT_ORDERS, RecentOrdersRequest
from services.recommendations.client import LIST_RECOMMENDATIONS, RecommendationsRequest
from tests.support.shop import URL, run_services

OWNED: list[tuple[Operation[Any, Any], Any]] = [
    (LIST_RECENT_ORDERS, RecentOrdersRequest),
    (LIST_LATEST_NOTIFICATIONS, LatestNotificationsRequest),
    (LIST_RECOMMENDATIONS, RecommendationsRequest),
]


async def _ask(
    client: httpx2.AsyncClient, backends: Backends, operation: Operation[Any, Any], request: Any, user: str = ""
) -> httpx2.Response:
    token = issue_internal_token(derive_secret(backends.secret, "internal"), "gateway", operation.service)
    headers = {"authorization": token, **({"x-user-authorization": user} if user else {})}
    return await client.post(operation.url_path, content=request.model_dump_json(), headers=headers)


@pytest.mark.parametrize(("operation", "kind"), OWNED, ids=["orders", "notifications", "recommendations"])
async def test_what_is_a_users_takes_the_users_token_beside_the_services(
    backends: Backends, operation: Operation[Any, Any], kind: Any
) -> None:
    async with run_services(backends, "gateway", operation.service) as shop:
        user = new_id()
        request = kind(user_id=user, limit=3)
        own, other, staff = (
            shop.issue_headers(role, who)["authorization"]
            for role, who in (("customer", user), ("customer", None), ("staff", None))
        )
        answers = [
            (await _ask(shop.client, backends, operation, request, token)).status_code
            for token in ("", "Bearer x", other, own, staff)
        ]
        assert answers == [401, 401, 403, 200, 200]
        outside = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=shop.process.app.serve_public), base_url=URL)
        async with outside as client:
            hidden = await _ask(client, backends, operation, request, own)
            assert hidden.status_code == 404
            assert hidden.headers["content-type"] == "application/problem+json"
            assert (await client.get("/openapi.json")).status_code == 200


def test_whatever_is_asked_by_a_users_id_names_its_owner() -> None:
    """STANDING is between services: orders and catalog need to know whether somebody may buy, or still wants to be
    written to.
    """
    from services.registry import load_services

    asked = {
        bound.operation
        for service in load_services()
        for bound in service.operations
        if "user_id" in bound.operation.request.model_fields
    }
    assert {operation.name for operation in asked if not operation.owner} == {"standing"}
