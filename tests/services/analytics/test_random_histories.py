"""The read model is the same in whatever order, batches and number messages come: 10,000 random histories."""

from caravan.runtime import Backends
from services.analytics.projections import ORDER_FACTS, SALES
from tests.support.order_messages import fold_twice
from tests.support.shop import run_services

SEEDS, ORDERS = 20, 500


async def test_the_fold_does_not_depend_on_the_order_of_messages(backends: Backends) -> None:
    async with run_services(backends, "analytics") as shop:
        for seed in range(SEEDS):
            for model in (ORDER_FACTS, SALES):
                one, other = await fold_twice(shop.get_database("analytics"), model, seed, ORDERS)
                assert one == other, f"seed {seed}"
                assert all(rows for rows, _ in one)
