"""The verbs of orders, a file each, and what they share."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from caravan.client import Calls
from caravan.clock import Clock
from caravan.service import Context
from services.identity.client import STANDING, Standing, StandingRequest
from services.orders.settings import Settings

READ = "orders_read"
REMEMBERED = 10_000


class Standings:
    """Customers' standing, remembered for a few seconds: asked for each order, changed hardly ever."""

    def __init__(self, calls: Calls, clock: Clock, seconds: float) -> None:
        self._calls = calls
        self._clock = clock
        self._keep = timedelta(seconds=seconds)
        self._known: OrderedDict[UUID, tuple[Standing, datetime]] = OrderedDict()

    async def of(self, user_id: UUID) -> Standing:
        now = self._clock()
        known = self._known.get(user_id)
        if known and known[1] > now:
            return known[0]
        standing = await self._calls(STANDING, StandingRequest(user_id=user_id))
        self._known[user_id] = (standing, now + self._keep)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return standing


@dataclass(slots=True)
class Parts:
    """`room`: how many orders are placed at once; the others wait for their turn, so that accepting orders does not starve the work on those accepted."""

    standings: Standings
    room: asyncio.Semaphore


OrdersContext = Context[Settings, Parts]
