"""RabbitMQ's management API over HTTP. Its server is whatever a connection names: it gets the login and nothing else follows from what it says: no redirect,
no unbounded answer, none of its words in a status."""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from caravan_operator.backends.answers import HEADERS, BadAnswer, Budget, number, reason, rows, table
from caravan_operator.backends.broker import BrokerAway, naming, plain
from caravan_operator.reconcile.durations import seconds
from caravan_operator.reconcile.rabbitmq_call import path
from caravan_operator.status.metrics import EXTERNAL
from caravan_operator.status.reasons import Reason
from caravan_operator.status.traces import span

log = logging.getLogger(__name__)
PAGE = 500
MOST_PAGES = 1000
MOST_ROWS = 200_000
_AWAY = frozenset({408, 429, 502, 503, 504})
"""Answers that concern the server; others concern what was asked for."""
_WORDS = {
    400: "it refuses the values",
    401: "its user has no right to this",
    403: "its user has no right to this",
    404: "the virtual host, or an end of the binding, isn't there",
    405: "it can't do this",
    409: "something else holds the object",
    412: "the object is in use, or has other arguments",
}


@dataclass(frozen=True, slots=True)
class RabbitLogin:
    url: str
    username: str
    password: str
    tls: ssl.SSLContext | None


class NotServed(Exception):
    """A refusal that concerns what was asked for, and not the connection. The message is our own words."""


class Management:
    def __init__(self, login: RabbitLogin, spec: Mapping[str, Any]) -> None:
        self._password = login.password
        self._seconds = seconds(spec.get("requestTimeout", "30s"))
        self._session = aiohttp.ClientSession(
            login.url.rstrip("/"),
            headers={**HEADERS, "Authorization": aiohttp.encode_basic_auth(login.username, login.password)},
            connector=aiohttp.TCPConnector(limit=spec.get("maxInFlight", 4), ssl=login.tls or True),
            timeout=aiohttp.ClientTimeout(total=self._seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def close(self) -> None:
        await self._session.close()

    async def get(self, operation: str, url: str, query: Mapping[str, str] | None = None, *, budget: Budget | None = None) -> Any:
        """The answer's value; None where there is nothing (404). Raises BrokerAway and NotServed."""
        return (await self._ask("GET", operation, url, query=query, accept=frozenset({404}), budget=budget))[1]

    async def send(self, method: str, url: str, body: Mapping[str, Any] | None, steps_over: frozenset[int]) -> None:
        """A change. Raises BrokerAway and NotServed."""
        await self._ask(method, method.lower(), url, body, accept=steps_over)

    async def status(self, operation: str, url: str, accept: frozenset[int]) -> int:
        return (await self._ask("GET", operation, url, accept=accept))[0]

    async def listing(self, what: str, vhost: str, keep: Callable[[dict[str, Any]], bool] = lambda _: True) -> list[dict[str, Any]]:
        """Everything of a kind (`queues`, `exchanges`, `bindings`, `policies`) in a virtual host that is to be kept."""
        budget = Budget()
        if what in ("bindings", "policies"):
            answer = await self.get(what, path(what, vhost), budget=budget)
            return [item for item in rows(self._there(answer, vhost), MOST_ROWS) if keep(item)]
        items: list[dict[str, Any]] = []
        page, pages = 1, 1
        while page <= pages:
            found = table(
                self._there(
                    await self.get(what, f"{path(what, vhost)}?page={page}&page_size={PAGE}&disable_stats=true", budget=budget), vhost
                )
            )
            items += filter(keep, rows(found.get("items"), PAGE))
            pages, page = number(found, "page_count"), page + 1
            if pages > MOST_PAGES:
                raise self._bad(f"GET {path(what, vhost)}", BadAnswer(f"the list has more than {MOST_PAGES} pages"))
        return items

    def _there(self, answer: Any, vhost: str) -> Any:
        if answer is None:
            raise NotServed(f"there is no virtual host {vhost}")
        return answer

    async def _ask(
        self,
        method: str,
        operation: str,
        url: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset(),
        budget: Budget | None = None,
    ) -> tuple[int, Any]:
        """Status and answer; of statuses in `accept`, and of changes, no answer. Raises BrokerAway and NotServed."""
        started = time.monotonic()
        what = f"{method} {url.partition('?')[0]}"
        address = URL(url, encoded=True)  # names are quoted already: a slash in one must stay quoted
        try:
            with span(f"rabbitmq {operation}"):
                response = await self._session.request(method, address, json=body, params=query, allow_redirects=False)
            async with response:
                if 200 <= response.status < 300 and method == "GET":
                    return response.status, await (budget or Budget()).json(response)
                words = await reason(response)
        except BadAnswer as error:
            raise self._bad(what, error) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._log(what, str(error) or type(error).__name__)
            raise BrokerAway(Reason.UNREACHABLE, f"{what}: {self._why(error)}") from error
        finally:
            EXTERNAL.labels("rabbitmq", operation).observe(time.monotonic() - started)
        if 200 <= response.status < 300 or response.status in accept:
            return response.status, None
        self._log(what, f"{response.status}: {words}")
        raise await self._refusal(what, response.status, naming(_ours(body), words))

    async def _refusal(self, what: str, status: int, named: str) -> Exception:
        """Whom a refusal concerns. 401 is said of a wrong password and of a virtual host without rights alike: who we are tells which."""
        if 300 <= status < 400:
            return BrokerAway(
                Reason.UNREACHABLE, f"{what}: the server redirects ({status}), which isn't followed: name the API itself in managementUrl"
            )
        if status in (401, 403) and (what == "GET /api/whoami" or await self.status("whoami", "/api/whoami", frozenset({404})) == 404):
            return BrokerAway(Reason.CREDENTIALS_REFUSED, f"the management API refuses the user name or the password ({status})")
        if status in _AWAY:
            return BrokerAway(Reason.UNREACHABLE, f"{what}: the server answers {status}")
        return NotServed(f"the management API answers {status} to {what}: {_WORDS.get(status, 'it failed')}{named}")

    def _bad(self, what: str, error: BadAnswer) -> BrokerAway:
        return BrokerAway(Reason.UNREACHABLE, f"{what}: {error}; is this RabbitMQ's management API?")

    def _log(self, what: str, words: str) -> None:
        """The server's own words go to those who read the operator's log, and not into a status that others read."""
        log.warning("the management API refused or failed", extra={"request": plain(what), "words": plain(words, self._password)})

    def _why(self, error: BaseException) -> str:
        match error:
            case TimeoutError():
                return f"no answer within {self._seconds:.0f} s"
            case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError() | aiohttp.ClientSSLError():
                return "the server's certificate isn't trusted, or it doesn't speak TLS"
            case aiohttp.ClientConnectorDNSError():
                return "its host name isn't known"
            case aiohttp.ClientConnectorError():
                return "no connection"
            case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
                return "the connection was lost"
        return "the answer is no proper HTTP; is this RabbitMQ's management API?"


def _ours(body: Mapping[str, Any] | None) -> list[str]:
    """The fields that we have sent, and theirs."""
    body = body or {}
    return [*body, *(key for part in body.values() if isinstance(part, Mapping) for key in part)]


async def first_of(*work: Any) -> list[Any]:
    """All results; the first failure is raised when none of the others runs any longer."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
