"""Each database restored to another moment than the others, the worst for money: what reconciliation finds is exactly
what was lost, nothing is charged twice, and nothing is given back for goods that have left. docs/how-to/backups.md says
what it means.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import pytest

from tests.backups.restored_shop import (
    AFTER,
    BETWEEN,
    COMPARE_SECONDS,
    EARLY,
    PAID_EARLY,
    PAID_LATE,
    SECONDS,
    RestoredShop,
    open_restored_shop,
)
from tests.support.shop import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
LOST = "entry_unknown_to_us"
"""Orders that no database knows any more: the provider has them alone."""
PRICE = 1250


@dataclass(frozen=True)
class Restore:
    """`older`: the databases that are restored to the early moment. `gaps`: the groups of orders by class of what is
    found; `possible`: those of which each order may be found or not, by how far it was. `repaired`: the groups whose
    money a repair gives back.
    """

    older: tuple[str, ...]
    gaps: Mapping[str, tuple[str, ...]]
    possible: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    repaired: tuple[str, ...] = ()


RESTORES = {
    "all to the same moment": Restore((), {LOST: (AFTER,)}),
    "payments older": Restore(("payments",), {LOST: (BETWEEN, PAID_LATE, AFTER)}),
    "orders older": Restore(
        ("orders", "orders_read"),
        {LOST: (AFTER,), "shipped_without_order": (BETWEEN, PAID_LATE)},
        possible={"order_stuck": (PAID_EARLY,)},
    ),
    "inventory older": Restore(("inventory",), {LOST: (AFTER,), "shipped_without_stock": (PAID_EARLY, BETWEEN)}),
    "shipping older": Restore(("shipping",), {LOST: (AFTER,)}),
    "processing older": Restore(("processing",), {LOST: (AFTER,)}),
    "payments newer than all others": Restore(
        ("orders", "orders_read", "inventory", "shipping", "processing"),
        {LOST: (AFTER,), "captured_without_order": (BETWEEN, PAID_LATE)},
        repaired=(BETWEEN, PAID_LATE),
    ),
}


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestoredShop]:
    async with open_restored_shop(tmp_path_factory.mktemp("backups") / "shop") as made:
        yield made


def list_orders(shop: RestoredShop, groups: tuple[str, ...]) -> set[str]:
    return {order_id for group in groups for order_id in shop.orders[group]}


@pytest.mark.parametrize("restore", RESTORES.values(), ids=RESTORES.keys())
async def test_what_a_restore_to_different_moments_has_lost_is_found(shop: RestoredShop, restore: Restore) -> None:
    await shop.restore(dict.fromkeys(restore.older, EARLY))
    try:
        found = await shop.find_gaps()
        for gap, groups in restore.possible.items():
            assert found.pop(gap, set()) <= list_orders(shop, groups)
        assert found == {gap: list_orders(shop, groups) for gap, groups in restore.gaps.items()}
        assert await shop.read_provider() == dict.fromkeys(list_orders(shop, tuple(shop.orders)), PRICE)
        await shop.repair()
        returned = list_orders(shop, restore.repaired)

        async def is_given_back() -> bool:
            kept = await shop.read_provider()
            return {order_id for order_id, amount in kept.items() if not amount} == returned

        await wait_until(is_given_back, seconds=SECONDS, every=0.5)

        async def are_settled() -> bool:
            left = await shop.compare_books()
            assert not {subject for subjects in left.values() for subject in subjects} & returned, (shop.held_by, left)
            return True

        await wait_until(are_settled, seconds=SECONDS, every=COMPARE_SECONDS)
    finally:
        await shop.program.stop()
