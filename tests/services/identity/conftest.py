"""One running identity for these tests, with a cheap argon2, and people to act in them."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest

from caravan.derivation import derive_secret
from caravan.runtime import Backends
from tests.support.shop import URL, Shop, run_services

if TYPE_CHECKING:
    from tests.services.identity.outside_issuer import OutsideIssuer

CHEAP = {"IDENTITY_ARGON2_PASSES": "1", "IDENTITY_ARGON2_MEMORY_KIB": "64"}
PASSWORD = "a long walk in Palmyra"


@dataclass
class Person:
    id: UUID
    email: str
    access: str = ""
    refresh: str = ""

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.access}"}


@dataclass
class IdentityClient:
    """Identity as its clients see it, from one address."""

    shop: Shop
    client: httpx2.AsyncClient
    transport: httpx2.ASGITransport | None = None

    async def register(self, email: str | None = None, **headers: str) -> httpx2.Response:
        body = {"email": email or f"{uuid4().hex}@example.com", "password": PASSWORD, "name": "Zenobia"}
        return await self.client.post("/v1/users", json=body, headers=headers)

    async def token(self, grant: str, **fields: Any) -> httpx2.Response:
        return await self.client.post("/v1/auth/token", data={"grant_type": grant, **fields})

    async def login(self, email: str, password: str = PASSWORD) -> httpx2.Response:
        return await self.token("password", username=email, password=password)

    async def refresh(self, token: str) -> httpx2.Response:
        return await self.token("refresh_token", refresh_token=token)

    async def person(self, role: str | None = None) -> Person:
        """Somebody who has registered and signed in."""
        made = (await self.register()).raise_for_status().json()
        if role:
            (
                await self.client.patch(f"/v1/users/{made['id']}", json={"role": role}, headers=await self.operator())
            ).raise_for_status()
        return await self.sign_in(Person(UUID(made["id"]), made["email"]))

    async def sign_in(self, person: Person) -> Person:
        tokens = (await self.login(person.email)).raise_for_status().json()
        return Person(person.id, person.email, tokens["access_token"], tokens["refresh_token"])

    async def operator(self) -> dict[str, str]:
        secret = derive_secret(self.shop.get_context("identity").secret, "client:cli")
        tokens = (
            (await self.token("client_credentials", client_id="cli", client_secret=secret)).raise_for_status().json()
        )
        return {"authorization": f"Bearer {tokens['access_token']}"}

    async def me(self, access: str) -> httpx2.Response:
        return await self.client.get("/v1/users/me", headers={"authorization": f"Bearer {access}"})

    async def mails(self, email: str, kind: str) -> list[dict[str, Any]]:
        """The critical mails to an address that wait to be sent, oldest first."""
        rows = await self.shop.embedded_bus.database.fetch(
            "SELECT body FROM delivery WHERE subscription = 'notifications.critical' ORDER BY id"
        )
        sent = [orjson.loads(row[0])["data"] for row in rows]
        return [mail for mail in sent if mail["email"] == email and mail["kind"] == kind]

    async def audited(self, target: object, action: str) -> list[dict[str, Any]]:
        return [
            e["data"] for e in await self.shop.read_topic("audit", f"user:{target}") if e["data"]["action"] == action
        ]

    def elsewhere(self, address: str) -> "IdentityClient":
        transport = httpx2.ASGITransport(app=self.shop.process.app, client=(address, 4711))
        return IdentityClient(self.shop, httpx2.AsyncClient(transport=transport, base_url=URL, timeout=20), transport)

    def fresh(self) -> httpx2.AsyncClient:
        """Another device at the same address: without cookies."""
        return httpx2.AsyncClient(transport=self.transport, base_url=URL, timeout=20)


def cheap_hashes() -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    for name, value in CHEAP.items():
        patch.setitem(os.environ, name, value)
    return patch


@pytest.fixture(scope="module")
async def identity(backends: Backends) -> AsyncIterator[IdentityClient]:
    patch = cheap_hashes()
    try:
        async with run_services(backends, "identity") as shop:
            yield IdentityClient(shop, shop.client)
    finally:
        patch.undo()


@pytest.fixture(scope="module")
async def issuer() -> "AsyncIterator[OutsideIssuer]":
    """Outside the shop, a process of its own."""
    from tests.services.identity.outside_issuer import run_issuer

    async with run_issuer() as running:
        yield running


@pytest.fixture
async def restored_issuer(issuer: "OutsideIssuer") -> "AsyncIterator[OutsideIssuer]":
    """As it should be when the test has ended, whatever the test had it do."""
    yield issuer
    await issuer.restore()
