"""What a group of schedules has in common: the clock, the sweepers and relays that run in each tick, and which of them
dies where. All of it follows from the number of the plan, so that a schedule alone meets what it met among others.
"""

import random
from collections.abc import Iterable, Sequence

CHAOS_TICKS = 45
CALM_TICKS = 120
CALM_SECONDS = 7.0
HANDLER_POINTS = ("inbox.after_claim", "handler.before_commit", "handler.after_commit_before_ack")
EFFECT_POINTS = ("payment.before_call", "payment.after_call_before_commit")
SWEEP_POINTS = {
    "captures": EFFECT_POINTS,
    "refunds": ("refund.before_call", "refund.after_call_before_commit"),
    "dispatch-parcels": ("shipment.before_call", "shipment.after_call_before_commit"),
    "project-orders": ("projection.mid_batch",),
}
RELAY_POINTS = ("relay.before_send", "relay.after_confirm_before_mark")
SKIP = "skip"
"""It does not run in this tick."""


class Plan:
    """`readers`: the names of the subscriptions; `effects`: those whose handler calls a third party."""

    def __init__(
        self, number: int, readers: Sequence[str], effects: Iterable[str], sweeps: Iterable[str], relays: Iterable[str]
    ) -> None:
        chance = random.Random(f"plan {number}")
        effects = set(effects)
        self._seconds = [_choose_seconds(chance) for _ in range(CHAOS_TICKS)]
        self._fates: list[dict[str, str]] = []
        for _ in range(CHAOS_TICKS):
            fates: dict[str, str] = {}
            for name in readers:
                fates[name] = _choose(chance, 0.05, 0.04, EFFECT_POINTS if name in effects else HANDLER_POINTS)
            for name in sweeps:
                fates[name] = _choose(chance, 0.4, 0.1, SWEEP_POINTS.get(name, ()))
            for name in relays:
                fates[f"relay {name}"] = _choose(chance, 0.15, 0.08, RELAY_POINTS)
            self._fates.append(fates)

    def get_seconds(self, tick: int) -> float:
        """How far the clock goes on before this tick."""
        return self._seconds[tick] if tick < CHAOS_TICKS else CALM_SECONDS

    def get_fate(self, tick: int, name: str) -> str:
        """SKIP, the crash point at which it ends, or "" for a tick like any other."""
        return self._fates[tick].get(name, "") if tick < CHAOS_TICKS else ""


def _choose_seconds(chance: random.Random) -> float:
    """Mostly moments; sometimes longer than a step may take, and rarely longer than a reservation lasts."""
    return chance.choices((0.2, 1.0, 3.0, 12.0, 65.0, 1000.0), (30, 40, 20, 10, 4, 4))[0]


def _choose(chance: random.Random, skip: float, crash: float, points: Sequence[str]) -> str:
    drawn, point = chance.random(), chance.choice(points) if points else ""
    return SKIP if drawn < skip else point if drawn < skip + crash else ""
