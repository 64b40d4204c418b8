"""A running issuer outside the shop (`tests/support/openid_provider.py`, a process of its own), and an identity that is
set to accept it.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import orjson
import pytest

from caravan.runtime import Backends
from tests.services.identity.conftest import CHEAP, IdentityClient
from tests.support.openid_provider import AUDIENCE, CLIENT_ID, CLIENT_SECRET
from tests.support.shop import run_services, wait_until

ROLES = {"shop-admins": "admin", "shop-staff": "staff"}


@dataclass
class OutsideIssuer:
    url: str
    process: asyncio.subprocess.Process
    http: httpx2.AsyncClient

    async def steer(self, action: str, **body: Any) -> Any:
        return (await self.http.post(f"{self.url}/test/{action}", json=body)).raise_for_status().json()

    async def sign(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """An access token of the issuer: right in every claim that isn't named; None leaves one out."""
        return str((await self.steer("sign", header=header or {}, claims=claims))["token"])

    async def restore(self) -> None:
        await self.steer("set", faults={}, metadata={}, published=[], id_token={})

    async def stop(self) -> None:
        self.process.kill()
        await self.process.wait()


async def start_process(port: int = 0) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.openid_provider", str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 30)
    return process, f"http://127.0.0.1:{int(line)}"


@asynccontextmanager
async def run_issuer() -> AsyncIterator[OutsideIssuer]:
    process, url = await start_process()
    async with httpx2.AsyncClient(timeout=20) as http:
        issuer = OutsideIssuer(url, process, http)
        try:
            yield issuer
        finally:
            if issuer.process.returncode is None:
                await issuer.stop()


@asynccontextmanager
async def run_identity(
    backends: Backends, issuer_url: str, *others: str, **settings: str
) -> AsyncIterator[IdentityClient]:
    """Identity that accepts the issuer. `settings`: further ones, such as `IDENTITY_OIDC_LINK_BY_EMAIL="true"`."""
    patch = pytest.MonkeyPatch()
    given = {
        "IDENTITY_OIDC_ISSUER": issuer_url,
        "IDENTITY_OIDC_AUDIENCE": AUDIENCE,
        "IDENTITY_OIDC_CLIENT_ID": CLIENT_ID,
        "IDENTITY_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "IDENTITY_OIDC_ROLES": orjson.dumps(ROLES).decode(),
        "IDENTITY_OIDC_ALGORITHMS": '["RS256", "ES256", "EdDSA"]',
        **settings,
    }
    for name, value in (CHEAP | given).items():
        patch.setitem(os.environ, name, value)
    try:
        async with run_services(backends, "identity", *others) as shop:
            # Whoever asks before they are there, for a token of the shop's own, would see an issuer without keys.
            await shop.get_context("identity").resources.provider.refresh_keys()
            yield IdentityClient(shop, shop.client)
    finally:
        patch.undo()


def person(**claims: Any) -> dict[str, Any]:
    name = uuid4().hex
    return {"sub": f"corp|{name}", "email": f"{name}@corp.test", "email_verified": True, "name": "Una Corp", **claims}


async def who(identity: IdentityClient, token: str) -> dict[str, Any]:
    answer = await identity.me(token)
    assert answer.status_code == 200, answer.text
    user: dict[str, Any] = answer.json()
    return user


async def audited(identity: IdentityClient, user: object, action: str, count: int = 1) -> list[dict[str, Any]]:
    """What the audit log says of a user when it has come there."""

    async def found() -> list[dict[str, Any]]:
        entries = await identity.audited(user, action)
        assert len(entries) == count
        return entries

    return await wait_until(found)


async def refused(identity: IdentityClient, token: str, reason: str = "") -> None:
    answer = await identity.me(token)
    assert answer.status_code == 401, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert reason in answer.json()["detail"], answer.text
