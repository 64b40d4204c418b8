"""The use cases of orders, a module for each verb. Here is what they share."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from caravan.client import OperationClient
from caravan.clock import Clock
from caravan.fifo_cache import FifoCache
from caravan.live_streams import LiveHub
from caravan.service import ServiceContext
from services.identity.client import GET_CUSTOMER_STATUS, CustomerStatus, CustomerStatusRequest
from services.orders.settings import Settings

READ_DATABASE = "orders_read"
MAX_ENTRIES = 10_000


class CustomerStatusCache:
    """Customers' standing, remembered for a few seconds: asked for each order, changed hardly ever."""

    def __init__(self, calls: OperationClient, clock: Clock, seconds: float) -> None:
        self._calls = calls
        self._clock = clock
        self._time_to_live = timedelta(seconds=seconds)
        self._entries: FifoCache[UUID, tuple[CustomerStatus, datetime]] = FifoCache(MAX_ENTRIES)

    async def get_status(self, user_id: UUID) -> CustomerStatus:
        now = self._clock()
        entry = self._entries.get(user_id)
        if entry and entry[1] > now:
            return entry[0]
        status = await self._calls(GET_CUSTOMER_STATUS, CustomerStatusRequest(user_id=user_id))
        self._entries[user_id] = (status, now + self._time_to_live)
        return status


@dataclass(slots=True)
class OrdersResources:
    """`slots`: how many orders are placed at once; the others wait for their turn, so that accepting orders does not
    starve the work on those accepted. `live`: who watches which order.
    """

    customer_statuses: CustomerStatusCache
    slots: asyncio.Semaphore
    live: LiveHub


OrdersContext = ServiceContext[Settings, OrdersResources]
