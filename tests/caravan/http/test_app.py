"""What FastAPI would do as well as our middleware is done once: the server span, and the refusal of a body."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from pydantic import BaseModel

from caravan.http.app import create_app
from caravan.http.middleware import App

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
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What `telemetry.export_spans` sets for a process: the global provider, and our tracer."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr("caravan.telemetry.trace._tracer", provider.get_tracer("caravan"))
    yield exporter
    provider.shutdown()


async def test_a_request_makes_one_span(app: App, spans: InMemorySpanExporter) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://notes") as client:
        assert (await client.post("/notes", json={"text": "four"})).json() == {"length": 4}
        assert (await client.post("/notes", json={})).status_code == 422
    made = [(span.name, span.kind) for span in spans.get_finished_spans()]
    assert made == [("POST notes", SpanKind.SERVER)] * 2


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
