"""Runs real services in the test's process on the embedded backends: `async with run_services(backends,
"catalog", "inventory") as shop: ...`.
"""

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
from caravan.refusals import Refusal
from caravan.runtime import Backends, Process, run_migrations
from caravan.service import Service, ServiceContext
from caravan.settings import Settings
from services.identity.client import (
    ACCEPT_TOKEN,
    GET_CUSTOMER_STATUS,
    GET_KEY_SET,
    GET_SESSION_STATE,
    RECORD_ADMIN_ACTION,
    RECORD_DISCLOSURE,
    RECORD_REFUSALS,
    AdminAction,
    AuditReceipt,
    CustomerStatus,
    Disclosure,
    KeySet,
    Refusals,
    SessionState,
)
from services.registry import load_services
from tests.support.database_templates import create_databases

T = TypeVar("T")

URL = "http://shop.test"


async def wait_until(condition: Callable[[], Awaitable[T | None]], *, seconds: float = 30.0, every: float = 0.02) -> T:
    """Wait for a condition with a deadline; its first truthy answer. It may raise AssertionError until it holds.

    The deadline ends what would never hold: how soon something must hold is the test's own claim, with its own number.
    """
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        try:
            result = await condition()
            if result:
                return result
            last = result
        except AssertionError as error:
            last = error
        await asyncio.sleep(every)
    raise AssertionError(f"not within {seconds} s; last seen: {last!r}")


@dataclass
class Issuer:
    """Stands in for identity where a test doesn't run it: issues tokens, and knows the users that it issued tokens
    for.
    """

    key: OKPKey = field(
        default_factory=lambda: OKPKey.generate_key("Ed25519", {"kid": "test", "use": "sig", "alg": "EdDSA"})
    )
    users: dict[UUID, CustomerStatus] = field(default_factory=dict)
    admin_actions: list[AdminAction] = field(default_factory=list)
    """What admins did at the gateway."""
    disclosures: list[str] = field(default_factory=list)
    """Whose personal data staff asked to see."""
    refusals: list[Refusal] = field(default_factory=list)

    def build_service(self) -> Service:
        async def get_keys(_: Any, __: Any) -> KeySet:
            return KeySet(issuer=URL, keys=[dict(self.key.as_dict(private=False))])

        async def get_customer_status(_: Any, request: Any) -> CustomerStatus:
            status = self.users.get(request.user_id)
            return status or CustomerStatus(
                user_id=request.user_id,
                email=f"{request.user_id}@example.com",
                name="Test Person",
                role="customer",
                active=True,
            )

        async def get_session(_: Any, __: Any) -> SessionState:
            return SessionState(active=True)

        async def record_admin_action(_: Any, action: AdminAction) -> AuditReceipt:
            self.admin_actions.append(action)
            return AuditReceipt()

        async def record_disclosure(_: Any, disclosure: Disclosure) -> AuditReceipt:
            self.disclosures.append(disclosure.subject)
            return AuditReceipt()

        async def record_refusals(_: Any, refusals: Refusals) -> AuditReceipt:
            self.refusals += refusals.items
            return AuditReceipt()

        operations = (
            GET_KEY_SET.bind(get_keys),
            GET_CUSTOMER_STATUS.bind(get_customer_status),
            GET_SESSION_STATE.bind(get_session),
            RECORD_ADMIN_ACTION.bind(record_admin_action),
            RECORD_DISCLOSURE.bind(record_disclosure),
            RECORD_REFUSALS.bind(record_refusals),
        )
        return Service("identity", operations=operations)

    def issue_token(self, role: str = "customer", user_id: UUID | None = None, **claims: Any) -> str:
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

    def get_context(self, service: str) -> ServiceContext[Any, Any]:
        return self.process.contexts[service]

    def get_database(self, service: str) -> Database:
        return self.process.contexts[service].database

    def issue_headers(self, role: str = "customer", user_id: UUID | None = None) -> dict[str, str]:
        """The Authorization header of a user; only where identity is not among the running services."""
        return {"authorization": f"Bearer {self.issuer.issue_token(role, user_id)}"}

    async def send_message(
        self, service: str, channel: Channel, message: Message, *, key: object, message_id: UUID | None = None
    ) -> None:
        """Publish a message through a running service's outbox, as any service would."""
        async with self.get_database(service).unit_of_work() as uow:
            uow.emit(channel, message, key=str(key), message_id=message_id)

    async def read_topic(self, channel: str, key: object) -> list[dict[str, Any]]:
        """The envelopes on a topic for a key, in order."""
        import orjson

        rows = await self.embedded_bus.database.fetch(
            "SELECT body FROM topic_log WHERE topic = $1 AND key = $2 ORDER BY position", channel, str(key)
        )
        return [orjson.loads(row[0]) for row in rows]

    async def read_queue(self, queue: str, key: object) -> list[dict[str, Any]]:
        """The envelopes waiting in a queue for a key: what was sent to a service that doesn't run here."""
        import orjson

        rows = await self.embedded_bus.database.fetch(
            "SELECT body FROM delivery WHERE subscription = $1 AND key = $2 ORDER BY id", queue, str(key)
        )
        return [orjson.loads(row[0]) for row in rows]


@asynccontextmanager
async def run_services(
    backends: Backends,
    *names: str,
    extra_services: tuple[Service, ...] = (),
    clock: Clock = utc_now,
    settings: Settings | None = None,
    **settings_fields: Any,
) -> AsyncIterator[Shop]:
    """The named services (with a stand-in for identity unless it is named) in this process. Their databases are shared
    by the tests of a run: use new ids.

    `settings_fields`: fields of the kernel's settings, such as `data=tmp_path`.
    """
    issuer = Issuer()
    services = [*load_services(names), *extra_services]
    if "identity" not in names:
        services.append(issuer.build_service())
    await create_databases(services, backends)
    await run_migrations(services, backends)
    kernel_settings = settings or Settings(drain_seconds=2, **settings_fields)
    async with Process(services, kernel_settings, backends, GET_KEY_SET, ACCEPT_TOKEN, URL, clock) as process:
        transport = httpx2.ASGITransport(app=process.app)
        async with httpx2.AsyncClient(transport=transport, base_url=URL, timeout=20) as client:
            yield Shop(process, client, issuer)
