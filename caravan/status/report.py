"""Answers what a service tells of itself in this process, from the metrics and breakers that are there anyhow."""

import os
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

from caravan.client import BoundOperation, OperationClient
from caravan.clock import Clock
from caravan.status.rates import Rates, RateSampler, read_series
from caravan.status.schemas import (
    MAX_ITEMS,
    BreakerStatus,
    CacheStatus,
    OutboxStatus,
    PublishedFlow,
    RequestFlow,
    ServiceStatus,
    StatusRequest,
    SubscriptionFlow,
    build_status_operation,
)
from caravan.telemetry import metrics

VERSION = version("caravan")
INSTANCE = f"{socket.gethostname()}:{os.getpid()}"


@dataclass(slots=True)
class StatusReporter:
    """One for a process. `check_readiness` says what is not ready, by name, and why."""

    check_readiness: Callable[[], Awaitable[dict[str, str]]]
    warnings: dict[str, str]
    clock: Clock
    started_at: datetime = field(init=False)
    _sampler: RateSampler = field(default_factory=RateSampler)

    def __post_init__(self) -> None:
        self.started_at = self.clock()

    def bind_operation(
        self, service: str, call: OperationClient, groups: Collection[str], projections: Collection[str]
    ) -> BoundOperation:
        """`groups`: the consumer groups in which the service reads."""

        async def answer_status(_: Any, __: StatusRequest) -> ServiceStatus:
            return await self.build_status(service, call, groups, projections)

        return build_status_operation(service).bind(answer_status)

    async def build_status(
        self, service: str, call: OperationClient, groups: Collection[str], projections: Collection[str] = ()
    ) -> ServiceStatus:
        rates = self._sampler.read_rates()
        return ServiceStatus(
            service=service,
            instance=INSTANCE,
            version=VERSION,
            started_at=self.started_at,
            not_ready=[f"{name}: {reason}" for name, reason in (await self.check_readiness()).items()],
            warnings=list(self.warnings.values()),
            window_seconds=rates.window_seconds and round(rates.window_seconds, 1),
            requests=_build_requests(service, rates),
            outbox=_read_outbox(service),
            published=_list_published(service, rates)[:MAX_ITEMS],
            subscriptions=_list_subscriptions(groups, rates)[:MAX_ITEMS],
            breakers=self._list_breakers(call)[:MAX_ITEMS],
            cache=_build_cache(service, rates),
            projections=sorted(projections),
        )

    def _list_breakers(self, call: OperationClient) -> list[BreakerStatus]:
        now = self.clock()
        return [
            BreakerStatus(
                target=target,
                state=breaker.state,
                cause=breaker.cause or None,
                until=now + timedelta(seconds=breaker.seconds_until_probe) if breaker.state == "open" else None,
            )
            for target, breaker in sorted(call.list_breakers().items())
        ]


def _build_requests(service: str, rates: Rates) -> RequestFlow:
    answered, failed = (rates.get_request_flow(service, has_failed=failed) for failed in (False, True))
    answered.total += failed.total
    if answered.per_second is not None:
        answered.per_second = round(answered.per_second + (failed.per_second or 0), 3)
    return RequestFlow(answered=answered, failed=failed, mean_seconds=rates.compute_mean_seconds(service))


def _read_outbox(service: str) -> OutboxStatus | None:
    pending = read_series(metrics.OUTBOX_PENDING).get((service,))
    if pending is None:
        return None
    return OutboxStatus(
        pending=int(pending),
        oldest_seconds=round(read_series(metrics.OUTBOX_AGE).get((service,), 0.0), 3),
        refused=int(read_series(metrics.OUTBOX_REFUSED).get((service,), 0.0)),
    )


def _list_published(service: str, rates: Rates) -> list[PublishedFlow]:
    channels = sorted(channel for owner, channel in read_series(metrics.MESSAGES_PUBLISHED) if owner == service)
    return [
        PublishedFlow(channel=channel, messages=rates.get_flow(metrics.MESSAGES_PUBLISHED, service, channel))
        for channel in channels
    ]


def _list_subscriptions(groups: Collection[str], rates: Rates) -> list[SubscriptionFlow]:
    waiting, consumers = read_series(metrics.CONSUMER_LAG), read_series(metrics.QUEUE_CONSUMERS)
    oldest = read_series(metrics.CONSUMER_LAG_SECONDS)
    readers = {(group, channel) for group, channel in waiting if group in groups}
    readers |= {(group, channel) for group, channel, _ in read_series(metrics.MESSAGES_HANDLED) if group in groups}

    def get_flow(reader: tuple[str, str], result: str) -> Any:
        return rates.get_flow(metrics.MESSAGES_HANDLED, *reader, result)

    return [
        SubscriptionFlow(
            group=reader[0],
            channel=reader[1],
            handled=get_flow(reader, "done"),
            duplicates=get_flow(reader, "duplicate"),
            retries=get_flow(reader, "retry"),
            dead_letters=get_flow(reader, "dead"),
            waiting=_convert_count(waiting.get(reader)),
            oldest_seconds=oldest.get(reader),
            consumers=_convert_count(consumers.get(reader)),
        )
        for reader in sorted(readers)
    ]


def _convert_count(value: float | None) -> int | None:
    return None if value is None else int(value)


def _build_cache(service: str, rates: Rates) -> CacheStatus | None:
    """None for a service that has read nothing of it."""
    if not any(owner == service for owner, _ in read_series(metrics.CACHE_REQUESTS)):
        return None
    hits, stale, misses, collapsed, bypassed = flows = [
        rates.get_flow(metrics.CACHE_REQUESTS, service, result)
        for result in ("hit", "stale", "miss", "collapsed", "bypass")
    ]
    recent = [flow.per_second or 0.0 for flow in flows]
    counts = recent if sum(recent) else [flow.total for flow in flows]
    return CacheStatus(
        is_available=bool(metrics.CACHE_AVAILABLE._value.get()),
        hits=hits,
        stale=stale,
        misses=misses,
        collapsed=collapsed,
        bypassed=bypassed,
        hit_share=round((counts[0] + counts[1]) / sum(counts), 4) if sum(counts) else None,
    )
