"""What is not needed for an order must not stop one."""

from collections.abc import Collection

import pytest

from caravan.discovery import Endpoint
from caravan.errors import ServiceUnavailable
from services.registry import load_services
from tests.api.conftest import World
from tests.services.gateway.stand_ins import known

BESIDE_THE_PATH = ("recommendations", "analytics", "notifications")


async def test_an_order_is_taken_while_everything_beside_its_path_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if their processes were gone: neither their routes nor their operations are here or anywhere."""
    _, customer = await world.user("customer")
    sku = await world.product()
    await known(world.shop, *BESIDE_THE_PATH)
    process = world.shop.process
    locate = process.discovery.acquire_endpoint

    async def gone(service: str, tried: Collection[str] = ()) -> Endpoint:
        if service in BESIDE_THE_PATH:
            raise ServiceUnavailable(f"no process serves {service}")
        return await locate(service, tried)

    monkeypatch.setattr(process.discovery, "acquire_endpoint", gone)
    for service in load_services(BESIDE_THE_PATH):
        monkeypatch.delitem(process.peers, service.name)
        for bound in service.operations:
            monkeypatch.delitem(process._local_operations, bound.operation)

    order = await world.order(sku, customer)
    assert order
    overview = (await world.client.get("/v1/me/overview", headers=customer)).json()
    assert overview["partial"] is True
    assert overview["failed"] == ["notifications", "recommendations"]
    assert overview["orders"] is not None
    for path in ("/v1/recommendations", "/v1/notifications"):
        answer = await world.client.get(path, headers=customer)
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
