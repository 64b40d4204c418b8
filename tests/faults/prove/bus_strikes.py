"""The strikes on messages where the bus is in Postgres: what was published comes again, or what nobody can read."""

import asyncio
from collections.abc import Awaitable, Callable

from caravan.runtime import BUS, Backends
from tests.faults.invariants import rows
from tests.faults.prove.plan import PlannedFault
from tests.faults.prove.shop import ProvenShop
from tests.faults.prove.wires import BROKEN, POISON
from tests.support.shop import wait_until

EVIDENCE_SECONDS = 20.0
REPEATED = 150
Strike = Callable[[PlannedFault], Awaitable[str]]


class BusStrikes:
    def __init__(self, shop: ProvenShop) -> None:
        self._backends = shop.backends
        self.by_kind: dict[str, Strike] = {
            "repeated deliveries": self._repeat,
            "reordered deliveries": self._repeat,
            "poison": self._poison,
        }

    async def _repeat(self, fault: PlannedFault) -> str:
        order = "position" if fault.kind == "repeated deliveries" else f"md5(message_id::text || '{fault.number}')"
        refused = await count_refused(self._backends)
        repeated = await rows(
            self._backends,
            BUS,
            f"""INSERT INTO topic_log (topic, key, message_id, body)
                SELECT topic, key, message_id, body FROM (
                    SELECT * FROM topic_log WHERE key NOT LIKE '{POISON}%' ORDER BY position DESC LIMIT {REPEATED}
                ) AS newest ORDER BY {order} RETURNING position""",
        )
        return f"{len(repeated)} messages again, {await see_refused(self._backends, refused)}"

    async def _poison(self, fault: PlannedFault) -> str:
        key = f"{POISON}{fault.number}"
        await rows(
            self._backends,
            BUS,
            "INSERT INTO topic_log (topic, key, message_id, body)"
            " SELECT topic, $1, gen_random_uuid(), $2 FROM (SELECT DISTINCT topic FROM cursor) AS t",
            key,
            BROKEN.decode(),
        )

        async def has_died() -> int:
            query = "SELECT count(*) FROM dead_letter WHERE key = $1"
            return int((await rows(self._backends, BUS, query, key))[0][0])

        return f"{await wait_until(has_died, seconds=EVIDENCE_SECONDS, every=0.3)} dead letters so far"


async def count_refused(backends: Backends) -> int:
    """Deliveries that the inboxes knew already."""
    found = await asyncio.gather(
        *(
            rows(backends, service, "SELECT coalesce(sum(refused), 0) FROM inbox")
            for service in ("orders", "processing", "inventory", "payments")
        )
    )
    return sum(int(each[0][0]) for each in found)


async def see_refused(backends: Backends, before: int) -> str:
    """Once there are more of them."""

    async def has_more() -> int:
        return await count_refused(backends) - before

    count = await wait_until(has_more, seconds=EVIDENCE_SECONDS, every=0.3)
    return f"{count} deliveries refused so far"
