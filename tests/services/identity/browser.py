"""A browser that signs in at an outside issuer: it follows the redirects one by one, with the cookies of one person."""

from dataclasses import dataclass
from typing import Any

import httpx2

from tests.services.identity.conftest import IdentityClient
from tests.services.identity.outside_issuer import OutsideIssuer, person
from tests.support.shop import URL

LOGIN, CALLBACK = "/v1/auth/login", "/v1/auth/callback"


@dataclass
class Browser:
    """Follows the redirects one by one, with the cookies of one person."""

    shop: httpx2.AsyncClient
    issuer: OutsideIssuer

    async def begin(self, return_to: str = "/console?tab=1") -> str:
        """The issuer's page."""
        answer = await self.shop.get(LOGIN, params={"return_to": return_to})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def agree(self, page: str) -> str:
        """The way back, which the issuer's page gives."""
        answer = await self.issuer.http.get(page)
        assert answer.status_code == 302, answer.text
        location = answer.headers["location"]
        assert location.startswith(f"{URL}{CALLBACK}?")
        return location

    async def sign_in(self, **claims: Any) -> httpx2.Response:
        await self.issuer.steer("set", user=person(**claims))
        return await self.shop.get(await self.agree(await self.begin()))


def open_browser(identity: IdentityClient) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=identity.shop.process.app, client=("203.0.113.9", 4711))
    return httpx2.AsyncClient(transport=transport, base_url=URL, timeout=20)


def assert_refused(answer: httpx2.Response, reason: str, status: int = 400) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert reason in answer.text
    assert "caravan-sign-in" not in answer.headers.get("set-cookie", "")
