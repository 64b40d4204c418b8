"""The client by which a service asks others over HTTP."""

from typing import Any

import httpx2

_ASKED_OF_SOCKET = frozenset({"family", "getpeername", "getsockname"})


class HttpClient(httpx2.AsyncClient):
    """httpx2's, whose failures are all its own errors.

    A connection that the peer resets in the moment in which it was made has no socket any more when the library asks it
    for its addresses. That is an AttributeError, which no caller expects of a peer that has gone: nothing is tried
    again, and the request ends as a fault of ours.
    """

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            return await super().send(request, **options)
        except AttributeError as error:
            if error.obj is not None or error.name not in _ASKED_OF_SOCKET:
                raise
            raise httpx2.ConnectError("the connection was reset as soon as it was made", request=request) from error
