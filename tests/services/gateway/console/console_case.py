"""A browser of the console, as far as HTTP goes: sessions, forms and their tokens."""

import re
import time
from dataclasses import dataclass
from uuid import UUID

import httpx2

from caravan.auth import Role
from services.gateway.console.session import SESSION_COOKIE, Session, SessionSeal, create_session
from services.gateway.console.setup import Console
from tests.support.shop import URL, Shop


@dataclass
class ConsoleCase:
    shop: Shop

    @property
    def console(self) -> Console:
        console: Console = self.shop.process.app.peers["gateway"].fastapi.state.console  # type: ignore[attr-defined]
        return console

    @property
    def seal(self) -> SessionSeal:
        return self.console.seal

    def create_session(self, role: Role, user_id: UUID | None = None, seconds: float = 600.0) -> Session:
        """Of somebody who has signed in."""
        token = self.shop.issuer.issue_token(role, user_id)
        return create_session(token, "a refresh token", time.time() + seconds, role, "Ada Lovelace")

    async def get(self, session: Session | None, path: str, **headers: str) -> httpx2.Response:
        return await self.shop.client.get(path, headers={**self._build_headers(session), **headers})

    async def post(
        self,
        session: Session | None,
        path: str,
        form: dict[str, str] | None = None,
        *,
        origin: str = URL,
        site: str = "same-origin",
    ) -> httpx2.Response:
        """As a form of a page of this session sends it."""
        token = {"form_token": self.seal.derive_form_token(session)} if session else {}
        sent = {"origin": origin, "sec-fetch-site": site, **self._build_headers(session)}
        return await self.shop.client.post(path, data={**token, **(form or {})}, headers=sent)

    def _build_headers(self, session: Session | None) -> dict[str, str]:
        return {"cookie": f"{SESSION_COOKIE}={self.seal.seal_session(session)}"} if session else {}


def read_cookie(response: httpx2.Response, name: str) -> str:
    """What a response sets; empty when it deletes it, or says nothing of it."""
    for header in response.headers.get_list("set-cookie"):
        if found := re.match(rf'{name}="?([^";]*)"?;', header):
            return found[1]
    return ""
