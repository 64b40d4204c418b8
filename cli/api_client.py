"""The HTTP client of the commands: it calls the gateway with an operator's token, or in a customer's name."""

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
from caravan.backoff import compute_exponential_backoff
from caravan.derivation import derive_secret
from caravan.environment import check_url
from caravan.http_client import HttpClient
from caravan.settings import Settings
from cli.configuration import load_kernel_settings
from cli.options import MAX_WAIT_SECONDS
from cli.terminal import exit_with_error, print_note

T = TypeVar("T")
CLIENT_ID = "cli"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
RENEW_SECONDS = 30
COMMAND_WAIT_SECONDS = 10.0
UNAVAILABLE_STATUSES = frozenset({502, 503, 504})


class ApiError(Exception):
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


class ApiUnavailable(Exception):
    """The shop did not answer for as long as we were willing to wait."""


@dataclass(slots=True)
class _Token:
    value: str
    expires_at: float


@dataclass
class ApiClient:
    """A caller that is patient: it waits out a busy or absent shop, and renews its tokens. Everything it sends may be
    sent twice.
    """

    http: httpx2.AsyncClient
    secret: str
    report: Callable[[str], None]
    max_wait_seconds: float = MAX_WAIT_SECONDS
    _tokens: dict[str, _Token] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _has_reported: bool = False

    async def fetch_json(self, path: str, **params: str | int) -> Any:
        """As the operator."""
        return (await self.send_request("GET", path, params=params)).json()

    async def send_request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        key: str | None = None,
        customer: str | None = "",
    ) -> httpx2.Response:
        """As the operator, in the name of a customer (e-mail), or as nobody (None). Raises ApiError for a 4xx,
        ApiUnavailable when the maximum wait is over.
        """
        headers = {"Idempotency-Key": key} if key else {}
        response = await self._send_until_answered(
            method, path, headers=headers, json=body, params=params, customer=customer
        )
        if response.status_code >= 400:
            raise ApiError(method, path, response)
        return response

    async def _send_until_answered(
        self, method: str, path: str, *, headers: dict[str, str], customer: str | None, **content: Any
    ) -> httpx2.Response:
        """One answer that is neither "later" nor "who are you". `customer` None: without a token."""
        unavailable_since: float | None = None
        is_renewed = False
        for attempt in range(10_000):
            used_token: str | None = None
            try:
                if customer is not None:
                    used_token = await self.get_token(customer)
                    headers = {**headers, "authorization": f"Bearer {used_token}"}
                response = await self.http.request(
                    method,
                    path,
                    headers=headers,
                    **{name: value for name, value in content.items() if value is not None},
                )
            except httpx2.TransportError as error:
                unavailable_since = unavailable_since or time.monotonic()
                await self._wait_for_shop(unavailable_since, attempt, f"can't be reached ({type(error).__name__})")
                continue
            if response.status_code == 401 and used_token and not is_renewed:
                is_renewed = True
                self._discard_token(customer or "", used_token)
                continue
            if not _is_temporary(response):
                self._report_recovery()
                return response
            if response.status_code in UNAVAILABLE_STATUSES:
                unavailable_since = unavailable_since or time.monotonic()
                await self._wait_for_shop(unavailable_since, attempt, f"is not ready ({response.status_code})")
            else:
                unavailable_since = None
                await _sleep_before_retry(attempt, response.headers.get("retry-after"))
        raise ApiUnavailable(f"{method} {path} was put off again and again")

    async def _wait_for_shop(self, since: float, attempt: int, reason: str) -> None:
        seconds_waited = time.monotonic() - since
        if seconds_waited > self.max_wait_seconds:
            raise ApiUnavailable(
                f"the shop at {self.http.base_url} {reason}, for {seconds_waited:.0f} s now; start it and run this "
                "again: nothing is done twice"
            )
        if seconds_waited > 1 and not self._has_reported:
            self._has_reported = True
            self.report(f"the shop {reason}; waiting up to {self.max_wait_seconds:.0f} s for it")
        await _sleep_before_retry(attempt, None)

    def _report_recovery(self) -> None:
        if self._has_reported:
            self._has_reported = False
            self.report("the shop answers again")

    async def get_token(self, customer: str) -> str:
        """An access token in the name of a customer (e-mail), or the operator's own for an empty name."""
        async with self._locks.setdefault(customer, asyncio.Lock()):
            token = self._tokens.get(customer)
            if token is None or token.expires_at < time.monotonic():
                token = self._tokens[customer] = await self._fetch_token(customer)
            return token.value

    def _discard_token(self, customer: str, used_token: str) -> None:
        """A token that was refused; an exchanged one may have suffered from the operator's."""
        for name in {customer, ""}:
            token = self._tokens.get(name)
            if token is not None and (token.value == used_token or name != customer):
                del self._tokens[name]

    async def sign_in(self, email: str, password: str) -> None:
        """From here on calls for this customer carry a token of their own."""
        form = {"grant_type": "password", "username": email, "password": password}
        response = await self._send_until_answered("POST", "/v1/auth/token", headers={}, customer=None, data=form)
        self._tokens[email] = _parse_token(response)

    async def _fetch_token(self, customer: str) -> _Token:
        """An exchange shows the operator's token as well to the gateway, which counts it for the operator, not for the
        address.
        """
        form = {
            "grant_type": "client_credentials",
            "client_id": CLIENT_ID,
            "client_secret": derive_secret(self.secret, f"client:{CLIENT_ID}"),
        }
        headers: dict[str, str] = {}
        if customer:
            operator_token = await self.get_token("")
            form = {
                "grant_type": TOKEN_EXCHANGE,
                "subject_token": operator_token,
                "subject_token_type": ACCESS_TOKEN_TYPE,
                "requested_subject": customer,
            }
            headers["authorization"] = f"Bearer {operator_token}"
        return _parse_token(
            await self._send_until_answered("POST", "/v1/auth/token", headers=headers, customer=None, data=form)
        )


def _parse_token(response: httpx2.Response) -> _Token:
    if response.status_code != 200:
        raise ApiError("POST", "/v1/auth/token", response)
    document = response.json()
    return _Token(document["access_token"], time.monotonic() + max(1.0, document["expires_in"] - RENEW_SECONDS))


async def _sleep_before_retry(attempt: int, retry_after: str | None) -> None:
    seconds = (
        min(float(retry_after), 60.0)
        if retry_after and retry_after.isdigit()
        else compute_exponential_backoff(attempt, 0.05, 2.0)
    )
    await asyncio.sleep(seconds * random.uniform(1.0, 1.2))


def _is_temporary(response: httpx2.Response) -> bool:
    """Busy, unavailable, or this very request is still in flight."""
    return (
        response.status_code in UNAVAILABLE_STATUSES
        or response.status_code == 429
        or (response.status_code == 409 and "retry-after" in response.headers)
    )


def read_operator_secret(kernel_settings: Settings) -> str:
    """The secret of the running shop; never made here."""
    if kernel_settings.secret:
        return kernel_settings.secret.get_secret_value()
    path = kernel_settings.data / "secret"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        exit_with_error(
            f"{path} does not exist: start the shop first (`caravan up`), or set CARAVAN_DATA to its data folder, or "
            "CARAVAN_SECRET to its secret"
        )
    except PermissionError:
        exit_with_error(
            f"{path} is not yours to read: run this as user {path.stat().st_uid}, who started the shop (you are "
            f"{os.geteuid()})"
        )


def format_gateway_url(kernel_settings: Settings) -> str:
    """Where the gateway of this machine listens."""
    any_address = ("0.0.0.0", "::")  # noqa: S104 - where it listens, not where we do
    host = "127.0.0.1" if kernel_settings.host in any_address else kernel_settings.host
    return f"http://{host}:{kernel_settings.port}"


def resolve_gateway_url(url: str | None) -> str:
    """The gateway that `--url` names, or that of this machine. One that can't be a gateway's ends the command: nothing
    is gained by waiting for it.
    """
    if url is None:
        return format_gateway_url(load_kernel_settings())
    try:
        check_url(url, ("http", "https"))
    except ValueError as error:
        exit_with_error(f"--url {url}: {error}")
    return url


def encode_segment(text: str) -> str:
    """Foreign text as one part of a path, which it can't leave."""
    return quote(text, safe="") if text.strip(".") else "%2E" * len(text)


@asynccontextmanager
async def open_client(
    url: str | None, report: Callable[[str], None], *, connections: int, max_wait_seconds: float
) -> AsyncIterator[ApiClient]:
    """The shop at `url`, by default the one on CARAVAN_PORT of this machine."""
    base = resolve_gateway_url(url)
    secret = read_operator_secret(load_kernel_settings())
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with HttpClient(base_url=base, timeout=30, limits=limits) as http:
        yield ApiClient(http, secret, report, max_wait_seconds)


def run_with_client(url: str | None, action: Callable[[ApiClient], Awaitable[T]]) -> T:
    """The answer to an operator who waits for it at a terminal; a refusal or an absent shop ends the command."""
    telemetry.configure_logs("warning", "text")

    async def run_action() -> T:
        async with open_client(url, print_note, connections=2, max_wait_seconds=COMMAND_WAIT_SECONDS) as client:
            return await action(client)

    try:
        return uvloop.run(run_action())
    except (ApiError, ApiUnavailable) as error:
        exit_with_error(str(error))
