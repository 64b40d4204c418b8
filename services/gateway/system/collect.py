"""Asks every process of every service how it is doing, all at once, each within its operation's deadline; what does not
answer is named.

Who asks within a second of another gets that one's answer: ten open consoles cost as much as one.
"""

import asyncio
from contextvars import Context
from datetime import timedelta

from redis.exceptions import RedisError

from caravan.database import CONNECTION_LOST
from caravan.deadlines import Deadline
from caravan.jobs import UNAVAILABLE_ERRORS, admin
from caravan.jobs.admin import STATES
from caravan.status import StatusRequest, build_status_operation, find_rebuilds
from caravan.telemetry import log
from services.gateway.known_services import list_channels
from services.gateway.routing.trie import OWN_SERVICE
from services.gateway.system.merge import ProcessAnswers, merge_answers
from services.gateway.system.view import MissingPart, SystemBreaker, SystemQueue, SystemRouting, SystemStatus
from services.gateway.use_cases import GatewayContext, list_other_services

CACHE_SECONDS = 1.0
JOB_QUEUES = "job-queues"
REBUILDS = "rebuilds"
_QUEUES_SECONDS = 1.0


class SystemStatusReader:
    """One for a gateway."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._task: asyncio.Task[SystemStatus] | None = None
        self._ended_at = float("-inf")

    async def read_status(self) -> SystemStatus:
        """At most a second old."""
        now = asyncio.get_running_loop().time()
        if self._task is None or (self._task.done() and now - self._ended_at >= CACHE_SECONDS):
            # Not in the context of the one who asks first: the others have their own deadlines and traces.
            self._task = asyncio.create_task(self._collect(), context=Context())
        return await asyncio.shield(self._task)

    async def _collect(self) -> SystemStatus:
        try:
            return await collect_status(self._context)
        finally:
            self._ended_at = asyncio.get_running_loop().time()


async def collect_status(context: GatewayContext) -> SystemStatus:
    services = sorted({*list_other_services(context), OWN_SERVICE})
    (queues, partial), answers = await asyncio.gather(
        _list_queues(context), asyncio.gather(*(_ask_service(context, service) for service in services))
    )
    try:
        endpoint_breakers = [
            breaker for service in services for breaker in await _list_endpoint_breakers(context, service)
        ]
    except CONNECTION_LOST:
        endpoint_breakers = []
    status = merge_answers(
        dict(zip(services, answers, strict=True)),
        list_channels(),
        endpoint_breakers,
        queues,
        _read_routing(context),
        partial,
        context.clock(),
    )
    return await _add_rebuilds(context, status)


async def _add_rebuilds(context: GatewayContext, status: SystemStatus) -> SystemStatus:
    """With how far each read model is that is made anew."""
    try:
        rebuilds = await find_rebuilds(context.redis, [projection.name for projection in status.projections])
    except (RedisError, OSError, TimeoutError) as error:
        reason = f"the Redis of the cache can't be reached ({type(error).__name__})"
        status.partial.append(MissingPart(part=REBUILDS, url=None, reason=reason))
        return status
    for projection in status.projections:
        projection.rebuild = rebuilds.get(projection.name)
    return status


async def _ask_service(context: GatewayContext, service: str) -> ProcessAnswers:
    """By URL: what a process answered, or why it did not."""
    try:
        return await context.call.call_each_process(build_status_operation(service), StatusRequest())
    except CONNECTION_LOST as error:  # of the database that says where it is
        log.warning("a service's processes are unknown", target=service, error=repr(error))
        return {}


async def _list_queues(context: GatewayContext) -> tuple[list[SystemQueue], list[MissingPart]]:
    try:
        async with Deadline(_QUEUES_SECONDS):
            queues = await admin.list_queues(context.jobs.store)
    except UNAVAILABLE_ERRORS as error:
        reason = f"the Redis of the jobs can't be reached ({type(error).__name__})"
        return [], [MissingPart(part=JOB_QUEUES, url=None, reason=reason)]
    return [
        SystemQueue(
            name=queue.name,
            paused=queue.paused,
            schedule=queue.schedule,
            next_at=queue.next_at,
            **{state: queue.counts.get(state, 0) for state in STATES},
        )
        for queue in queues
    ], []


async def _list_endpoint_breakers(context: GatewayContext, service: str) -> list[SystemBreaker]:
    """Endpoints that the gateway's process leaves out, or tries again."""
    now = context.clock()
    return [
        SystemBreaker(
            service=OWN_SERVICE,
            target=service,
            url=endpoint.url,
            state=endpoint.breaker.state,
            cause=endpoint.breaker.cause or None,
            until=now + timedelta(seconds=endpoint.breaker.seconds_until_probe)
            if endpoint.breaker.state == "open"
            else None,
        )
        for endpoint in await context.discovery.list_endpoints(service)
        if endpoint.breaker.state != "closed"
    ]


def _read_routing(context: GatewayContext) -> SystemRouting | None:
    snapshot, status = context.discovery.current_snapshot, context.discovery.get_status()
    if status is None:
        return None
    sources = status["sources"]
    assert isinstance(sources, dict)
    return SystemRouting(
        revision=snapshot and str(snapshot.revision),
        sequence=snapshot and snapshot.sequence,
        sources=[f"{name}: {state}" for name, state in sorted(sources.items())],
    )
