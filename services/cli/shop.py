"""The shop as its operator sees it from outside: over HTTP, with an operator's token, or in a customer's name."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
import uvloop

from caravan import telemetry
from caravan.derivation import derive
from caravan.settings import Settings, check_url
from services.cli.configuration import kernel_settings
from services.cli.options import PATIENCE_SECONDS
from services.cli.terminal import fail, print_note

T = TypeVar("T")
CLIENT = "cli"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
RENEW_SECONDS = 30
ASKING_SECONDS = 10.0
AWAY = frozenset({502, 503, 504})


class Refused(Exception):
    """The shop said no; `status` and the problem document's `detail` say why."""

    def __init__(self, method: str, path: str, response: httpx2.Response) -> None:
        self.status = response.status_code
        try:
            document = response.json()
            self.detail = str(document["detail"])
            rules = "; ".join(f"{error['field']}: {error['rule']}" for error in (document.get("errors") or [])[:3])
            self.detail += f" ({rules})" if rules else ""
            self.slug = str(document.get("type", "")).rpartition("/")[2]
        except (ValueError, KeyError, TypeError):
            self.detail, self.slug = response.text[:200], ""
        super().__init__(f"{method} {path}: {self.status} {self.detail}")


class Away(Exception):
    """The shop did not answer for as long as we were willing to wait."""


@dataclass(slots=True)
class _Token:
    value: str
    until: float


@dataclass
class Shop:
    """A caller that is patient: it waits out a busy or absent shop, and renews its tokens. Everything it sends may be sent twice."""

    http: httpx2.AsyncClient
    secret: str
    tell: Callable[[str], None]
    patience: float = PATIENCE_SECONDS
    _tokens: dict[str, _Token] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _told: bool = False

    async def get(self, path: str, **params: str | int) -> Any:
        """As the operator."""
        return (await self.call("GET", path, params=params)).json()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        key: str | None = None,
        customer: str | None = "",
    ) -> httpx2.Response:
        """As the operator, in the name of a customer (e-mail), or as nobody (None). Raises Refused for a 4xx, Away when patience has run out."""
        headers = {"Idempotency-Key": key} if key else {}
        response = await self._patiently(method, path, headers=headers, json=body, params=params, customer=customer)
        if response.status_code >= 400:
            raise Refused(method, path, response)
        return response

    async def _patiently(self, method: str, path: str, *, headers: dict[str, str], customer: str | None, **content: Any) -> httpx2.Response:
        """One answer that is neither "later" nor "who are you". `customer` None: without a token."""
        away_since: float | None = None
        renewed = False
        for attempt in range(10_000):
            used: str | None = None
            try:
                if customer is not None:
                    used = await self.token_of(customer)
                    headers = {**headers, "authorization": f"Bearer {used}"}
                response = await self.http.request(
                    method, path, headers=headers, **{name: value for name, value in content.items() if value is not None}
                )
            except httpx2.TransportError as error:
                away_since = away_since or time.monotonic()
                await self._wait_for_it(away_since, attempt, f"can't be reached ({type(error).__name__})")
                continue
            if response.status_code == 401 and used and not renewed:
                renewed = True
                self._forget(customer or "", used)
                continue
            if not _later(response):
                self._answered()
                return response
            if response.status_code in AWAY:
                away_since = away_since or time.monotonic()
                await self._wait_for_it(away_since, attempt, f"is not ready ({response.status_code})")
            else:
                away_since = None
                await _pause(attempt, response.headers.get("retry-after"))
        raise Away(f"{method} {path} was put off again and again")

    async def _wait_for_it(self, since: float, attempt: int, reason: str) -> None:
        waited = time.monotonic() - since
        if waited > self.patience:
            raise Away(
                f"the shop at {self.http.base_url} {reason}, for {waited:.0f} s now; start it and run this again: nothing is done twice"
            )
        if waited > 1 and not self._told:
            self._told = True
            self.tell(f"the shop {reason}; waiting up to {self.patience:.0f} s for it")
        await _pause(attempt, None)

    def _answered(self) -> None:
        if self._told:
            self._told = False
            self.tell("the shop answers again")

    async def token_of(self, customer: str) -> str:
        """An access token in the name of a customer (e-mail), or the operator's own for an empty name."""
        async with self._locks.setdefault(customer, asyncio.Lock()):
            held = self._tokens.get(customer)
            if held is None or held.until < time.monotonic():
                held = self._tokens[customer] = await self._fetch_token(customer)
            return held.value

    def _forget(self, customer: str, used: str) -> None:
        """A token that was refused; an exchanged one may have suffered from the operator's."""
        for name in {customer, ""}:
            held = self._tokens.get(name)
            if held is not None and (held.value == used or name != customer):
                del self._tokens[name]

    async def sign_in(self, email: str, password: str) -> None:
        """From here on calls for this customer carry a token of their own."""
        form = {"grant_type": "password", "username": email, "password": password}
        response = await self._patiently("POST", "/v1/auth/token", headers={}, customer=None, data=form)
        self._tokens[email] = _issued(response)

    async def _fetch_token(self, customer: str) -> _Token:
        """An exchange shows the operator's token as well to the gateway, which counts it for the operator, not for the address."""
        form = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": derive(self.secret, f"client:{CLIENT}")}
        headers: dict[str, str] = {}
        if customer:
            own = await self.token_of("")
            form = {"grant_type": EXCHANGE, "subject_token": own, "subject_token_type": ACCESS_TOKEN, "requested_subject": customer}
            headers["authorization"] = f"Bearer {own}"
        return _issued(await self._patiently("POST", "/v1/auth/token", headers=headers, customer=None, data=form))


def _issued(response: httpx2.Response) -> _Token:
    if response.status_code != 200:
        raise Refused("POST", "/v1/auth/token", response)
    answer = response.json()
    return _Token(answer["access_token"], time.monotonic() + max(1.0, answer["expires_in"] - RENEW_SECONDS))


async def _pause(attempt: int, retry_after: str | None) -> None:
    seconds = min(float(retry_after), 60.0) if retry_after and retry_after.isdigit() else min(2.0, 0.05 * 2 ** min(attempt, 6))
    await asyncio.sleep(seconds * random.uniform(1.0, 1.2))


def _later(response: httpx2.Response) -> bool:
    """Busy, away, or this very request is still in flight."""
    return (
        response.status_code in AWAY or response.status_code == 429 or (response.status_code == 409 and "retry-after" in response.headers)
    )


def operator_secret(kernel: Settings) -> str:
    """The secret of the running shop; never made here."""
    if kernel.secret:
        return kernel.secret.get_secret_value()
    path = kernel.data / "secret"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        fail(
            f"{path} does not exist: start the shop first (`caravan up`), or set CARAVAN_DATA to its data folder, or CARAVAN_SECRET to its secret"
        )
    except PermissionError:
        fail(f"{path} is not yours to read: run this as user {path.stat().st_uid}, who started the shop (you are {os.geteuid()})")


def address_of(kernel: Settings) -> str:
    """Where the gateway of this machine listens."""
    host = "127.0.0.1" if kernel.host in ("0.0.0.0", "::") else kernel.host  # noqa: S104 - where it listens, not where we do
    return f"http://{host}:{kernel.port}"


def gateway_url(url: str | None) -> str:
    """The gateway that `--url` names, or that of this machine. One that can't be a gateway's ends the command: nothing is gained by waiting for it."""
    if url is None:
        return address_of(kernel_settings())
    try:
        check_url(url, ("http", "https"))
    except ValueError as error:
        fail(f"--url {url}: {error}")
    return url


def segment(text: str) -> str:
    """Foreign text as one part of a path, which it can't leave."""
    return quote(text, safe="") if text.strip(".") else "%2E" * len(text)


@asynccontextmanager
async def open_shop(url: str | None, tell: Callable[[str], None], *, connections: int, patience: float) -> AsyncIterator[Shop]:
    """The shop at `url`, by default the one on CARAVAN_PORT of this machine."""
    base = gateway_url(url)
    secret = operator_secret(kernel_settings())
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx2.AsyncClient(base_url=base, timeout=30, limits=limits) as http:
        yield Shop(http, secret, tell, patience)


def ask_shop(url: str | None, ask: Callable[[Shop], Awaitable[T]]) -> T:
    """The answer to an operator who waits for it at a terminal; a refusal or an absent shop ends the command."""
    telemetry.configure_logs("warning", "text")

    async def asked() -> T:
        async with open_shop(url, print_note, connections=2, patience=ASKING_SECONDS) as shop:
            return await ask(shop)

    try:
        return uvloop.run(asked())
    except (Refused, Away) as error:
        fail(str(error))
