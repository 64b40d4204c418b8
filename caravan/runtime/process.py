"""Runs the services that a process was asked to run, on its backends; it names none.

A `Process` owns all their tasks: relays, consumers, periodic tasks, change listener, heartbeat. Stopping means: report
not ready, take nothing new, finish the running batch, send what is committed, close.
"""

import asyncio
import contextlib
import gc
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import httpx2
from opentelemetry.trace import SpanKind
from redis.asyncio import ConnectionPool, Redis

from caravan import environment, failpoint, telemetry
from caravan.bus import BackgroundTask, Bus, Subscription
from caravan.cache import SharedCache
from caravan.client import LocalOperation, Operation
from caravan.clock import Clock, utc_now
from caravan.concurrency import end_tasks
from caravan.database import CONNECTION_LOST, Database
from caravan.derivation import derive_secret
from caravan.discovery import HEARTBEAT_SECONDS, Discovery
from caravan.health import Health
from caravan.http import App, create_app
from caravan.http_client import HttpClient
from caravan.http_connections import KeptConnections
from caravan.jobs import UNAVAILABLE_ERRORS, JobStore, Workers
from caravan.leadership import Leadership
from caravan.live import ChangeNotifications
from caravan.outbox import OutboxRelay
from caravan.redis_pools import create_pool
from caravan.runtime.app import ProcessApp
from caravan.runtime.backend_gauges import BackendGauges
from caravan.runtime.backends import BUS, Backends, choose_bus, choose_discovery, declare_channels
from caravan.runtime.collector import export_to_collector
from caravan.runtime.contexts import ContextFactory, build_inboxes
from caravan.runtime.fault_switch import follow_switch
from caravan.runtime.periodic import purge_periodically, run_periodically
from caravan.runtime.sampling import Sampler, observe_loop_lag
from caravan.runtime.supervisor import supervise_task
from caravan.service import Service, ServiceContext
from caravan.settings import Settings
from caravan.status import StatusReporter
from caravan.status.report import VERSION
from caravan.telemetry import log, metrics


@dataclass
class Process:
    """`async with Process(...) as process:` runs the services; `process.app` is the ASGI application to serve.

    `keys` is the operation that returns the token issuer's key set, `accept_token` the one that says whose a token of
    an outside issuer is. `url` is where clients reach the shop, `address` where other processes reach this one.
    """

    services: Sequence[Service]
    kernel_settings: Settings
    backends: Backends
    keys: Operation[Any, Any]
    accept_token: Operation[Any, Any]
    url: str
    clock: Clock = utc_now
    address: str = ""
    listeners: Sequence[Subscription] = ()
    """Readers elsewhere of the exchanges that are owned here: an announcement that comes before their queues would be
    lost to them.
    """
    contexts: dict[str, ServiceContext[Any, Any]] = field(default_factory=dict)
    peers: dict[str, App] = field(default_factory=dict)
    bus: Bus = field(init=False)
    jobs: JobStore = field(init=False)
    workers: Workers = field(init=False)
    health: Health = field(init=False)
    discovery: Discovery = field(init=False)
    app: ProcessApp = field(init=False)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _local_operations: dict[Operation[Any, Any], LocalOperation] = field(default_factory=dict)
    _relays: list[OutboxRelay] = field(default_factory=list)
    _consumer_tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _relay_tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _other_tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _wake_events: dict[str, asyncio.Event] = field(default_factory=dict)

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
        environment.warn_about_former_names(
            [Settings, *(service.settings for service in self.services if service.settings)]
        )
        failpoint.arm(self.kernel_settings.failpoint)
        process = "caravan-" + "-".join(service.name for service in self.services[:3])
        await self._stack.enter_async_context(export_to_collector(self.kernel_settings, process))
        metrics.BUILD_INFO.labels(VERSION, self.kernel_settings.commit).set(1)
        bus_database = await self._open_database(BUS, 8)
        self.bus = choose_bus(self.kernel_settings, bus_database, await self._open_leadership(BUS))
        await self.bus.start()
        self._stack.push_async_callback(self.bus.close)
        await declare_channels(self.bus, self.services, self.listeners)
        self.discovery = choose_discovery(self.kernel_settings, bus_database)
        self.jobs = JobStore(self.backends.jobs_redis_url or self.backends.redis_url)
        self._stack.push_async_callback(self.jobs.close)
        databases: dict[str, Database] = {BUS: bus_database}
        self.health = Health(databases, self.discovery)
        self.app = ProcessApp(
            self.peers,
            self.health,
            derive_secret(self.backends.secret, "internal"),
            has_probe_port=bool(self.kernel_settings.probe_port),
        )
        factory = await self._open_context_factory()
        for service in self.services:
            service_databases = {
                declared.name: await self._open_database(declared.name, self.kernel_settings.pool_size)
                for declared in service.databases
            }
            databases |= service_databases
            self.contexts[service.name] = factory.build_context(service, service_databases)
        await self._check_jobs_redis()
        await self._open_services()
        # What has been loaded stays: collecting garbage need not walk through it, nor run for every few hundred
        # messages.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        await self._start_tasks(factory)

    async def _open_context_factory(self) -> ContextFactory:
        url = self.backends.redis_url
        redis = Redis.from_pool(
            create_pool(ConnectionPool, url, socket_timeout=2, socket_connect_timeout=1, max_connections=50)
        )
        subscriber = Redis.from_pool(create_pool(ConnectionPool, url, socket_connect_timeout=1))
        self._stack.push_async_callback(redis.aclose)
        self._stack.push_async_callback(subscriber.aclose)
        http = await self._stack.enter_async_context(
            HttpClient(timeout=30, limits=httpx2.Limits(max_connections=200, max_keepalive_connections=50))
        )
        service_http = HttpClient(timeout=30, trust_env=False, transport=KeptConnections(200))
        await self._stack.enter_async_context(service_http)
        changes = ChangeNotifications(redis, subscriber)
        cache = SharedCache(redis, changes, is_enabled=self.kernel_settings.cache)
        self._stack.push_async_callback(cache.close)
        return ContextFactory(
            kernel_settings=self.kernel_settings,
            backends=self.backends,
            keys=self.keys,
            accept_token=self.accept_token,
            url=self.url,
            clock=self.clock,
            bus=self.bus,
            jobs=self.jobs,
            discovery=self.discovery,
            app=self.app,
            redis=redis,
            changes=changes,
            cache=cache,
            http=http,
            service_http=service_http,
            local_operations=self._local_operations,
            wake_events=self._wake_events,
            status=StatusReporter(self.health.check_readiness, self.health.warnings, self.clock),
            address=self.address or self.url,
        )

    async def _open_services(self) -> None:
        """Their resources and applications, then what each has to do before anybody is answered."""
        for service in self.services:
            context = self.contexts[service.name]
            if service.open_resources:
                context.resources = await self._stack.enter_async_context(service.open_resources(context))
            self.peers[service.name] = (
                service.build_app(context)
                if service.build_app
                else create_app(service.name, service.routers, context, context.verifier)
            )
        await self.discovery.register_services([service.name for service in self.services], self.address or self.url)
        for service in self.services:
            if service.prepare:
                token = telemetry.service_name.set(service.name)
                with telemetry.start_span(f"prepare {service.name}", SpanKind.INTERNAL, is_quiet=True):
                    await service.prepare(self.contexts[service.name])
                telemetry.service_name.reset(token)

    async def _start_tasks(self, factory: ContextFactory) -> None:
        for service in self.services:
            context = self.contexts[service.name]
            if any(declared.has_kernel_tables for declared in service.databases):
                leadership = await self._open_leadership(service.databases[0].name)
                written = context.database.outbox_written
                await leadership.listen("outbox", lambda _, written=written: written.set())  # type: ignore[misc]
                relay = OutboxRelay(context.database, self.bus, leadership)
                self._relays.append(relay)
                self._relay_tasks.append(self._spawn_task(f"relay {service.name}", relay.run))
            if context.refused:
                self._other_tasks.append(self._spawn_task(f"refusals {service.name}", context.refused.run))
            for periodic_task in service.periodic_tasks:
                wake = self._wake_events[f"{service.name}.{periodic_task.name}"] = asyncio.Event()
                self._other_tasks.append(
                    self._spawn_task(
                        f"periodic {service.name}.{periodic_task.name}",
                        partial(run_periodically, periodic_task, context, wake),
                    )
                )
        inboxes = build_inboxes(self.services, self.contexts)
        for inbox in inboxes:
            consume = partial(self.bus.consume, inbox.consumer.subscription, inbox.process_batch)
            self._consumer_tasks.append(self._spawn_task(f"consume {inbox.name}", consume))
        declared = [
            (job_type, self.contexts[service.name])
            for service in self.services
            if service.jobs
            for job_type in service.jobs.job_types.values()
        ]
        self.workers = Workers(self.jobs, declared)
        sampler = Sampler(
            self.bus,
            inboxes,
            self._relays,
            self.workers,
            BackendGauges.build(self.contexts.values(), {"cache": factory.redis, "jobs": self.jobs.client}),
            self.health.check_readiness,
            self.clock,
        )
        self._other_tasks += [
            *(self._spawn_task(name, run) for name, run in self.workers.list_background_tasks()),
            self._spawn_task("change listener", factory.changes.run),
            *(self._spawn_task(name, run) for name, run in self.bus.list_background_tasks()),
            self._spawn_task("heartbeat", self._send_heartbeats),
            self._spawn_task("metrics", sampler.run),
            self._spawn_task("event loop", observe_loop_lag),
            self._spawn_task("faults", partial(follow_switch, self.jobs, self.clock, self.kernel_settings.faults)),
            self._spawn_task("discovery", self.discovery.watch_changes),
            self._spawn_task("purge", partial(purge_periodically, self._relays)),
        ]

    def _spawn_task(self, name: str, run: BackgroundTask) -> asyncio.Task[None]:
        return asyncio.create_task(supervise_task(name, run, lambda: self.health.is_stopping), name=name)

    async def stop(self) -> None:
        """Drain within `drain_seconds`, then close whatever is left."""
        self.health.is_stopping = True
        with contextlib.suppress(*CONNECTION_LOST):
            await self.discovery.deregister_url(self.address or self.url)
        await asyncio.gather(self.bus.stop(), self.workers.stop(self.kernel_settings.drain_seconds))
        for task in self._other_tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.kernel_settings.drain_seconds):
                await asyncio.gather(*self._consumer_tasks, *self._other_tasks, return_exceptions=True)
                await asyncio.gather(*(refused.send_report() for refused in self.app.refused.values()))
                for relay in self._relays:
                    relay.stop()
                await asyncio.gather(*self._relay_tasks, return_exceptions=True)
                await asyncio.gather(*(context.jobs.flush() for context in self.contexts.values()))
        await end_tasks((*self._consumer_tasks, *self._relay_tasks, *self._other_tasks))
        await self._stack.aclose()

    async def _open_database(self, name: str, size: int) -> Database:
        database = await Database.open(name, self.backends.get_database_url(name), size=size, clock=self.clock)
        self._stack.push_async_callback(database.close)
        return database

    async def _open_leadership(self, name: str) -> Leadership:
        leadership = Leadership(self.backends.get_database_url(name), name)
        self._stack.push_async_callback(leadership.close)
        return leadership

    async def _check_jobs_redis(self) -> None:
        """Evicted jobs are found again by the sweepers, late. One that is unavailable is waited for by the workers."""
        try:
            advice = await self.jobs.check_server()
        except UNAVAILABLE_ERRORS as error:
            log.warning("the Redis of the jobs can't be used, they wait for it", error=str(error) or repr(error))
            return
        if advice:
            self.health.warnings["jobs"] = advice
            log.warning(advice)

    async def _send_heartbeats(self) -> None:
        while True:
            with contextlib.suppress(*CONNECTION_LOST):
                await self.discovery.register_services(
                    [service.name for service in self.services], self.address or self.url
                )
            await asyncio.sleep(HEARTBEAT_SECONDS)
