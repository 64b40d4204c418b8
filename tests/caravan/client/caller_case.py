"""A caller of operations before stand-ins for other processes."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from pydantic import BaseModel

from caravan.client import LocalOperation, Operation, OperationClient
from caravan.discovery import DEFAULT_POLICY, Discovery, Endpoint, EndpointPool


class Question(BaseModel):
    text: str


class Answer(BaseModel):
    text: str


ASK = Operation("pets", "ask", Question, Answer)
CHANGE = Operation("pets", "change", Question, Answer, is_repeatable=False)
QUESTION = Question(text="why")

Serve = Callable[[httpx2.Request], httpx2.Response]


class Endpoints(Discovery):
    """So many endpoints of each service."""

    def __init__(self, count: int) -> None:
        self.pool = EndpointPool("pets")
        self.pool.update_endpoints([f"http://pets-{number}" for number in range(count)], DEFAULT_POLICY)

    async def acquire_endpoint(self, service: str, tried_urls: Collection[str] = ()) -> Endpoint:
        return self.pool.acquire(tried_urls)

    async def list_services(self) -> set[str]:
        return {"pets"}

    async def list_endpoints(self, service: str) -> list[Endpoint]:
        return self.pool.list_endpoints()


@dataclass
class Remote:
    """A caller and the services that it reaches."""

    call: OperationClient
    discovery: Endpoints
    requests: list[httpx2.Request] = field(default_factory=list)

    def count_in_flight(self) -> int:
        return sum(endpoint.in_flight for endpoint in self.discovery.pool._endpoints.values())


@asynccontextmanager
async def serve_remote(
    serve: Serve, *, endpoints: int = 1, local: dict[Operation[Any, Any], LocalOperation] | None = None
) -> AsyncIterator[Remote]:
    """Answers calls with `serve`, in place of a network. Whatever happened, no endpoint is in use afterwards."""

    def handle_request(request: httpx2.Request) -> httpx2.Response:
        remote.requests.append(request)
        return serve(request)

    discovery = Endpoints(endpoints)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle_request)) as http:
        call = OperationClient("cats", local or {}, discovery, http, lambda service, target: f"{service} to {target}")
        remote = Remote(call, discovery)
        yield remote
        assert remote.count_in_flight() == 0


def answer_well(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json={"text": "because"})


def answer_with(status: int, **headers: str) -> Serve:
    return lambda _: httpx2.Response(status, json={"detail": "the reason"}, headers=headers)


def raise_error(error: Exception) -> Serve:
    def serve(_: httpx2.Request) -> httpx2.Response:
        raise error

    return serve
