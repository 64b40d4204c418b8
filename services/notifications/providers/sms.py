"""Short messages through an HTTP gateway in the shape of Twilio's: a form is posted per message, with basic
authentication.

A gateway that knows the header `Idempotency-Key` sends a message that comes again once. Twilio doesn't: there a message
of which no answer came, or whose process died before it noted the answer, may be sent twice.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx2
import orjson

from services.notifications.providers.protocol import NOT_TRIED, SENT, SendResult
from services.notifications.rendering import RenderedMessage

REQUEST_SECONDS = 10.0
BATCH_SECONDS = 45.0
"""After this a batch is cut short: well within the lease of its rows."""
MAX_LETTERS = 1_600
"""More than this no gateway takes; it is ten parts."""
MAX_REASON = 300
MAX_ANSWER_BYTES = 64 * 1024
_MISCONFIGURED = frozenset({401, 402, 403, 404, 405, 407})
"""The account or the address is wrong, so no message is to blame."""
_TRANSIENT = frozenset({408, 409, 425, 500})
"""This message may work later."""
_UNAVAILABLE = frozenset({429, 502, 503, 504})
"""No message works now."""
_FAILED_STATUSES = frozenset({"failed", "undelivered", "canceled"})


class HttpSmsProvider:
    """`url`: where messages are posted, with user and password, such as
    `https://AC…:token@api.twilio.com/2010-04-01/Accounts/AC…/Messages.json`. `sender`: a number, a name that the
    gateway knows, or the id of one of its messaging services (`MG…`).
    """

    def __init__(self, url: str, sender: str, connections: int, http: httpx2.AsyncClient) -> None:
        parts = urlsplit(url)
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self._credentials = (unquote(parts.username or ""), unquote(parts.password or ""))
        self._sender = {"MessagingServiceSid" if sender.startswith("MG") else "From": sender}
        self._connections = connections
        self._http = http

    async def send(self, messages: Sequence[RenderedMessage]) -> list[SendResult]:
        results = [NOT_TRIED] * len(messages)
        queue = enumerate(messages)
        end = asyncio.get_running_loop().time() + BATCH_SECONDS
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._connections, len(messages))):
                group.create_task(self._send_from_queue(queue, results, end))
        return results

    async def _send_from_queue(
        self, queue: Iterator[tuple[int, RenderedMessage]], results: list[SendResult], end: float
    ) -> None:
        for index, message in queue:
            results[index] = await self._send_message(message)
            if results[index].status == "down" or asyncio.get_running_loop().time() > end:
                break

    async def _send_message(self, message: RenderedMessage) -> SendResult:
        form = {**self._sender, "To": message.recipient, "Body": message.subject[:MAX_LETTERS]}
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                async with self._http.stream(
                    "POST",
                    self._url,
                    data=form,
                    auth=self._credentials,
                    headers={"Idempotency-Key": message.key, "Accept-Encoding": "identity"},
                    follow_redirects=False,
                ) as response:
                    answer = await _read_answer(response)
        except TimeoutError:
            return SendResult("again", f"no answer within {REQUEST_SECONDS:g} s")
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            return SendResult("down", f"{type(error).__name__}: {error}")
        except httpx2.TransportError as error:
            return SendResult("again", f"{type(error).__name__}: {error}")
        return _classify_response(response, answer)


def _classify_response(response: httpx2.Response, answer: dict[str, Any]) -> SendResult:
    status = response.status_code
    reason = f"{status} {answer.get('code') or ''} {answer.get('message') or ''}"
    reason = " ".join(reason.split())[:MAX_REASON]
    if response.is_success:
        if answer.get("status") in _FAILED_STATUSES:
            return SendResult("refused", f"{answer['status']}: error {answer.get('error_code')}")
        return SENT
    if status in _TRANSIENT:
        return SendResult("again", reason)
    if status in _UNAVAILABLE or status in _MISCONFIGURED or not response.is_client_error:
        return SendResult("down", reason)
    return SendResult("refused", reason)


async def _read_answer(response: httpx2.Response) -> dict[str, Any]:
    """Its JSON; of a longer one nothing, and the status says enough: what it has taken must not be sent again."""
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            return {}
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
