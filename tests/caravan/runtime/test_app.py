"""The one application of a process: probes, internal operations for those who prove to be services, and the rest to
whom the path belongs.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter
from pydantic import BaseModel

from caravan.auth import issue_internal_token
from caravan.client import Operation, authorization, deadline
from caravan.discovery import DnsDiscovery
from caravan.errors import NotFound
from caravan.health import Health
from caravan.http import App, create_app
from caravan.refusals import Refusal, RefusalRecorder
from caravan.runtime.app import ProcessApp

SECRET = "an internal secret of more than 32 characters"


class Question(BaseModel):
    text: str


ASK = Operation("pets", "ask", Question, Question, seconds=2.0)


def build_peer(name: str) -> App:
    router = APIRouter()

    @router.get(f"/v1/{name}")
    async def show_name() -> str:
        return name

    return create_app(name, (router,), SimpleNamespace(secret=SECRET, refused=None), SimpleNamespace())


async def answer_question(question: Question) -> Question:
    return question


def make_app(
    *peers: str, answer: Callable[[Any], Awaitable[Any]] = answer_question, has_probe_port: bool = False
) -> ProcessApp:
    app = ProcessApp(
        {name: build_peer(name) for name in peers or ("pets",)},
        Health({}, DnsDiscovery("http://{service}")),
        SECRET,
        has_probe_port=has_probe_port,
    )
    app.operations[ASK.url_path] = (ASK, answer)
    return app


async def send_request(app: App, method: str, path: str, **more: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://shop.test") as client:
        return await client.request(method, path, **more)


async def ask(app: App, content: bytes = b'{"text": "why"}', target: str = "pets", **headers: str) -> httpx2.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    names.setdefault("authorization", issue_internal_token(SECRET, "cats", target))
    return await send_request(app, "POST", ASK.url_path, content=content, headers=names)


async def test_probes_are_answered_here_unless_they_have_a_port_of_their_own() -> None:
    assert (await send_request(make_app(), "GET", "/livez")).text == "ok\n"
    apart = make_app(has_probe_port=True)
    assert (await send_request(apart, "GET", "/livez")).status_code == 404
    assert (await send_request(apart.serve_probes, "GET", "/livez")).text == "ok\n"
    assert (await send_request(apart.serve_probes, "GET", "/v1/pets")).status_code == 404


async def test_a_request_goes_to_the_gateway_if_there_is_one_else_to_whose_route_it_is() -> None:
    assert (await send_request(make_app("cats", "pets"), "GET", "/v1/pets")).json() == "pets"
    assert (await send_request(make_app("cats", "pets"), "GET", "/v1/nobody")).status_code == 404
    assert (await send_request(make_app("pets", "gateway"), "GET", "/v1/gateway")).json() == "gateway"
    assert (await send_request(make_app("pets", "gateway"), "GET", "/v1/pets")).status_code == 404


async def test_head_is_get_without_the_body() -> None:
    response = await send_request(make_app("cats", "pets"), "HEAD", "/v1/pets")
    assert (response.status_code, response.content) == (200, b"")


async def test_an_operation_answers_a_service_that_means_it() -> None:
    response = await ask(make_app())
    assert (response.status_code, response.json()) == (200, {"text": "why"})
    for app, path in ((make_app(), "/internal/pets/other"), (make_app("gateway"), "/internal/cats/ask")):
        assert (await send_request(app, "POST", path)).status_code == 404
    assert (await send_request(make_app(), "GET", ASK.url_path)).status_code == 404


@pytest.mark.parametrize(
    "token", ["", "Bearer x", issue_internal_token("another secret of 32 characters", "cats", "pets")]
)
async def test_an_operation_answers_nobody_else_and_the_refusal_is_recorded(token: str) -> None:
    app, refusals = make_app(), list[Refusal]()

    async def write(items: list[Refusal]) -> None:
        refusals.extend(items)

    recorder = app.refused["pets"] = RefusalRecorder(write)
    response = await ask(app, authorization=token)
    assert response.status_code == 401
    await recorder.send_report()
    assert [(refusal.actor, refusal.operation) for refusal in refusals] == [("anonymous", f"POST {ASK.url_path}")]


async def test_a_token_for_another_service_opens_nothing() -> None:
    assert (await ask(make_app(), target="cats")).status_code in (401, 403)


async def test_for_clients_an_internal_path_is_a_path_like_any_other() -> None:
    assert (await ask(make_app().serve_public)).status_code == 404
    assert (await send_request(make_app().serve_public, "GET", "/v1/pets")).json() == "pets"


async def test_a_use_case_has_the_users_token_and_no_more_time_than_its_caller_or_its_declaration_gives() -> None:
    async def show_context(_: Question) -> Question:
        expires_at = deadline.get()
        assert expires_at is not None
        return Question(text=f"{authorization.get()} {expires_at - asyncio.get_running_loop().time():.1f}")

    for given, allowed in (("0.5", "0.5"), ("60", "2.0")):
        response = await ask(make_app(answer=show_context), x_caravan_seconds=given, x_user_authorization="Bearer u")
        assert response.json() == {"text": f"Bearer u {allowed}"}
    assert (await ask(make_app(answer=show_context))).json() == {"text": "None 2.0"}


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan"])
async def test_a_deadline_that_is_none_is_refused(given: str) -> None:
    assert (await ask(make_app(), x_caravan_seconds=given)).status_code == 400


async def test_one_that_hangs_is_answered_504_and_its_fault_is_unknown_where_it_had_hardly_any_time() -> None:
    async def hang(_: Question) -> Question:
        await asyncio.Event().wait()
        raise AssertionError

    response = await ask(make_app(answer=hang), x_caravan_seconds="0.02")
    assert (response.status_code, response.headers["x-caravan-fault"]) == (504, "unknown")


@pytest.mark.parametrize(
    ("error", "status"), [(NotFound("no such pet"), 404), (KeyError("inner"), 500), (asyncio.CancelledError(), 500)]
)
async def test_whatever_a_use_case_raises_is_a_problem_document(error: BaseException, status: int) -> None:
    async def fail(_: Question) -> Question:
        raise error

    response = await ask(make_app(answer=fail))
    assert (response.status_code, response.json()["status"]) == (status, status)
    assert "inner" not in response.text


async def test_what_is_no_request_for_the_operation_is_refused() -> None:
    assert (await ask(make_app(), b"{}")).status_code == 422
    assert (await ask(make_app(), b"x" * (1024 * 1024 + 1))).status_code == 413
