"""A service that has not been reached since the gateway started is away; its paths are not unknown."""

import pytest

from caravan.runtime import Backends
from services.gateway.routing.trie import ROOT_OWNERS, extract_root, find_root_owners, is_forwardable
from services.registry import load_services
from tests.support.shop import run_services


@pytest.mark.parametrize(
    "path", ["/v1/products", "/v1/products/MUG", "/v1/reports/sales", "/v1/orders", "/.well-known/jwks.json"]
)
async def test_a_path_of_a_service_not_reached_yet_is_503_and_any_other_404(backends: Backends, path: str) -> None:
    async with run_services(backends, "gateway", "inventory") as shop:
        for name in ("identity",):
            shop.process.peers.pop(name, None)
            shop.get_context("gateway").resources.table.documents.pop(name, None)
        answer = await shop.client.get(path)
        assert answer.status_code == 503 and "retry-after" in answer.headers, answer.text
        for unknown in ("/v1/nothing", "/v1/stock/MUG/nothing", "/nothing"):
            assert (await shop.client.get(unknown)).status_code == 404


def test_the_roots_are_those_that_the_services_declare() -> None:
    declared: dict[str, set[str]] = {}
    for service in load_services():
        for router in service.routers:
            for route in router.routes:
                path = getattr(route, "path", "")
                if is_forwardable(path):
                    declared.setdefault(extract_root(path), set()).add(service.name)
    assert declared == {root: find_root_owners(root) for root in declared}
    assert ROOT_OWNERS.keys() <= declared.keys()
