"""The schedule of a proof: which fault begins after how many orders, whom it strikes and how long. All of it follows
from the seed, the number of orders and the size.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass

from tests.faults.prove.kinds import list_runnable

EACH_ORDERS = 2_500
"""Each kind comes once more for so many orders: ten times in 25,000."""
LAST_SHARE = 0.95
"""No fault begins among the last orders."""


@dataclass(frozen=True, slots=True)
class PlannedFault:
    number: int
    after_orders: int
    kind: str
    target: str
    seconds: float


def draw_plan(seed: int, orders: int, size: str, only: Collection[str] = ()) -> list[PlannedFault]:
    """Every kind that runs on this size and machine, as often as these orders allow, in a random order; `only` these
    when some are named.
    """
    chance = random.Random(f"proof {seed} {orders} {size}")
    kinds = [kind for kind in list_runnable(size) if not only or kind.name in only] * max(1, orders // EACH_ORDERS)
    chance.shuffle(kinds)
    step = orders * LAST_SHARE / len(kinds)
    return [
        PlannedFault(
            number,
            int(step * (number + chance.random())),
            kind.name,
            chance.choice(kind.targets),
            round(chance.uniform(*kind.seconds), 1),
        )
        for number, kind in enumerate(kinds)
    ]
