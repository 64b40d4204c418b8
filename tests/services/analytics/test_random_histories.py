"""The read model is the same in whatever order, batches and number messages come: random histories of 500 orders."""

import pytest

from caravan.runtime import Backends
from services.analytics.projections import ORDER_FACTS, SALES
from tests.support.order_messages import fold_twice
from tests.support.shop import run_services

ORDERS = 500


@pytest.mark.parametrize("seeds", [4, pytest.param(20, marks=pytest.mark.slow)])
async def test_the_fold_does_not_depend_on_the_order_of_messages(backends: Backends, seeds: int) -> None:
    async with run_services(backends, "analytics") as shop:
        for seed in range(seeds):
            for model in (ORDER_FACTS, SALES):
                one, other = await fold_twice(shop.get_database("analytics"), model, seed, ORDERS)
                assert one == other, f"seed {seed}"
                assert all(rows for rows, _ in one)
