"""A route that remembers what query strings ask for: the whole way for the first request, the short one for the next.
The rules of a real list are in tests/services/catalog/test_repeated_lists.py.
"""

from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from caravan.http import RepeatedReadRoute, remember_read
from caravan.http.repeated_reads import MAX_ENTITY_TAGS_BYTES, MAX_QUERY_BYTES, MAX_READS


class Greetings:
    """An application, and what came to it either way."""

    def __init__(self) -> None:
        self.parsed: list[str] = []
        self.short_reads: list[tuple[str, str | None]] = []
        router = APIRouter(route_class=RepeatedReadRoute)
        router.add_api_route("/greetings", self.greet)
        [route] = router.routes
        assert isinstance(route, RepeatedReadRoute)
        self.route = route
        self.http = self.build_client("context")

    def build_client(self, context: str) -> httpx2.AsyncClient:
        app = FastAPI()
        app.state.context = context
        app.router.routes.append(self.route)
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test")

    async def greet(self, request: Request, name: str = "you") -> Response:
        async def answer(context: Any, if_none_match: str | None) -> Response:
            self.short_reads.append((context, if_none_match))
            return Response(f"hello {name}")

        self.parsed.append(name)
        remember_read(request, answer)
        return Response(f"hello {name}")


@pytest.fixture
def greetings() -> Greetings:
    return Greetings()


async def test_the_second_request_takes_the_short_way_to_the_same_answer(greetings: Greetings) -> None:
    for _ in range(2):
        assert (await greetings.http.get("/greetings?name=Ada")).text == "hello Ada"
    assert (await greetings.http.get("/greetings")).text == "hello you"
    assert greetings.parsed == ["Ada", "you"]
    assert greetings.short_reads == [("context", None)]


async def test_each_application_answers_with_its_own_context(greetings: Greetings) -> None:
    other = greetings.build_client("other")
    for client in (greetings.http, greetings.http, other):
        await client.get("/greetings", headers={"if-none-match": '"a"'})
    assert greetings.short_reads == [("context", '"a"'), ("other", '"a"')]


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer x")],
        [("if-none-match", "a"), ("if-none-match", "b")],
        [("if-none-match", "a" * (MAX_ENTITY_TAGS_BYTES + 1))],
    ],
)
async def test_what_the_short_way_does_not_look_at_takes_the_whole_one(
    greetings: Greetings, headers: list[tuple[str, str]]
) -> None:
    await greetings.http.get("/greetings")
    await greetings.http.get("/greetings", headers=headers)
    assert (len(greetings.parsed), greetings.short_reads) == (2, [])


async def test_another_method_is_refused_as_ever(greetings: Greetings) -> None:
    await greetings.http.get("/greetings")
    assert (await greetings.http.post("/greetings")).status_code == 405


async def test_what_is_remembered_is_bounded(greetings: Greetings) -> None:
    for query in ("name=" + "a" * MAX_QUERY_BYTES, *(f"name={number}" for number in range(MAX_READS + 1))):
        await greetings.http.get(f"/greetings?{query}")
    assert len(greetings.route.reads) == MAX_READS
    assert max(len(query) for query in greetings.route.reads) < MAX_QUERY_BYTES
