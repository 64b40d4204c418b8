"""How many requests of clients each service works on for this gateway: so many at a time, so many wait for their turn,
and the next one is answered 429 at once.

Without a bound, too much load makes every answer slow until nobody waits for it any more: the shop then works for
nobody. With one, the requests that it takes are answered as fast as ever. Each service has slots of its own, so that
one that hangs takes none of the others'. A slot is held until the answer begins: neither the body that a client is
still sending nor the answer that it is slow to read counts.

How many a service can work on at a time depends on the machine, so the number follows from how long answers take: each
answer in time raises it a little, one that is late lowers it by a quarter (AIMD, as TCP finds the width of a path).

A burst and an overload look the same at first: many wait. A burst ends, so it is worth its wait; in an overload each
wait only makes the next one longer. What tells them apart is whether the queue was empty within the last seconds (as
CoDel does with packets): while it was not, who has waited longer than a moment is refused instead of served.
"""

import asyncio
from collections import deque

from caravan.errors import TooManyRequests
from services.gateway.metrics import REQUESTS_UNDER_WAY, REQUESTS_WAITING, SHED_REQUESTS
from services.gateway.settings import Settings

RETRY_SECONDS = 1
MIN_LIMIT = 4
DECREASE = 0.75


class RequestSlots:
    """Of one service. Who comes first is served first."""

    def __init__(self, service: str, settings: Settings) -> None:
        self._service = service
        self._settings = settings
        self.limit = float(settings.max_requests_per_service)
        self._used = 0
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._lowered_at = 0.0
        self._queued_since = 0.0
        """Since when somebody has waited without a pause; counts while somebody waits."""
        self._shed = SHED_REQUESTS.labels(service)
        REQUESTS_UNDER_WAY.labels(service).set_function(lambda: self._used)
        REQUESTS_WAITING.labels(service).set_function(lambda: len(self._waiting))

    async def acquire(self) -> float:
        """When the slot was given, for `release`. Raises TooManyRequests when too many wait already, or the turn has
        not come in time.
        """
        if self._used < self.limit and not self._waiting:
            self._used += 1
            return self._loop.time()
        if len(self._waiting) >= self._settings.max_waiting_per_service:
            raise self._build_refusal()
        place = self._loop.time(), self._loop.create_future()
        if not self._waiting:
            self._queued_since = place[0]
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self._settings.waiting_seconds):
                await place[1]
        except TooManyRequests:
            raise
        except BaseException as error:
            if place in self._waiting:
                self._waiting.remove(place)
            elif not place[1].cancelled() and place[1].exception() is None:
                self._used -= 1  # the slot came in the moment in which nobody wanted it any more
                self._give_slots()
            if isinstance(error, TimeoutError):
                raise self._build_refusal() from None
            raise
        return self._loop.time()

    def release(self, acquired_at: float, *, is_slow: bool = False) -> None:
        """The answer has begun, or there is none. `is_slow`: by nature, which says nothing of the load."""
        if not is_slow:
            self._adapt_limit(acquired_at)
        self._used -= 1
        if self._waiting:
            self._give_slots()

    def _adapt_limit(self, acquired_at: float) -> None:
        now = self._loop.time()
        if now - acquired_at > self._settings.target_seconds:
            if acquired_at >= self._lowered_at:  # those that began before are late for the same reason
                self.limit = max(min(MIN_LIMIT, self.limit), self.limit * DECREASE)
                self._lowered_at = now
        elif self._used >= self.limit - 1:  # otherwise nobody knows whether it could be more
            self.limit = min(self._settings.max_requests_per_service, self.limit + 1 / self.limit)

    def _is_overloaded(self, now: float) -> bool:
        return bool(self._waiting) and now - self._queued_since > self._settings.burst_seconds

    def _give_slots(self) -> None:
        """To whoever waits longest; in an overload, who has waited for more than a moment is refused instead."""
        now = self._loop.time()
        waited_too_long = now - self._settings.overload_seconds if self._is_overloaded(now) else float("-inf")
        while self._waiting and self._used < self.limit:
            waiting_since, turn = self._waiting.popleft()
            if turn.done():
                continue
            if waiting_since < waited_too_long:
                turn.set_exception(self._build_refusal())
            else:
                self._used += 1
                turn.set_result(None)

    def _build_refusal(self) -> TooManyRequests:
        self._shed.inc()
        return TooManyRequests(
            f"{self._service} has more requests than it can answer now; wait {RETRY_SECONDS} s",
            retry_after=RETRY_SECONDS,
        )
