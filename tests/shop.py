"""Runs real services in the test's process on the embedded backends: `async with running(backends, "catalog", "inventory") as shop: ...`."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import httpx2
from joserfc import jwt
from joserfc.jwk import OKPKey

from caravan.bus.embedded import EmbeddedBus
from caravan.clock import Clock, new_id, utc_now
from caravan.database import Database
from caravan.messages import Channel, Message
from caravan.runtime import Backends, Process, migrate
from caravan.service import Context, Service
from caravan.settings import Settings
from services.__main__ import load
from services.identity.client import (
    KEYS,
    RECORD_ADMIN_ACTION,
    RECORD_REFUSALS,
    SESSION,
    STANDING,
    AdminAction,
    AuditRecorded,
    KeySet,
    Refusal,
    Refusals,
    SessionState,
    Standing,
)

T = TypeVar("T")

URL = "http://shop.test"


async def until(check: Callable[[], Awaitable[T]], *, seconds: float = 10.0, every: float = 0.02) -> T:
    """Wait for a condition with a deadline: the first truthy answer of `check`. A check may raise AssertionError until it holds."""
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        try:
            found = await check()
            if found:
                return found
            last = found
        except AssertionError as error:
            last = error
        await asyncio.sleep(every)
    raise AssertionError(f"not within {seconds} s; last seen: {last!r}")


@dataclass
class Issuer:
    """Stands in for identity where a test doesn't run it: issues tokens, and knows the users that it issued tokens for."""

    key: OKPKey = field(default_factory=lambda: OKPKey.generate_key("Ed25519", {"kid": "test", "use": "sig", "alg": "EdDSA"}))
    users: dict[UUID, Standing] = field(default_factory=dict)
    admin_actions: list[AdminAction] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    """What admins did at the gateway."""

    def service(self) -> Service:
        async def keys(_: Any, __: Any) -> KeySet:
            return KeySet(issuer=URL, keys=[dict(self.key.as_dict(private=False))])

        async def standing(_: Any, request: Any) -> Standing:
            known = self.users.get(request.user_id)
            return known or Standing(
                user_id=request.user_id, email=f"{request.user_id}@example.com", name="Test Person", role="customer", active=True
            )

        async def session(_: Any, __: Any) -> SessionState:
            return SessionState(active=True)

        async def record_admin_action(_: Any, action: AdminAction) -> AuditRecorded:
            self.admin_actions.append(action)
            return AuditRecorded()

        async def record_refusals(_: Any, refusals: Refusals) -> AuditRecorded:
            self.refusals += refusals.items
            return AuditRecorded()

        operations: dict[Any, Any] = {KEYS: keys, STANDING: standing, SESSION: session, RECORD_ADMIN_ACTION: record_admin_action}
        return Service("identity", operations={**operations, RECORD_REFUSALS: record_refusals})

    def token(self, role: str = "customer", user_id: UUID | None = None, **claims: Any) -> str:
        now = int(time.time())
        body = {
            "iss": URL,
            "aud": "caravan",
            "sub": str(user_id or new_id()),
            "role": role,
            "typ": "access",
            "sid": "test",
            "iat": now,
            "exp": now + 600,
            **claims,
        }
        return jwt.encode({"alg": "EdDSA", "kid": "test"}, body, self.key, algorithms=["EdDSA"])


@dataclass
class Shop:
    process: Process
    client: httpx2.AsyncClient
    issuer: Issuer

    @property
    def embedded_bus(self) -> EmbeddedBus:
        assert isinstance(self.process.bus, EmbeddedBus)
        return self.process.bus

    def context(self, service: str) -> Context[Any, Any]:
        return self.process.contexts[service]

    def database(self, service: str) -> Database:
        return self.process.contexts[service].database

    def bearer(self, role: str = "customer", user_id: UUID | None = None) -> dict[str, str]:
        """The Authorization header of a user; only where identity is not among the running services."""
        return {"authorization": f"Bearer {self.issuer.token(role, user_id)}"}

    async def send(self, service: str, channel: Channel, message: Message, *, key: object, identifier: UUID | None = None) -> None:
        """Publish a message through a running service's outbox, as any service would."""
        async with self.database(service).work() as work:
            work.emit(channel, message, key=str(key), identifier=identifier)

    async def published(self, channel: str, key: object) -> list[dict[str, Any]]:
        """The envelopes on a topic for a key, in order."""
        import orjson

        rows = await self.embedded_bus.database.fetch(
            "SELECT body FROM topic_log WHERE topic = $1 AND key = $2 ORDER BY position", channel, str(key)
        )
        return [orjson.loads(row[0]) for row in rows]

    async def queued(self, queue: str, key: object) -> list[dict[str, Any]]:
        """The envelopes waiting in a queue for a key: what was sent to a service that doesn't run here."""
        import orjson

        rows = await self.embedded_bus.database.fetch(
            "SELECT body FROM delivery WHERE subscription = $1 AND key = $2 ORDER BY id", queue, str(key)
        )
        return [orjson.loads(row[0]) for row in rows]


@asynccontextmanager
async def running(
    backends: Backends,
    *names: str,
    extra: tuple[Service, ...] = (),
    clock: Clock = utc_now,
    settings: Settings | None = None,
    **overrides: Any,
) -> AsyncIterator[Shop]:
    """The named services (with a stand-in for identity unless it is named) in this process. Their databases are shared by the tests of a run: use new ids.

    `overrides`: fields of the kernel's settings, such as `data=tmp_path`.
    """
    issuer = Issuer()
    services = [*load(names), *extra]
    if "identity" not in names:
        services.append(issuer.service())
    await migrate(services, backends)
    kernel = settings or Settings(drain_seconds=2, **overrides)
    async with Process(services, kernel, backends, KEYS, URL, clock) as process:
        transport = httpx2.ASGITransport(app=process.app)
        async with httpx2.AsyncClient(transport=transport, base_url=URL, timeout=20) as client:
            yield Shop(process, client, issuer)
