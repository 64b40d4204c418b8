"""Wires the services that a process was asked to run to its backends; names no service.

A `Process` owns every task of theirs: relays, consumers, periodic work, live hints, heartbeat. Stopping means: not ready any more, take nothing new, finish
the batch in hand, send what is committed, close.
"""

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import orjson
from pydantic import ValidationError
from redis.asyncio import Redis
from starlette.responses import Response

from caravan import crash, settings, telemetry
from caravan.audit import AUDIT
from caravan.auth import Verifier, check_internal, internal_token
from caravan.bus import Bus, Subscription, failures
from caravan.bus.brokers import Brokers
from caravan.bus.embedded import EmbeddedBus
from caravan.bus.failures.operations import operations
from caravan.bus.kafka import KafkaBus
from caravan.bus.rabbit import RabbitBus
from caravan.client import Calls, Local, Operation, authorization, deadline
from caravan.clock import Clock, utc_now
from caravan.database import CONNECTION_LOST, Database
from caravan.discovery import HEARTBEAT_SECONDS, ByName, ByRegistry, Discovery
from caravan.errors import Invalid, NotFound, Problem
from caravan.health import PATHS, Health
from caravan.http import App, Receive, Scope, Send, create_app, problem_response
from caravan.inbox import Consumer, Inbox
from caravan.jobs import AWAY, Enqueuer, JobStore, Workers
from caravan.jobs.failures import FailedJobs
from caravan.leadership import Leadership
from caravan.live import Live
from caravan.messages import Channel
from caravan.migrations import KERNEL, check, derive, provision, role_url, upgrade
from caravan.outbox import Relay, Unsent
from caravan.registry import BySnapshot
from caravan.service import Context, Periodic, Service
from caravan.settings import Settings
from caravan.telemetry import log

BUS = "bus"
BUS_VERSIONS = Path(__file__).parent / "bus" / "versions"
SAMPLE_SECONDS = 5.0
PRUNE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Backends:
    """Where a process keeps things: a Postgres server (administrative URL), Redis, and the secret from which passwords are derived.

    `jobs_redis_url`: another Redis for the jobs; without it they share the one of the cache.
    """

    database_url: str
    redis_url: str
    secret: str
    jobs_redis_url: str | None = None
    passwords: Path | None = None
    """A file per database with the password of its role; None: derived from the secret."""

    def password(self, database: str) -> str:
        if self.passwords is None:
            return derive(self.secret, "database:" + database)
        try:
            return (self.passwords / database).read_text().strip()
        except OSError as error:
            raise settings.SettingsError(f"CARAVAN_DATABASE_PASSWORDS: no password for the database {database}: {error}") from None

    def database(self, name: str) -> str:
        return role_url(self.database_url, name, self.password(name))


def _versions(services: Iterable[Service]) -> dict[str, list[Path]]:
    """The folders of versions of each database."""
    declared = [database for service in services for database in service.databases]
    return {BUS: [BUS_VERSIONS]} | {database.name: [*([KERNEL] if database.kernel else []), database.versions] for database in declared}


async def migrated(services: Iterable[Service], backends: Backends) -> None:
    """Raises NotMigrated unless every database of these services is as this code needs it."""
    for name, versions in _versions(services).items():
        await check(name, backends.database(name), versions)


async def migrate(services: Iterable[Service], backends: Backends) -> None:
    """Make and upgrade the databases of these services and of the bus, and declare their channels and readers."""
    services = list(services)
    databases = _versions(services)
    await provision(backends.database_url, {name: backends.password(name) for name in databases})
    for name, versions in databases.items():
        await upgrade(name, backends.database(name), versions)
    bus_database = await Database.open(BUS, backends.database(BUS), size=2)
    try:
        await declare(EmbeddedBus(bus_database, Leadership(backends.database(BUS), BUS)), services)
    finally:
        await bus_database.close()


async def declare(bus: Bus, services: Sequence[Service], listeners: Sequence[Subscription] = ()) -> None:
    """The channels and readers of these services, and `listeners` that run elsewhere."""
    channels: list[Channel] = [AUDIT, *(channel for service in services for channel in service.channels)]
    await bus.declare(channels, [*subscriptions(services), *listeners])


def choose_bus(kernel: Settings, database: Database, leadership: Leadership) -> Bus:
    """Kafka and RabbitMQ where the settings name them, else Postgres."""
    if kernel.kafka_url and kernel.rabbitmq_url:
        client = f"caravan-{socket.gethostname()}-{os.getpid()}"
        management = kernel.rabbitmq_management_url.get_secret_value() if kernel.rabbitmq_management_url else ""
        return Brokers(
            KafkaBus(kernel.kafka_url, client, replicas=kernel.kafka_replicas),
            RabbitBus(kernel.rabbitmq_url.get_secret_value(), client, management=management),
            owner=kernel.declare,
        )
    return EmbeddedBus(database, leadership)


def choose_discovery(kernel: Settings, database: Database) -> Discovery:
    """By name or through the database; by the operator's snapshot where the settings say where to read it."""
    addresses = ByName(kernel.discovery) if kernel.discovery else ByRegistry(database)
    if kernel.registry_url or kernel.registry_file:
        return BySnapshot(addresses, kernel.registry_file, kernel.registry_url)
    return addresses


def consumers(service: Service) -> Sequence[Consumer]:
    return service.consumers.declared if service.consumers else ()


def subscriptions(services: Iterable[Service]) -> list[Subscription]:
    return [consumer.subscription for service in services for consumer in consumers(service)]


@dataclass
class Process:
    """`async with Process(...) as process:` runs the services; `process.app` is the ASGI application to serve.

    `keys` is the operation that returns the token issuer's key set.
    """

    services: Sequence[Service]
    kernel: Settings
    backends: Backends
    keys: Operation[Any, Any]
    url: str
    clock: Clock = utc_now
    listeners: Sequence[Subscription] = ()
    """Readers elsewhere of the exchanges that are owned here: an announcement that comes before their queues would be lost to them."""
    contexts: dict[str, Context[Any, Any]] = field(default_factory=dict)
    peers: dict[str, App] = field(default_factory=dict)
    bus: Bus = field(init=False)
    jobs: JobStore = field(init=False)
    workers: Workers = field(init=False)
    health: Health = field(init=False)
    discovery: Discovery = field(init=False)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _local: dict[Operation[Any, Any], Local] = field(default_factory=dict)
    _by_path: dict[str, tuple[Operation[Any, Any], Local]] = field(default_factory=dict)
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
        for service in self.services:
            opened = {declared.name: await self._open(declared.name, self.kernel.pool) for declared in service.databases}
            databases |= opened
            self.contexts[service.name] = self._context(service, opened, redis, live, http)
        self.health = Health(databases, self.discovery)
        await self._check_jobs()
        for service in self.services:
            context = self.contexts[service.name]
            if service.parts:
                context.parts = await self._stack.enter_async_context(service.parts(context))
            self.peers[service.name] = (
                service.app(context) if service.app else create_app(service.name, service.routers, context, context.verifier)
            )
        await self.discovery.register([service.name for service in self.services], self.url)
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
        desk = operations(self._desk(service, opened), service.name)
        for operation, use_case in {**service.operations, **desk}.items():
            self._local[operation] = _bind(use_case, context)
            self._by_path[operation.path] = (operation, self._local[operation])
        return context

    def _desk(self, service: Service, opened: dict[str, Database]) -> failures.Desk:
        sources: list[failures.Source] = [failures.Dead(self.bus, subscriptions([service]))] if consumers(service) else []
        sources += [Unsent(opened[declared.name]) for declared in service.databases[:1] if declared.kernel]
        sources += [FailedJobs(self.jobs, list(service.jobs.declared))] if service.jobs else []
        return failures.Desk(service.name, sources, self.clock)

    async def _start_tasks(self, live: Live) -> None:
        for service in self.services:
            context = self.contexts[service.name]
            if any(declared.kernel for declared in service.databases):
                leadership = await self._leadership(service.databases[0].name)
                await leadership.listen("outbox", lambda _, written=context.database.outbox_written: written.set())  # type: ignore[misc]
                relay = Relay(context.database, self.bus, leadership)
                self._relays.append(relay)
                self._relaying.append(self._spawn(f"relay {service.name}", relay.run()))
            for consumer in consumers(service):
                self._consuming.append(
                    self._spawn(
                        f"consume {consumer.subscription.name}", self.bus.consume(consumer.subscription, Inbox(consumer, context).process)
                    )
                )
            for periodic in service.periodic:
                nudge = self._nudges[f"{service.name}.{periodic.name}"] = asyncio.Event()
                self._others.append(self._spawn(f"periodic {service.name}.{periodic.name}", _repeat(periodic, context, nudge)))
        declared = [
            (kind, self.contexts[service.name]) for service in self.services if service.jobs for kind in service.jobs.declared.values()
        ]
        self.workers = Workers(self.jobs, declared)
        self._others += [
            *(self._spawn(name, work) for name, work in self.workers.tasks()),
            self._spawn("live hints", live.run()),
            *(self._spawn(name, work) for name, work in self.bus.background()),
            self._spawn("heartbeat", self._heartbeat()),
            self._spawn("samples", self._sample()),
            self._spawn("registry", self.discovery.follow()),
            self._spawn("prune", self._prune()),
        ]

    def _spawn(self, name: str, work: Any) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.critical("task ended", task=name, exc_info=error)
                raise

        return asyncio.create_task(guarded(), name=name)

    async def stop(self) -> None:
        """Drain within `drain_seconds`, then close whatever is left."""
        self.health.stopping = True
        with contextlib.suppress(*CONNECTION_LOST):
            await self.discovery.leave(self.url)
        await asyncio.gather(self.bus.stop(), self.workers.stop(self.kernel.drain_seconds))
        for task in self._others:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.kernel.drain_seconds):
                await asyncio.gather(*self._consuming, *self._others, return_exceptions=True)
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
                await self.discovery.register([service.name for service in self.services], self.url)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _sample(self) -> None:
        names = {subscription.name: subscription for subscription in subscriptions(self.services)}
        while True:
            with contextlib.suppress(*CONNECTION_LOST):
                waiting = await self.bus.lag(list(names.values()))
                for name, subscription in names.items():
                    telemetry.LAG.labels(subscription.service, subscription.channel).set(waiting.get(name, 0))
            for relay in self._relays:
                await relay.measure()
            await self.workers.measure()
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            with contextlib.suppress(*CONNECTION_LOST):
                for service in self.services:
                    if any(declared.kernel for declared in service.databases):
                        await self.contexts[service.name].database.forget()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The process's one ASGI application: probes, internal operations, then the gateway or the service that has the route."""
        if scope["type"] == "http":
            path = scope["path"]
            if path in PATHS and not self.kernel.probe_port:
                await self.probes(scope, receive, send)
                return
            if path.startswith("/internal/"):
                await (await self._internal(scope, receive))(scope, receive, send)
                return
        elif scope["type"] == "lifespan":
            return
        await self._front(scope)(scope, receive, send)

    async def probes(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Probes and metrics as an application of their own, for a port that clients don't reach."""
        answer = await self.health.answer(scope["path"]) if scope["path"] in PATHS else Response("not found\n", 404)
        await answer(scope, receive, send)

    def _front(self, scope: Scope) -> App:
        if len(self.peers) == 1:
            return next(iter(self.peers.values()))
        if "gateway" in self.peers:
            return self.peers["gateway"]
        for app in self.peers.values():
            routes = getattr(getattr(app, "fastapi", None), "routes", ())
            if any(route.matches(scope)[0].value for route in routes):
                return app
        return next(iter(self.peers.values()))

    async def _internal(self, scope: Scope, receive: Receive) -> Response:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        found = self._by_path.get(scope["path"])
        try:
            if found is None or scope["method"] != "POST":
                raise NotFound(f"no operation at {scope['path']}")
            operation, local = found
            check_internal(derive(self.backends.secret, "internal"), headers.get("authorization"), operation.service)
            authorization.set(headers.get("x-user-authorization"))
            telemetry.request_id.set(headers.get("x-request-id"))
            telemetry.traceparent.set(telemetry.parse_traceparent(headers.get("traceparent")) or telemetry.new_traceparent())
            seconds = min(float(headers.get("x-caravan-seconds", operation.seconds)), operation.seconds)
            deadline.set(asyncio.get_running_loop().time() + seconds)
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            async with asyncio.timeout(seconds):
                answer = await local(operation.request.model_validate_json(body))
            return Response(answer.model_dump_json(), media_type="application/json")
        except ValidationError as error:
            return problem_response(Invalid(f"not a request for this operation: {error.error_count()} errors"), scope["path"])
        except Problem as problem:
            return problem_response(problem, scope["path"])
        except (TimeoutError, *CONNECTION_LOST) as error:
            log.warning("internal call failed", path=scope["path"], error=repr(error))
            return Response(orjson.dumps({"title": "Unavailable", "detail": f"{scope['path']}: a backend is away", "status": 503}), 503)


def _bind(use_case: Callable[[Any, Any], Awaitable[Any]], context: Context[Any, Any]) -> Local:
    def local(request: Any) -> Awaitable[Any]:
        return use_case(context, request)

    return local


async def _repeat(periodic: Periodic, context: Context[Any, Any], nudge: asyncio.Event) -> None:
    telemetry.service_name.set(context.service)
    failures = 0
    while True:
        nudge.clear()
        more = False
        try:
            telemetry.traceparent.set(telemetry.new_traceparent())
            more = await periodic.run(context)
            failures = 0
        except CONNECTION_LOST as error:
            failures += 1
            log.warning("periodic work waits", task=periodic.name, error=repr(error))
        except Exception as error:
            failures += 1
            log.error("periodic work failed", task=periodic.name, exc_info=error)
        if more and not failures:
            await asyncio.sleep(0)
            continue
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(nudge.wait(), periodic.seconds * min(2**failures, 16) if failures else periodic.seconds)
