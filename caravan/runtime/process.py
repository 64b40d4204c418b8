"""The services that a process was asked to run, on its backends; it names none.

A `Process` owns every task of theirs: relays, consumers, periodic work, live hints, heartbeat. Stopping means: not ready any more, take nothing new, finish
the batch in hand, send what is committed, close.
"""

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import httpx2
from redis.asyncio import Redis

from caravan import crash, settings, telemetry
from caravan.auth import Verifier, internal_token
from caravan.bus import Background, Bus, Subscription, failures
from caravan.bus.failures.operations import operations
from caravan.client import Calls, Local, Operation
from caravan.clock import Clock, utc_now
from caravan.database import CONNECTION_LOST, Database
from caravan.derivation import derive
from caravan.discovery import HEARTBEAT_SECONDS, Discovery
from caravan.health import Health
from caravan.http import App, create_app
from caravan.inbox import Inbox
from caravan.jobs import AWAY, Enqueuer, JobStore, Workers
from caravan.jobs.failures import FailedJobs
from caravan.leadership import Leadership
from caravan.live import Live
from caravan.outbox import Relay, Unsent
from caravan.refusals import Refusal, RefusedRequests, record_refusals
from caravan.runtime.backends import BUS, Backends, choose_bus, choose_discovery, consumers, declare, subscriptions
from caravan.runtime.door import Door, for_owner
from caravan.runtime.periodic import repeat
from caravan.runtime.sampling import sample
from caravan.runtime.supervision import supervise
from caravan.service import Context, Service
from caravan.settings import Settings
from caravan.telemetry import log

PRUNE_SECONDS = 60.0


@dataclass
class Process:
    """`async with Process(...) as process:` runs the services; `process.app` is the ASGI application to serve.

    `keys` is the operation that returns the token issuer's key set. `url` is where clients reach the shop, `address` where other processes reach this one.
    """

    services: Sequence[Service]
    kernel: Settings
    backends: Backends
    keys: Operation[Any, Any]
    url: str
    clock: Clock = utc_now
    address: str = ""
    listeners: Sequence[Subscription] = ()
    """Readers elsewhere of the exchanges that are owned here: an announcement that comes before their queues would be lost to them."""
    contexts: dict[str, Context[Any, Any]] = field(default_factory=dict)
    peers: dict[str, App] = field(default_factory=dict)
    bus: Bus = field(init=False)
    jobs: JobStore = field(init=False)
    workers: Workers = field(init=False)
    health: Health = field(init=False)
    discovery: Discovery = field(init=False)
    app: Door = field(init=False)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _local: dict[Operation[Any, Any], Local] = field(default_factory=dict)
    _relays: list[Relay] = field(default_factory=list)
    _consuming: list[asyncio.Task[None]] = field(default_factory=list)
    _relaying: list[asyncio.Task[None]] = field(default_factory=list)
    _others: list[asyncio.Task[None]] = field(default_factory=list)
    _nudges: dict[str, asyncio.Event] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _start(self) -> None:
        crash.arm(self.kernel.crash_at)
        if self.kernel.otlp_endpoint:
            telemetry.export_spans(self.kernel.otlp_endpoint, "caravan-" + "-".join(service.name for service in self.services[:3]))
        bus_database = await self._open(BUS, 8)
        self.bus = choose_bus(self.kernel, bus_database, await self._leadership(BUS))
        await self.bus.start()
        self._stack.push_async_callback(self.bus.close)
        await declare(self.bus, self.services, self.listeners)
        self.discovery = choose_discovery(self.kernel, bus_database)
        redis = Redis.from_url(self.backends.redis_url, socket_timeout=2, socket_connect_timeout=1, max_connections=50)
        subscriber = Redis.from_url(self.backends.redis_url, socket_connect_timeout=1)
        self._stack.push_async_callback(redis.aclose)
        self._stack.push_async_callback(subscriber.aclose)
        live = Live(redis, subscriber)
        self.jobs = JobStore(self.backends.jobs_redis_url or self.backends.redis_url)
        self._stack.push_async_callback(self.jobs.close)
        http = await self._stack.enter_async_context(
            httpx2.AsyncClient(timeout=30, limits=httpx2.Limits(max_connections=200, max_keepalive_connections=50))
        )
        databases: dict[str, Database] = {BUS: bus_database}
        self.health = Health(databases, self.discovery)
        self.app = Door(self.peers, self.health, derive(self.backends.secret, "internal"), probes_apart=bool(self.kernel.probe_port))
        for service in self.services:
            opened = {declared.name: await self._open(declared.name, self.kernel.pool) for declared in service.databases}
            databases |= opened
            self.contexts[service.name] = self._context(service, opened, redis, live, http)
        await self._check_jobs()
        for service in self.services:
            context = self.contexts[service.name]
            if service.parts:
                context.parts = await self._stack.enter_async_context(service.parts(context))
            self.peers[service.name] = (
                service.app(context) if service.app else create_app(service.name, service.routers, context, context.verifier)
            )
        await self.discovery.register([service.name for service in self.services], self.address or self.url)
        for service in self.services:
            if service.prepare:
                await service.prepare(self.contexts[service.name])
        # What has been loaded stays: collecting garbage need not walk through it, nor run for every few hundred messages.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        await self._start_tasks(live)

    def _context(
        self, service: Service, opened: dict[str, Database], redis: Redis, live: Live, http: httpx2.AsyncClient
    ) -> Context[Any, Any]:
        calls = Calls(service.name, self._local, self.discovery, http, self._credentials)
        context: Context[Any, Any] = Context(
            service=service.name,
            kernel=self.kernel,
            settings=settings.read(service.settings) if service.settings else None,
            database=next(iter(opened.values()), None),  # type: ignore[arg-type]  # a service without a database never asks for it
            databases=opened,
            calls=calls,
            redis=redis,
            live=live,
            clock=self.clock,
            secret=self.backends.secret,
            url=self.url,
            verifier=Verifier(self._fetch_keys(calls)),
            discovery=self.discovery,
            http=http,
            peers=self.peers,
            parts=None,
            nudge=self._nudger(service.name),
            jobs=Enqueuer(self.jobs, service.jobs),
        )
        if any(declared.kernel for declared in service.databases):
            context.refused = self.app.refused[service.name] = RefusedRequests(partial(_record_refusals, context.database))
        desk = operations(self._desk(service, opened, context), service.name)
        for operation, use_case in {**service.operations, **desk}.items():
            self._local[operation] = _bind(use_case, context)
            guarded = for_owner(self._local[operation], operation.owner, context.verifier) if operation.owner else self._local[operation]
            self.app.operations[operation.path] = (operation, guarded)
        return context

    def _desk(self, service: Service, opened: dict[str, Database], context: Context[Any, Any]) -> failures.Desk:
        sources: list[failures.Source] = [failures.Dead(self.bus, subscriptions([service]))] if consumers(service) else []
        sources += [Unsent(opened[declared.name]) for declared in service.databases[:1] if declared.kernel]
        sources += [FailedJobs(self.jobs, list(service.jobs.declared))] if service.jobs else []
        sources += [place(context) for place in service.failures]
        return failures.Desk(service.name, sources, self.clock)

    async def _start_tasks(self, live: Live) -> None:
        for service in self.services:
            context = self.contexts[service.name]
            if any(declared.kernel for declared in service.databases):
                leadership = await self._leadership(service.databases[0].name)
                await leadership.listen("outbox", lambda _, written=context.database.outbox_written: written.set())  # type: ignore[misc]
                relay = Relay(context.database, self.bus, leadership)
                self._relays.append(relay)
                self._relaying.append(self._spawn(f"relay {service.name}", relay.run))
            if context.refused:
                self._others.append(self._spawn(f"refusals {service.name}", context.refused.run))
            for consumer in consumers(service):
                reading = partial(self.bus.consume, consumer.subscription, Inbox(consumer, context).process)
                self._consuming.append(self._spawn(f"consume {consumer.subscription.name}", reading))
            for periodic in service.periodic:
                nudge = self._nudges[f"{service.name}.{periodic.name}"] = asyncio.Event()
                self._others.append(self._spawn(f"periodic {service.name}.{periodic.name}", partial(repeat, periodic, context, nudge)))
        declared = [
            (kind, self.contexts[service.name]) for service in self.services if service.jobs for kind in service.jobs.declared.values()
        ]
        self.workers = Workers(self.jobs, declared)
        databases = [database for context in self.contexts.values() for database in context.databases.values()]
        self._others += [
            *(self._spawn(name, work) for name, work in self.workers.tasks()),
            self._spawn("live hints", live.run),
            *(self._spawn(name, work) for name, work in self.bus.background()),
            self._spawn("heartbeat", self._heartbeat),
            self._spawn("samples", partial(sample, self.bus, subscriptions(self.services), databases, self._relays, self.workers)),
            self._spawn("registry", self.discovery.follow),
            self._spawn("prune", self._prune),
        ]

    def _spawn(self, name: str, work: Background) -> asyncio.Task[None]:
        return asyncio.create_task(supervise(name, work, lambda: self.health.stopping), name=name)

    async def stop(self) -> None:
        """Drain within `drain_seconds`, then close whatever is left."""
        self.health.stopping = True
        with contextlib.suppress(*CONNECTION_LOST):
            await self.discovery.leave(self.address or self.url)
        await asyncio.gather(self.bus.stop(), self.workers.stop(self.kernel.drain_seconds))
        for task in self._others:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.kernel.drain_seconds):
                await asyncio.gather(*self._consuming, *self._others, return_exceptions=True)
                await asyncio.gather(*(refused.report() for refused in self.app.refused.values()))
                for relay in self._relays:
                    relay.stop()
                await asyncio.gather(*self._relaying, return_exceptions=True)
                await asyncio.gather(*(context.jobs.flush() for context in self.contexts.values()))
        left = [task for task in (*self._consuming, *self._relaying) if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._stack.aclose()

    async def _open(self, name: str, size: int) -> Database:
        database = await Database.open(name, self.backends.database(name), size=size, clock=self.clock)
        self._stack.push_async_callback(database.close)
        return database

    async def _leadership(self, name: str) -> Leadership:
        leadership = Leadership(self.backends.database(name), name)
        self._stack.push_async_callback(leadership.close)
        return leadership

    async def _check_jobs(self) -> None:
        """A Redis that throws things away when it is full serves as a cache; jobs in it come back late only."""
        with contextlib.suppress(*AWAY):
            policy = await self.jobs.eviction_policy()
            if policy != "noeviction":
                advice = f"the Redis of the jobs evicts ({policy}): set maxmemory-policy noeviction, or name another one in CARAVAN_JOBS_REDIS_URL"
                self.health.warnings["jobs"] = advice
                log.warning(advice)

    def _nudger(self, service: str) -> Callable[[str], None]:
        def nudge(name: str) -> None:
            event = self._nudges.get(f"{service}.{name}")
            if event:
                event.set()

        return nudge

    def _credentials(self, service: str, target: str) -> str:
        return internal_token(derive(self.backends.secret, "internal"), service, target)

    def _fetch_keys(self, calls: Calls) -> Callable[[], Awaitable[dict[str, Any]]]:
        async def fetch() -> dict[str, Any]:
            answer = await calls(self.keys, self.keys.request())
            return dict(answer.model_dump())

        return fetch

    async def _heartbeat(self) -> None:
        while True:
            with contextlib.suppress(*CONNECTION_LOST):
                await self.discovery.register([service.name for service in self.services], self.address or self.url)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            with contextlib.suppress(*CONNECTION_LOST):
                for service in self.services:
                    if any(declared.kernel for declared in service.databases):
                        await self.contexts[service.name].database.forget()


async def _record_refusals(database: Database, refusals: list[Refusal]) -> None:
    async with database.work() as work:
        record_refusals(work, refusals)


def _bind(use_case: Callable[[Any, Any], Awaitable[Any]], context: Context[Any, Any]) -> Local:
    def local(request: Any) -> Awaitable[Any]:
        return use_case(context, request)

    return local
