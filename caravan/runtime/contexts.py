"""Builds the context of each service that a process runs, and binds the service's operations to it.

`caravan/runtime/process.py` opens what the contexts share, and runs the tasks.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
import httpx2
from redis.asyncio import Redis

from caravan import environment
from caravan.auth import AcceptedToken, TokenVerifier, issue_internal_token
from caravan.bus import Bus
from caravan.cache import SharedCache
from caravan.client import LocalOperation, Operation, OperationClient
from caravan.clock import Clock
from caravan.database import Database, open_connection
from caravan.dead_letters import DeadLetterService, DeadLetterSource, SubscriptionDeadLetters
from caravan.dead_letters.operations import build_operations
from caravan.derivation import derive_secret
from caravan.discovery import Discovery
from caravan.inbox import Inbox
from caravan.jobs import Enqueuer, JobStore
from caravan.jobs.dead_letters import JobDeadLetters
from caravan.live import ChangeNotifications
from caravan.outbox import OutboxDeadLetters
from caravan.refusals import Refusal, RefusalRecorder, record_refusals
from caravan.runtime.app import ProcessApp, guard_owner
from caravan.runtime.backends import (
    Backends,
    list_consumers,
    list_subscriptions,
)
from caravan.service import Service, ServiceContext
from caravan.settings import Settings
from caravan.status import StatusReporter
from caravan.timeline import (
    ReadSubscription,
    TimelinePart,
    TimelineRequest,
    answer_timeline,
    build_timeline_operation,
    find_dead_messages,
)


@dataclass(frozen=True, slots=True)
class ContextFactory:
    """What the contexts of one process share."""

    kernel_settings: Settings
    backends: Backends
    keys: Operation[Any, Any]
    accept_token: Operation[Any, Any]
    url: str
    clock: Clock
    bus: Bus
    jobs: JobStore
    discovery: Discovery
    app: ProcessApp
    redis: Redis
    changes: ChangeNotifications
    cache: SharedCache
    http: httpx2.AsyncClient
    """For third parties."""
    service_http: httpx2.AsyncClient
    local_operations: dict[Operation[Any, Any], LocalOperation]
    wake_events: dict[str, asyncio.Event]
    status: StatusReporter
    address: str
    """Where other processes reach this one."""

    def build_context(self, service: Service, databases: dict[str, Database]) -> ServiceContext[Any, Any]:
        call = OperationClient(
            service.name,
            self.local_operations,
            self.discovery,
            self.service_http,
            self._issue_credentials,
            self.address,
        )
        context: ServiceContext[Any, Any] = ServiceContext(
            service=service.name,
            kernel_settings=self.kernel_settings,
            settings=environment.load_class(service.settings) if service.settings else None,
            # A service without a database never asks for it.
            database=next(iter(databases.values()), None),  # type: ignore[arg-type]
            databases=databases,
            call=call,
            redis=self.redis,
            changes=self.changes,
            cache=self.cache,
            clock=self.clock,
            secret=self.backends.secret,
            url=self.url,
            verifier=self._build_verifier(call),
            discovery=self.discovery,
            http=self.http,
            peers=self.app.peers,
            resources=None,
            wake=self._make_wake(service.name),
            jobs=Enqueuer(self.jobs, service.jobs),
            connect_to_books=partial(self._connect_to_books, service.databases[0].name) if service.databases else None,
        )
        if any(declared.has_kernel_tables for declared in service.databases):
            context.refused = self.app.refused[service.name] = RefusalRecorder(
                partial(_record_refusals, context.database)
            )
        self._bind_operations(service, context)
        return context

    async def _connect_to_books(self, reader: str, database: str) -> asyncpg.Connection:
        url = self.backends.get_reader_url(database, reader)
        return await open_connection(url, server_settings={"application_name": f"caravan {reader} reads"})

    def _bind_operations(self, service: Service, context: ServiceContext[Any, Any]) -> None:
        """Let callers in this process and in others reach the service's operations."""
        dead_letter_operations = build_operations(self._build_dead_letter_service(service, context), service.name)
        timeline_operations = (
            [build_timeline_operation(service.name).bind(_make_timeline_reader(service, self.bus))]
            if any(declared.has_kernel_tables for declared in service.databases)
            else []
        )
        groups = {consumer.subscription.service for consumer in list_consumers(service)}
        status_operation = self.status.bind_operation(service.name, context.call, groups, service.projections)
        for bound in (*service.operations, *dead_letter_operations, *timeline_operations, status_operation):
            operation = bound.operation
            self.local_operations[operation] = _bind_operation(bound.use_case, context)
            call_remote = (
                guard_owner(self.local_operations[operation], operation.owner, context.verifier)
                if operation.owner
                else self.local_operations[operation]
            )
            self.app.operations[operation.url_path] = (operation, call_remote)

    def _build_dead_letter_service(self, service: Service, context: ServiceContext[Any, Any]) -> DeadLetterService:
        sources: list[DeadLetterSource] = (
            [SubscriptionDeadLetters(self.bus, list_subscriptions([service]))] if list_consumers(service) else []
        )
        sources += [
            OutboxDeadLetters(context.databases[declared.name])
            for declared in service.databases[:1]
            if declared.has_kernel_tables
        ]
        sources += [JobDeadLetters(self.jobs, list(service.jobs.job_types))] if service.jobs else []
        sources += [make_source(context) for make_source in service.dead_letter_sources]
        return DeadLetterService(service.name, sources, self.clock)

    def _make_wake(self, service: str) -> Callable[[str], None]:
        def wake(name: str) -> None:
            event = self.wake_events.get(f"{service}.{name}")
            if event:
                event.set()

        return wake

    def _issue_credentials(self, service: str, target: str) -> str:
        return issue_internal_token(derive_secret(self.backends.secret, "internal"), service, target)

    def _build_verifier(self, call: OperationClient) -> TokenVerifier:
        async def fetch_keys(kid: str) -> dict[str, Any]:
            key_set = await call(self.keys, self.keys.request(kid=kid))
            return dict(key_set.model_dump())

        async def accept_token(token: str) -> AcceptedToken:
            accepted: AcceptedToken = await call(self.accept_token, self.accept_token.request(token=token))
            return accepted

        return TokenVerifier(fetch_keys, accept_token)


async def _record_refusals(database: Database, refusals: list[Refusal]) -> None:
    async with database.unit_of_work() as uow:
        record_refusals(uow, refusals)


def _make_timeline_reader(service: Service, bus: Bus) -> Callable[[Any, TimelineRequest], Awaitable[TimelinePart]]:
    consumers = [
        ReadSubscription(consumer.subscription, tuple(consumer.accepted_types)) for consumer in list_consumers(service)
    ]

    async def read_timeline(context: Any, request: TimelineRequest) -> TimelinePart:
        part = await answer_timeline(context, request, consumers, service.timeline)
        part.dead, gaps = await find_dead_messages(bus, service.name, consumers, request.key)
        part.gaps += gaps
        return part

    return read_timeline


def _bind_operation(
    use_case: Callable[[Any, Any], Awaitable[Any]], context: ServiceContext[Any, Any]
) -> LocalOperation:
    def call_local(request: Any) -> Awaitable[Any]:
        return use_case(context, request)

    return call_local


def build_inboxes(services: Sequence[Service], contexts: Mapping[str, ServiceContext[Any, Any]]) -> list[Inbox]:
    """One for each consumer of these services."""
    readers = Counter(subscription.channel for subscription in list_subscriptions(services))
    return [
        Inbox(consumer, contexts[service.name], is_shared=readers[consumer.subscription.channel] > 1)
        for service in services
        for consumer in list_consumers(service)
    ]
