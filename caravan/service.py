"""What a service declares of itself (`main.py`), and the context that its use cases, routes, consumers and jobs work
in.

`caravan/runtime` takes both; they are apart from it so that a service loads no transport.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import asyncpg
import httpx2
from fastapi import APIRouter
from pydantic_settings import BaseSettings
from redis.asyncio import Redis

from caravan.auth import TokenVerifier
from caravan.cache import Cache, SharedCache
from caravan.client import BoundOperation, OperationClient
from caravan.clock import Clock
from caravan.consumers import Consumers
from caravan.database import Database, UnitOfWork
from caravan.discovery import Discovery
from caravan.jobs import Enqueuer, Jobs
from caravan.live import ChangeNotifications
from caravan.messages import Channel, Delivery, Topic
from caravan.refusals import RefusalRecorder
from caravan.settings import Settings
from caravan.timeline import Describe

if TYPE_CHECKING:
    from caravan.dead_letters import DeadLetterSource
    from caravan.http import App

S = TypeVar("S")
P = TypeVar("P")
ReadableColumns = Mapping[str, Sequence[str]]
"""Columns by table."""
OUTBOX_STATE: ReadableColumns = {"outbox": ("id", "channel", "key", "created_at", "refused_at")}
"""What of a database with kernel tables tells which messages were never published, and nothing of their contents."""


@dataclass(slots=True)
class ServiceContext(Generic[S, P]):
    """`ServiceContext[ItsSettings, ItsResources]`. `resources` holds what the service opens itself, such as a
    payment provider.
    """

    service: str
    kernel_settings: Settings
    settings: S
    database: Database
    databases: Mapping[str, Database]
    """All of the service's databases by name; `database` is the first declared."""
    call: OperationClient
    redis: Redis
    changes: ChangeNotifications
    cache: SharedCache
    clock: Clock
    secret: str
    """The master secret: derive from it with `caravan.derivation.derive_secret`, never use it as it is."""
    url: str
    """Where this process listens, or where clients reach the shop when that is set."""
    verifier: TokenVerifier
    discovery: Discovery
    http: httpx2.AsyncClient
    peers: "Mapping[str, App]"
    """The applications of the services that share this process."""
    resources: P
    wake: Callable[[str], None]
    """Wake one of the service's periodic tasks now."""
    jobs: Enqueuer
    refused: RefusalRecorder | None = None
    """Requests that the service itself refused; None for a service that has no database to record them in."""
    connect_to_books: Callable[[str], Awaitable[asyncpg.Connection]] | None = None
    """Open a read-only connection to another service's database, as far as that one's `readers` let it; the caller
    closes it. None for a service that has no database, and so no role.
    """


@dataclass(frozen=True, slots=True)
class DatabaseDeclaration:
    """A database of the service. `has_kernel_tables`: with outbox, inbox and idempotency records; a read database needs
    none.
    """

    name: str
    version_folder: Path
    has_kernel_tables: bool = True
    readers: Mapping[str, ReadableColumns] = field(default_factory=dict)
    """By the database whose role it is: who else may read what of this one, and change nothing. The only way for a
    role to reach another service's database.
    """


@dataclass(frozen=True, slots=True)
class PeriodicTask:
    """A task that runs every `seconds` (every 5 s at least while its service rests) and whenever it is woken, in every
    replica: it claims its rows with SKIP LOCKED.

    It returns whether there is more to do at once.
    """

    name: str
    seconds: float
    run: Callable[[Any], Awaitable[bool]]
    linger: float = 0.0
    """Least seconds from the start of a run to that of the next while there is more to do: under load each run does
    more instead of there being more of them. Who is woken while idle never waits for it.
    """


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """What a rebuild of a read model found: `is_identical` says whether the rebuilt rows equal the live ones to the
    byte.
    """

    events: int
    rows: int
    is_identical: bool


Projection = Callable[[UnitOfWork, list[Delivery[Any]]], Awaitable[object]]
"""Writes what a batch of events says: the same rows in whatever order and however often they come."""


@dataclass(frozen=True, slots=True)
class ReadModel:
    """A read model that `caravan/rebuild.py` makes anew from topics, which have to be KEPT. `tables` stand in the order
    in which their writers lock them. `empty_rows` says for a table which rows mean the same as none, such as a count
    that has gone back to 0.
    """

    group: str
    """The consumer group that writes it: the service's name, or that of one of its `consumer_groups`."""
    tables: tuple[str, ...]
    projections: Mapping[Topic, Projection]
    empty_rows: Mapping[str, str] = field(default_factory=dict)

    @property
    def topics(self) -> list[str]:
        return [topic.name for topic in self.projections]


Rebuild = Callable[[Mapping[str, Database], Callable[[int], None]], Awaitable[RebuildResult]]
"""Builds a read model anew beside the live one while the services run, compares, and replaces it; reports the
number of events read so far.
"""


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    databases: tuple[DatabaseDeclaration, ...] = ()
    routers: tuple[APIRouter, ...] = ()
    consumers: Consumers | None = None
    consumer_groups: tuple[Consumers, ...] = ()
    """Beside `consumers`, each named by itself: what one of them can't handle holds up none of the others."""
    channels: tuple[Channel, ...] = ()
    operations: tuple[BoundOperation, ...] = ()
    callees: tuple[str, ...] = ()
    """Services that it calls beside those whose `client` it imports: what runs in a cluster may reach no others."""
    caches: tuple[Cache, ...] = ()
    settings: type[BaseSettings] | None = None
    websocket_path: str = ""
    """Where clients may ask for a WebSocket, at the port that they reach."""
    periodic_tasks: tuple[PeriodicTask, ...] = ()
    jobs: Jobs | None = None
    projections: "Mapping[str, Rebuild | ReadModel]" = field(default_factory=dict)
    timeline: Describe | None = None
    """What the service's tables tell of one key, for its timeline."""
    open_resources: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None
    prepare: Callable[[Any], Awaitable[object]] | None = None
    """What has to be done once before anybody is answered, when all services of the process are there."""
    dead_letter_sources: "tuple[Callable[[Any], DeadLetterSource], ...]" = ()
    """Sources of dead letters that only this service has, built from its context."""
    build_app: Callable[[Any], Any] | None = None
    """Builds the service's ASGI application from its context where routers are not enough (the gateway)."""
