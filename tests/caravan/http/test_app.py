"""The application of a service: its routes as they are declared, strict, and every error a documented problem. What
FastAPI would do as well as our middleware is done once: the server span, and the refusal of a body.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from pydantic import BaseModel

from caravan.errors import NotFound
from caravan.http.app import create_app
from caravan.http.middleware import App
from caravan.schemas import StrictModel
from tests.support.spans import collect_spans

router = APIRouter()
MEBIBYTE = 1024 * 1024


class Note(BaseModel):
    text: str


@router.post("/notes")
async def post_note(note: Note) -> dict[str, int]:
    """Takes a note."""
    return {"length": len(note.text)}


@dataclass
class AppContext:
    secret: str = "a secret for tests, of more than 32 characters"
    refused: None = None


@pytest.fixture
def app() -> App:
    return create_app("notes", [router], AppContext(), None)


@pytest.fixture
def foreign_spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Those of whoever asks for the global provider, which somebody has set."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


async def test_a_request_makes_one_span(app: App, foreign_spans: InMemorySpanExporter) -> None:
    with collect_spans() as spans:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://notes") as client:
            assert (await client.post("/notes", json={"text": "four"})).json() == {"length": 4}
            assert (await client.post("/notes", json={})).status_code == 422
    assert [(span.name, span.kind) for span in spans.all] == [("POST /notes", SpanKind.SERVER)] * 2
    assert foreign_spans.get_finished_spans() == ()


@pytest.mark.parametrize("is_declared", [True, False], ids=["by its length", "while it comes"])
async def test_a_body_that_is_too_long_is_answered_once_with_a_problem(app: App, is_declared: bool) -> None:
    starts: list[int] = []

    async def count_answers(scope: Any, receive: Any, send: Any) -> None:
        async def send_counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                starts.append(message["status"])
            await send(message)

        await app(scope, receive, send_counted)

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * (MEBIBYTE // 10)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(count_answers), base_url="http://notes") as client:
        answer = await client.post(
            "/notes",
            content=b"x" * (MEBIBYTE + 1) if is_declared else stream(),
            headers={"content-type": "application/json"},
        )
    assert starts == [413]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"] == "Content too large"
    assert str(MEBIBYTE) in answer.json()["detail"]


pets_router, forms_router = APIRouter(), APIRouter()


class Form(StrictModel):
    name: str


@pets_router.get("/v1/pets/{name}")
async def get_pet(name: str) -> dict[str, str]:
    if name == "nobody":
        raise NotFound("no such pet")
    return {"name": name}


@forms_router.post("/v1/forms", status_code=201)
async def create_form(form: Form) -> Form:
    return form


def make_app() -> App:
    context = SimpleNamespace(secret="x" * 40, refused=None)
    return create_app("pets", (pets_router, forms_router), context, SimpleNamespace())


async def send_request(method: str, path: str, *, app: App | None = None, **more: Any) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=app or make_app())
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        return await client.request(method, path, **more)


async def test_the_routes_of_every_router_answer_behind_the_shared_middleware() -> None:
    read, created = (
        await send_request("GET", "/v1/pets/rex"),
        await send_request("POST", "/v1/forms", json={"name": "a"}),
    )
    assert (read.json(), created.status_code, created.json()) == ({"name": "rex"}, 201, {"name": "a"})
    assert read.headers["x-request-id"]
    assert read.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "/v1/pets/nobody", {}, 404),
        ("GET", "/v1/cats", {}, 404),
        ("DELETE", "/v1/pets/rex", {}, 405),
        ("GET", "/v1/pets/rex?color=red", {}, 422),
        ("POST", "/v1/forms", {"json": {"name": "a", "color": "red"}}, 422),
        ("POST", "/v1/forms", {"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ("POST", "/v1/forms", {"content": b"a", "headers": {"content-type": "text/plain"}}, 415),
    ],
)
async def test_every_error_is_a_problem_document(method: str, path: str, more: dict[str, Any], status: int) -> None:
    response = await send_request(method, path, **more)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["instance"]) == (status, path.partition("?")[0])
    assert len(problem["trace_id"]) == 32


async def test_its_document_names_each_operation_by_its_function_and_the_problems_it_may_answer() -> None:
    paths = (await send_request("GET", "/openapi.json")).json()["paths"]
    operation = paths["/v1/forms"]["post"]
    assert operation["operationId"] == "create_form"
    assert {"400", "415", "422"} <= operation["responses"].keys()
    assert "application/problem+json" in operation["responses"]["422"]["content"]


async def test_there_are_no_pages_that_load_scripts_from_elsewhere() -> None:
    assert [(await send_request("GET", path)).status_code for path in ("/docs", "/redoc")] == [404, 404]


async def test_a_router_may_be_in_several_applications() -> None:
    """Its routes are made strict once, and are so in each."""
    first = make_app()
    handlers = [route.app for route in forms_router.routes if isinstance(route, APIRoute)]
    second = make_app()
    assert [route.app for route in forms_router.routes if isinstance(route, APIRoute)] == handlers != []
    for app in (first, second):
        assert (await send_request("POST", "/v1/forms", app=app, json={"name": "a"})).status_code == 201
        assert (await send_request("POST", "/v1/forms?color=red", app=app, json={"name": "a"})).status_code == 422
