"""One whole shop for the tests of the graph, with a customer who has ordered."""

from collections.abc import AsyncIterator

import pytest

from caravan.runtime import Backends
from tests.services.gateway.graphql.graph_case import GraphCase
from tests.support.scenario import run_whole_shop


@pytest.fixture(scope="module")
async def graph(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GraphCase]:
    async with run_whole_shop(backends, tmp_path_factory.mktemp("graph")) as scenario:
        yield GraphCase(scenario.shop, scenario.program)
