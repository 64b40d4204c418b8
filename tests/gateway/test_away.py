"""A service that has not been reached since the gateway started is away; its paths are not unknown."""

import pytest

from caravan.runtime import Backends
from services.__main__ import load
from services.gateway.routing import ROOTS, forwardable, root
from tests.shop import running


@pytest.mark.parametrize("path", ["/v1/products", "/v1/products/MUG", "/v1/reports/sales", "/v1/orders", "/.well-known/jwks.json"])
async def test_a_path_of_a_service_not_reached_yet_is_503_and_any_other_404(backends: Backends, path: str) -> None:
    async with running(backends, "gateway", "inventory") as shop:
        for name in ("identity",):
            shop.process.peers.pop(name, None)
            shop.context("gateway").parts.table.documents.pop(name, None)
        answer = await shop.client.get(path)
        assert answer.status_code == 503 and "retry-after" in answer.headers, answer.text
        for unknown in ("/v1/nothing", "/v1/stock/MUG/nothing", "/nothing"):
            assert (await shop.client.get(unknown)).status_code == 404


def test_the_roots_are_those_that_the_services_declare() -> None:
    declared: dict[str, set[str]] = {}
    for service in load():
        for router in service.routers:
            for route in router.routes:
                path = getattr(route, "path", "")
                if forwardable(path):
                    declared.setdefault(root(path), set()).add(service.name)
    assert declared == ROOTS
