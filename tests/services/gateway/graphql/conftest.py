"""One whole shop for the tests of the graph, with a customer who has ordered."""

from collections.abc import AsyncIterator

import pytest

from caravan.runtime import Backends
from tests.conftest import clear_backends
from tests.services.gateway.graphql.graph_case import GraphCase
from tests.support.scenario import run_whole_shop


@pytest.fixture(scope="package")
async def backends(servers: Backends) -> Backends:
    """Empty for the first of these modules: those that begin while the shop runs must leave it its databases."""
    await clear_backends(servers)
    return servers


@pytest.fixture(scope="package")
async def graph(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GraphCase]:
    async with run_whole_shop(backends, tmp_path_factory.mktemp("graph")) as scenario:
        yield GraphCase(scenario.shop, scenario.program)
