"""Makes one answer of what the processes said: rates are added up, what all of them measure of the same thing (waiting
messages, outbox) is the largest that any of them saw.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from caravan.errors import Problem
from caravan.messages import Channel, Queue, Topic
from caravan.status import CacheStatus, Flow, OutboxStatus, RequestFlow, ServiceStatus, SubscriptionFlow
from services.gateway.system.view import (
    MissingPart,
    ServiceState,
    SystemBreaker,
    SystemCache,
    SystemChannel,
    SystemInstance,
    SystemProjection,
    SystemQueue,
    SystemRouting,
    SystemService,
    SystemStatus,
    SystemSubscription,
)

ProcessAnswers = Mapping[str, ServiceStatus | Problem]
"""By the URL of the process; that of the gateway's own is empty."""
_BREAKER_RANK = {"closed": 0, "half-open": 1, "open": 2}


def merge_answers(
    answers: Mapping[str, ProcessAnswers],
    channels: Sequence[Channel],
    endpoint_breakers: list[SystemBreaker],
    queues: list[SystemQueue],
    routing: SystemRouting | None,
    partial: list[MissingPart],
    now: datetime,
) -> SystemStatus:
    statuses = {service: _drop_repeated(of_service) for service, of_service in answers.items()}
    everything = [status for of_service in statuses.values() for _, status in of_service]
    missing = [
        MissingPart(part=service, url=url, reason=answer.detail or answer.title)
        for service, of_service in answers.items()
        for url, answer in of_service.items()
        if isinstance(answer, Problem)
    ]
    missing += [
        MissingPart(part=service, url=None, reason="no process of it is known")
        for service, of_service in answers.items()
        if not of_service
    ]
    return SystemStatus(
        as_of=now,
        window_seconds=max((status.window_seconds or 0.0 for status in everything), default=0.0) or None,
        services=[
            _merge_service(service, of_service, [part.reason for part in missing if part.part == service], now)
            for service, of_service in statuses.items()
        ],
        channels=_merge_channels(everything, channels),
        breakers=[*_merge_breakers(everything), *endpoint_breakers],
        caches=_merge_caches(everything),
        job_queues=queues,
        projections=_list_projections(everything),
        routing=routing,
        partial=[*missing, *partial],
    )


def _list_projections(statuses: list[ServiceStatus]) -> list[SystemProjection]:
    owners = {name: status.service for status in statuses for name in status.projections}
    return [SystemProjection(name=name, service=owners[name], rebuild=None) for name in sorted(owners)]


def _drop_repeated(answers: ProcessAnswers) -> list[tuple[str, ServiceStatus]]:
    """A process that has two names is one."""
    by_instance = {status.instance: (url, status) for url, status in answers.items() if not isinstance(status, Problem)}
    return sorted(by_instance.values(), key=lambda pair: pair[1].instance)


def _merge_service(
    name: str, answers: list[tuple[str, ServiceStatus]], reasons: list[str], now: datetime
) -> SystemService:
    statuses = [status for _, status in answers]
    reasons = [*reasons, *(reason for status in statuses for reason in status.not_ready)]
    state: ServiceState = "down" if not statuses else "degraded" if reasons else "up"
    subscriptions = [subscription for status in statuses for subscription in status.subscriptions]
    waiting = _take_largest(((_get_group(name, flow), flow.channel), flow.waiting) for flow in subscriptions)
    return SystemService(
        name=name,
        state=state,
        reasons=list(dict.fromkeys(reasons)),
        instances=[_build_instance(url, status, now) for url, status in answers],
        requests=_add_requests([status.requests for status in statuses]),
        published=add_flows(flow.messages for status in statuses for flow in status.published),
        handled=add_flows(flow.handled for flow in subscriptions),
        duplicates=add_flows(flow.duplicates for flow in subscriptions),
        retries=add_flows(flow.retries for flow in subscriptions),
        dead_letters=add_flows(flow.dead_letters for flow in subscriptions),
        waiting=sum(waiting.values()),
        outbox=_merge_outboxes([status.outbox for status in statuses if status.outbox]),
    )


def _build_instance(url: str, status: ServiceStatus, now: datetime) -> SystemInstance:
    return SystemInstance(
        id=status.instance,
        url=url or None,
        version=status.version,
        started_at=status.started_at,
        uptime_seconds=round((now - status.started_at).total_seconds(), 1),
        not_ready=status.not_ready,
        warnings=status.warnings,
    )


def add_flows(flows: Iterable[Flow]) -> Flow:
    """The rate is null where none is known."""
    flows = list(flows)
    rates = [flow.per_second for flow in flows if flow.per_second is not None]
    return Flow(
        total=sum(flow.total for flow in flows), per_second=round(sum(rates), 3) if rates or not flows else None
    )


def _add_requests(flows: list[RequestFlow]) -> RequestFlow:
    """The mean counts each process by its requests."""
    weights = [(flow.mean_seconds, flow.answered.per_second or 0.0) for flow in flows if flow.mean_seconds is not None]
    weight = sum(rate for _, rate in weights)
    return RequestFlow(
        answered=add_flows(flow.answered for flow in flows),
        failed=add_flows(flow.failed for flow in flows),
        mean_seconds=round(sum(mean * rate for mean, rate in weights) / weight, 6) if weight else None,
    )


def _merge_outboxes(outboxes: list[OutboxStatus]) -> OutboxStatus | None:
    if not outboxes:
        return None
    return OutboxStatus(
        pending=max(outbox.pending for outbox in outboxes),
        oldest_seconds=max(outbox.oldest_seconds for outbox in outboxes),
        refused=max(outbox.refused for outbox in outboxes),
    )


def _get_group(service: str, flow: SubscriptionFlow) -> str:
    return flow.group or service


def _take_largest(counts: Iterable[tuple[tuple[str, str], int | None]]) -> dict[tuple[str, str], int]:
    known: dict[tuple[str, str], int] = {}
    for reader, count in counts:
        if count is not None:
            known[reader] = max(known.get(reader, 0), count)
    return known


def _merge_channels(statuses: list[ServiceStatus], declared: Sequence[Channel]) -> list[SystemChannel]:
    """Every declared channel, also where nothing moves."""
    published: dict[str, list[tuple[str, Flow]]] = {}
    subscriptions: dict[str, dict[tuple[str, str], list[SubscriptionFlow]]] = {}
    for status in statuses:
        for sent in status.published:
            published.setdefault(sent.channel, []).append((status.service, sent.messages))
        for flow in status.subscriptions:
            reader = (status.service, _get_group(status.service, flow))
            subscriptions.setdefault(flow.channel, {}).setdefault(reader, []).append(flow)
    return [
        SystemChannel(
            name=channel.name,
            type="topic" if isinstance(channel, Topic) else "queue" if isinstance(channel, Queue) else "exchange",
            purpose=channel.purpose,
            published=add_flows(flow for _, flow in published.get(channel.name, ())),
            publishers=sorted({service for service, _ in published.get(channel.name, ())}),
            subscriptions=[
                _merge_subscription(*reader, flows)
                for reader, flows in sorted(subscriptions.get(channel.name, {}).items())
            ],
        )
        for channel in sorted(declared, key=lambda channel: channel.name)
    ]


def _merge_subscription(service: str, group: str, flows: list[SubscriptionFlow]) -> SystemSubscription:
    waiting = [flow.waiting for flow in flows if flow.waiting is not None]
    consumers = [flow.consumers for flow in flows if flow.consumers is not None]
    return SystemSubscription(
        service=service,
        group=group,
        handled=add_flows(flow.handled for flow in flows),
        duplicates=add_flows(flow.duplicates for flow in flows),
        retries=add_flows(flow.retries for flow in flows),
        dead_letters=add_flows(flow.dead_letters for flow in flows),
        waiting=max(waiting, default=None),
        consumers=max(consumers, default=None),
    )


def _merge_breakers(statuses: list[ServiceStatus]) -> list[SystemBreaker]:
    worst: dict[tuple[str, str], SystemBreaker] = {}
    for status in statuses:
        for breaker in status.breakers:
            found = SystemBreaker(service=status.service, url=None, **breaker.model_dump())
            known = worst.get((status.service, breaker.target))
            if known is None or _BREAKER_RANK[found.state] > _BREAKER_RANK[known.state]:
                worst[status.service, breaker.target] = found
    return [worst[key] for key in sorted(worst)]


def _merge_caches(statuses: list[ServiceStatus]) -> list[SystemCache]:
    by_service: dict[str, list[CacheStatus]] = {}
    for status in statuses:
        if status.cache is not None:
            by_service.setdefault(status.service, []).append(status.cache)
    return [_merge_cache(service, caches) for service, caches in sorted(by_service.items())]


def _merge_cache(service: str, caches: list[CacheStatus]) -> SystemCache:
    """Available where every process can use it."""
    names = ("hits", "stale", "misses", "collapsed", "bypassed")
    flows = {name: add_flows(getattr(cache, name) for cache in caches) for name in names}
    recent = {name: flow.per_second or 0.0 for name, flow in flows.items()}
    counts = recent if sum(recent.values()) else {name: flow.total for name, flow in flows.items()}
    total = sum(counts.values())
    return SystemCache(
        service=service,
        is_available=all(cache.is_available for cache in caches),
        hit_share=round((counts["hits"] + counts["stale"]) / total, 4) if total else None,
        **flows,
    )
