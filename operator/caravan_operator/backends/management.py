"""RabbitMQ's management API over HTTP.

Its server is whatever a connection names, so it is not trusted: it gets the login and nothing more. Redirects are not
followed, answers are bounded, and none of their text reaches a status.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from caravan_operator.backends.broker import BrokerUnavailable, describe_named_words, sanitize_message
from caravan_operator.backends.http_responses import (
    HEADERS,
    InvalidResponse,
    ReadBudget,
    expect_object,
    expect_objects,
    get_integer,
    read_reason,
)
from caravan_operator.reconcile.durations import parse_seconds
from caravan_operator.reconcile.rabbitmq_call import build_api_path
from caravan_operator.status.metrics import EXTERNAL_CALL_SECONDS
from caravan_operator.status.reasons import Reason
from caravan_operator.status.traces import start_span

log = logging.getLogger(__name__)
PAGE_SIZE = 500
MAX_PAGES = 1000
MAX_OBJECTS = 200_000
_UNAVAILABLE_STATUSES = frozenset({408, 429, 502, 503, 504})
"""Statuses that concern the server; others concern the requested object."""
_STATUS_TEXTS = {
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


class RequestRefused(Exception):
    """A refusal that concerns the requested object, not the connection. The message is our own text."""


class ManagementApi:
    def __init__(self, login: RabbitLogin, spec: Mapping[str, Any]) -> None:
        self._password = login.password
        self._seconds = parse_seconds(spec.get("requestTimeout", "30s"))
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

    async def get(
        self, operation: str, url: str, query: Mapping[str, str] | None = None, *, budget: ReadBudget | None = None
    ) -> Any:
        """The answer's value; None where there is nothing (404). Raises BrokerUnavailable and RequestRefused."""
        return (await self._send_request("GET", operation, url, query=query, accept=frozenset({404}), budget=budget))[1]

    async def send_change(
        self, method: str, url: str, body: Mapping[str, Any] | None, ignored_statuses: frozenset[int]
    ) -> None:
        """A change. Raises BrokerUnavailable and RequestRefused."""
        await self._send_request(method, method.lower(), url, body, accept=ignored_statuses)

    async def get_status(self, operation: str, url: str, accept: frozenset[int]) -> int:
        return (await self._send_request("GET", operation, url, accept=accept))[0]

    async def list_objects(
        self, collection: str, vhost: str, is_kept: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> list[dict[str, Any]]:
        """Everything of a kind (`queues`, `exchanges`, `bindings`, `policies`) in a virtual host that is to be kept."""
        budget = ReadBudget()
        if collection in ("bindings", "policies"):
            answer = await self.get(collection, build_api_path(collection, vhost), budget=budget)
            return [item for item in expect_objects(self._require_vhost(answer, vhost), MAX_OBJECTS) if is_kept(item)]
        items: list[dict[str, Any]] = []
        page, pages = 1, 1
        while page <= pages:
            document = expect_object(
                self._require_vhost(
                    await self.get(
                        collection,
                        f"{build_api_path(collection, vhost)}?page={page}&page_size={PAGE_SIZE}&disable_stats=true",
                        budget=budget,
                    ),
                    vhost,
                )
            )
            items += filter(is_kept, expect_objects(document.get("items"), PAGE_SIZE))
            pages, page = get_integer(document, "page_count"), page + 1
            if pages > MAX_PAGES:
                raise self._build_invalid(
                    f"GET {build_api_path(collection, vhost)}",
                    InvalidResponse(f"the list has more than {MAX_PAGES} pages"),
                )
        return items

    def _require_vhost(self, answer: Any, vhost: str) -> Any:
        if answer is None:
            raise RequestRefused(f"there is no virtual host {vhost}")
        return answer

    async def _send_request(
        self,
        method: str,
        operation: str,
        url: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset(),
        budget: ReadBudget | None = None,
    ) -> tuple[int, Any]:
        """Status and answer; of statuses in `accept`, and of changes, no answer. Raises BrokerUnavailable and
        RequestRefused.
        """
        started_at = time.monotonic()
        request_line = f"{method} {url.partition('?')[0]}"
        address = URL(url, encoded=True)  # names are quoted already: a slash in one must stay quoted
        try:
            with start_span(f"rabbitmq {operation}"):
                response = await self._session.request(method, address, json=body, params=query, allow_redirects=False)
            async with response:
                if 200 <= response.status < 300 and method == "GET":
                    return response.status, await (budget or ReadBudget()).read_json(response)
                refusal_text = await read_reason(response)
        except InvalidResponse as error:
            raise self._build_invalid(request_line, error) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._log_failure(request_line, str(error) or type(error).__name__)
            raise BrokerUnavailable(Reason.UNREACHABLE, f"{request_line}: {self._describe_error(error)}") from error
        finally:
            EXTERNAL_CALL_SECONDS.labels("rabbitmq", operation).observe(time.monotonic() - started_at)
        if 200 <= response.status < 300 or response.status in accept:
            return response.status, None
        self._log_failure(request_line, f"{response.status}: {refusal_text}")
        raise await self._classify_refusal(
            request_line, response.status, describe_named_words(_list_field_names(body), refusal_text)
        )

    async def _classify_refusal(self, request_line: str, status: int, named_words: str) -> Exception:
        """Whether a refusal concerns the connection or one object. 401 is the answer to a wrong password and to missing
        rights on a virtual host alike; a request for the own user distinguishes them.
        """
        if 300 <= status < 400:
            return BrokerUnavailable(
                Reason.UNREACHABLE,
                f"{request_line}: the server redirects ({status}), which isn't followed: name the API itself in "
                "managementUrl",
            )
        if status in (401, 403) and (
            request_line == "GET /api/whoami" or await self.get_status("whoami", "/api/whoami", frozenset({404})) == 404
        ):
            return BrokerUnavailable(
                Reason.CREDENTIALS_REFUSED, f"the management API refuses the user name or the password ({status})"
            )
        if status in _UNAVAILABLE_STATUSES:
            return BrokerUnavailable(Reason.UNREACHABLE, f"{request_line}: the server answers {status}")
        return RequestRefused(
            f"the management API answers {status} to {request_line}: "
            f"{_STATUS_TEXTS.get(status, 'it failed')}{named_words}"
        )

    def _build_invalid(self, request_line: str, error: InvalidResponse) -> BrokerUnavailable:
        return BrokerUnavailable(Reason.UNREACHABLE, f"{request_line}: {error}; is this RabbitMQ's management API?")

    def _log_failure(self, request_line: str, text: str) -> None:
        """The server's own text goes into the operator's log only: a status has other readers."""
        log.warning(
            "the management API refused or failed",
            extra={"request": sanitize_message(request_line), "words": sanitize_message(text, self._password)},
        )

    def _describe_error(self, error: BaseException) -> str:
        match error:
            case TimeoutError():
                return f"no answer within {self._seconds:.0f} s"
            case (
                aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError() | aiohttp.ClientSSLError()
            ):
                return "the server's certificate isn't trusted, or it doesn't speak TLS"
            case aiohttp.ClientConnectorDNSError():
                return "its host name isn't known"
            case aiohttp.ClientConnectorError():
                return "no connection"
            case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
                return "the connection was lost"
        return "the answer is no proper HTTP; is this RabbitMQ's management API?"


def _list_field_names(body: Mapping[str, Any] | None) -> list[str]:
    """The fields that we have sent, and theirs."""
    body = body or {}
    return [*body, *(key for part in body.values() if isinstance(part, Mapping) for key in part)]


async def gather_or_raise(*awaitables: Any) -> list[Any]:
    """All results. Raises the first failure, once none of the others is running."""
    results = await asyncio.gather(*awaitables, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
