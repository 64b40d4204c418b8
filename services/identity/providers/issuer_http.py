"""Asks the outside issuer for JSON: of a bounded size, without redirects, at addresses that `openid.py` has checked."""

from collections.abc import Mapping
from typing import Any

import httpx2
import orjson

from caravan.errors import ServiceUnavailable
from caravan.fault_attribution import DEPENDENCY

MAX_DOCUMENT_BYTES = 256 * 1024


class IssuerError(Exception):
    """The issuer can't be reached in time, or what it answers can't be used; the text says which."""


class IssuerRefusal(IssuerError):
    """The issuer says no, with a code of OAuth 2.0."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class IssuerUnavailable(ServiceUnavailable):
    """The outside issuer's fault, not this service's: nobody's breaker may open for the whole of identity."""

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail, retry_after=retry_after, fault=DEPENDENCY)


async def request_json(
    http: httpx2.AsyncClient,
    method: str,
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    authorization: str | None = None,
) -> dict[str, Any]:
    """The JSON object at an address. A redirect is no answer: who can make the issuer redirect must not choose its
    keys, nor get our secret. Raises IssuerError, IssuerRefusal where the object says `error`.
    """
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    if authorization is not None:
        headers["authorization"] = authorization
    content = bytearray()
    try:
        async with http.stream(method, url, headers=headers, data=form, follow_redirects=False) as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise IssuerError(f"{url} answered with a content encoding that was not asked for")
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > MAX_DOCUMENT_BYTES:
                    raise IssuerError(f"{url} answered more than {MAX_DOCUMENT_BYTES} bytes")
        document = orjson.loads(content) if response.status_code in (200, 400, 401) else None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise IssuerError(f"{url} can't be reached: {error or type(error).__name__}") from error
    except orjson.JSONDecodeError:
        raise IssuerError(f"{url} answered {response.status_code} without JSON") from None
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        raise IssuerRefusal(document["error"])
    if response.status_code != 200 or not isinstance(document, dict):
        raise IssuerError(f"{url} answered {response.status_code} and no JSON object")
    return document
