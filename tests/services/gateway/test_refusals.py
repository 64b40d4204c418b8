"""Who is refused for want of a right stands in the audit log: counted, bounded, and written beside the requests."""

from typing import Any

from caravan.auth import issue_internal_token
from caravan.clock import new_id
from caravan.http import FORWARDER_HEADER, derive_forwarder_key
from caravan.runtime import Backends
from services.inventory.client import GET_AVAILABILITY
from tests.support.shop import Shop, run_services, wait_until


async def _audited(shop: Shop, operation: str) -> list[dict[str, Any]]:
    found = [envelope["data"] for envelope in await shop.read_topic("audit", f"operation:{operation}")]
    assert all(record["action"] == "request.refused" and record["result"] == "refused" for record in found)
    return found


async def test_refused_requests_are_audited_with_who_where_what_and_why(backends: Backends) -> None:
    async with run_services(backends, "identity", "gateway") as shop:
        email, password = f"{new_id()}@example.com", "a long enough password"
        user = (
            await shop.client.post("/v1/users", json={"email": email, "password": password, "name": "Ada Lovelace"})
        ).json()
        form = {"grant_type": "password", "username": email, "password": password}
        token = (await shop.client.post("/v1/auth/token", data=form)).json()["access_token"]
        asked = [await shop.client.get("/v1/users/me") for _ in range(100)]
        asked += [await shop.client.get("/v1/users/me", headers={"authorization": "Bearer x.y.z"})]
        assert {answer.status_code for answer in asked} == {401}
        refused = await shop.client.get("/v1/users", headers={"authorization": f"Bearer {token}"})
        assert refused.status_code == 403

        async def counted() -> list[dict[str, Any]]:
            shop.get_context("gateway").wake("refusals")
            found = await _audited(shop, "GET /v1/users/me")
            return found if sum(record["details"]["count"] for record in found) >= 1 else []

        rows = await wait_until(counted)
        assert len(rows) <= 2
        assert rows[0]["actor"] == "anonymous"
        details = rows[0]["details"]
        assert details["status"] == 401
        assert "token" in details["reason"]
        assert details["address"]
        assert len(details["first_trace_id"]) == 32
        waiting = sum(seen.count for seen in shop.get_context("gateway").resources.refusals._pending.values())
        assert sum(row["details"]["count"] for row in rows) + waiting == 101
        [forbidden] = await wait_until(lambda: _audited(shop, "GET /v1/users"))
        assert forbidden["actor"] == f"customer:{user['id']}"
        assert forbidden["details"]["status"] == 403
        assert forbidden["details"]["reason"] == refused.json()["detail"]
        assert forbidden["details"]["first_trace_id"] == refused.json()["trace_id"]


async def test_what_is_not_told_before_the_end_is_told_then(backends: Backends) -> None:
    async with run_services(backends, "gateway") as shop:
        issuer = shop.issuer
        assert (await shop.client.get("/v1/me/overview")).status_code == 401
    assert [(item.operation, item.status, item.count) for item in issuer.refusals] == [("GET /v1/me/overview", 401, 1)]


async def test_a_service_that_is_asked_without_the_gateway_tells_of_its_own_refusals(backends: Backends) -> None:
    """Its operations for other services, and its routes; what came through the gateway is told of there."""
    async with run_services(backends, "identity", "inventory") as shop:
        path = GET_AVAILABILITY.url_path
        for header in (
            {},
            {"authorization": "Bearer x.y.z"},
            {"authorization": issue_internal_token("another key" * 4, "orders", "inventory")},
        ):
            assert (await shop.client.post(path, headers=header, json={"skus": []})).status_code == 401
        assert (await shop.client.post("/v1/stock/movements", json={})).status_code == 401
        through = {
            FORWARDER_HEADER.decode(): derive_forwarder_key(backends.secret).decode(),
            "x-forwarded-for": "192.0.2.1",
        }
        assert (await shop.client.get("/v1/stock/MUG/movements", headers=through)).status_code == 401
        refused = shop.process.app.refused["inventory"]
        [unknown] = await wait_until(lambda: _audited(shop, f"POST {path}"))
        await refused.send_report()  # what was noted after the first look
        [route] = await wait_until(lambda: _audited(shop, "POST /v1/stock/movements"))
        waiting = sum(seen.count for seen in refused._pending.values())
        assert unknown["actor"] == "anonymous"
        assert unknown["details"]["address"]
        assert unknown["details"]["count"] + route["details"]["count"] + waiting == 4
        assert route["details"]["status"] == 401
        assert "access token" in route["details"]["reason"]
        assert not await _audited(shop, "GET /v1/stock/{sku}/movements")
