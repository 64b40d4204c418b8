"""What a service says of itself in a process."""

from collections.abc import Collection
from typing import Any, cast

from caravan.clock import utc_now
from caravan.discovery import Breaker
from caravan.status import ServiceStatus, StatusReporter
from caravan.telemetry import metrics


class Call:
    """Of the caller of operations, what is read."""

    def __init__(self, **breakers: Breaker) -> None:
        self._breakers = breakers

    def list_breakers(self) -> dict[str, Breaker]:
        return self._breakers


async def build_status(service: str, call: Call | None = None, groups: Collection[str] = ()) -> ServiceStatus:
    async def check_readiness() -> dict[str, str]:
        return {"orders": "read-only"}

    reporter = StatusReporter(check_readiness, {"jobs": "set maxmemory-policy"}, utc_now)
    return await reporter.build_status(service, cast(Any, call or Call()), groups or {service})


async def test_what_is_not_ready_and_what_should_be_put_right() -> None:
    status = await build_status("quiet")
    assert (status.not_ready, status.warnings) == (["orders: read-only"], ["set maxmemory-policy"])
    assert (status.outbox, status.cache, status.subscriptions, status.published) == (None, None, [], [])


async def test_messages_by_what_came_of_them_and_what_waits() -> None:
    for result, count in (("done", 5), ("duplicate", 4), ("retry", 3), ("dead", 2)):
        metrics.MESSAGES_HANDLED.labels("busy", "pets", result).inc(count)
    metrics.MESSAGES_HANDLED.labels("other", "pets", "done").inc(100)
    metrics.CONSUMER_LAG.labels("busy", "pets").set(9)
    metrics.OUTBOX_PENDING.labels("busy").set(8)
    status = await build_status("busy")
    (pets,) = status.subscriptions
    flows = (pets.handled, pets.duplicates, pets.retries, pets.dead_letters)
    assert [flow.total for flow in flows] == [5, 4, 3, 2]
    assert (pets.waiting, pets.consumers) == (9, None)
    assert status.outbox is not None and status.outbox.pending == 8


async def test_a_consumer_group_beside_the_services_own_is_told_apart() -> None:
    for group, waiting in (("shop", 1), ("shop-books", 2)):
        metrics.CONSUMER_LAG.labels(group, "pets").set(waiting)
    status = await build_status("shop", groups=("shop", "shop-books"))
    assert [(flow.group, flow.waiting) for flow in status.subscriptions] == [("shop", 1), ("shop-books", 2)]


async def test_the_share_of_hits_of_the_cache() -> None:
    for result, count in (("hit", 6), ("stale", 2), ("miss", 1), ("bypass", 1)):
        metrics.CACHE_REQUESTS.labels("cached", result).inc(count)
    cache = (await build_status("cached")).cache
    assert cache is not None and (cache.hit_share, cache.misses.total) == (0.8, 1)


async def test_a_breaker_says_why_it_is_open_and_until_when() -> None:
    seconds = 0.0
    breaker = Breaker(lambda: seconds)
    for _ in range(5):
        breaker.record_failure()
    seconds += 2.0
    before = utc_now()
    (found,) = (await build_status("calling", Call(pets=breaker))).breakers
    assert (found.target, found.state, found.cause) == ("pets", "open", "5 calls in a row failed")
    assert found.until is not None and 2.9 < (found.until - before).total_seconds() < 3.5
