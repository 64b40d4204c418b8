"""Whatever nobody foresaw is answered with a problem document that has a trace id: behind the gateway, in it, and at
the internal entry point.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

from caravan.auth import issue_internal_token
from caravan.client import Operation
from caravan.derivation import derive_secret
from caravan.runtime import Backends
from caravan.schemas import StrictModel
from caravan.service import Service
from tests.services.gateway.stand_ins import Pets, listening, registered
from tests.support.shop import Shop, run_services


class Question(BaseModel):
    failure: str


ASK = Operation("cats", "ask", Question, Question)
KINDS = {
    "key": KeyError("inner words"),
    "group": ExceptionGroup("inner words", [ValueError("x")]),
    "cancelled": asyncio.CancelledError("inner words"),
    "memory": MemoryError("inner words"),
}


class Exact(StrictModel):
    name: str


async def fail(kind: str) -> None:
    raise KINDS[kind]


async def fill_exactly(form: Exact) -> str:
    return form.name


def _pets(name: str) -> Pets:
    pets = Pets(name)
    pets.router.add_api_route(f"/v1/{name}/fail/{{kind}}", fail)
    pets.router.add_api_route(f"/v1/{name}/exact", fill_exactly, methods=["POST"])
    return pets


async def _ask(_: Any, question: Question) -> Question:
    if question.failure in KINDS:
        raise KINDS[question.failure]
    return question


@contextlib.asynccontextmanager
async def _client(shop: Shop) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        listening(shop.process.app) as url,
        httpx2.AsyncClient(base_url=url, timeout=10, trust_env=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
async def clients(backends: Backends) -> AsyncIterator[dict[str, httpx2.AsyncClient]]:
    near, far = _pets("cats"), _pets("dogs")
    here = Service("cats", routers=(near.router,), operations=(ASK.bind(_ask),))
    async with (
        run_services(backends, "gateway", extra_services=(here,)) as shop,
        registered(shop, far, backends),
        _client(shop) as client,
    ):
        yield {"cats": client, "dogs": client}


def _is_problem(answer: httpx2.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert len(document["trace_id"]) == 32
    assert "inner words" not in answer.text


@pytest.mark.parametrize("where", ["cats", "dogs"])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_unforeseen_exception_of_a_service_is_a_problem_document(
    clients: dict[str, httpx2.AsyncClient], where: str, kind: str
) -> None:
    answer = await clients[where].get(f"/v1/{where}/fail/{kind}")
    _is_problem(answer, 500)
    assert answer.headers["x-request-id"]
    assert (await clients[where].get(f"/v1/{where}/rex")).status_code == 200


async def test_an_unforeseen_exception_in_the_gateway_is_a_problem_document(
    clients: dict[str, httpx2.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise KINDS["key"]

    monkeypatch.setattr("services.gateway.routing.table.RouteTable.match_route", broken)
    _is_problem(await clients["cats"].get("/v1/cats/rex"), 500)


@pytest.mark.parametrize("where", ["cats", "dogs"])
async def test_text_that_utf_8_cannot_carry_is_the_clients_fault(
    clients: dict[str, httpx2.AsyncClient], where: str
) -> None:
    answer = await clients[where].post(
        f"/v1/{where}/exact", content=rb'{"\ud800": 1}', headers={"content-type": "application/json"}
    )
    _is_problem(answer, 422)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unforeseen_exception_of_an_operation_is_a_problem_document(
    clients: dict[str, httpx2.AsyncClient], backends: Backends, kind: str
) -> None:
    _is_problem(await _call(clients["cats"], backends, Question(failure=kind).model_dump_json().encode()), 500)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {}, 422),
        (b'{"failure": "x"}', {"x-caravan-seconds": "soon"}, 400),
        (b'{"failure": "x"}', {"authorization": "Bearer x.y.z"}, 401),
        (b'{"failure": "' + b"x" * 1024 * 1024 + b'"}', {}, 413),
        (b'{"failure": "x"}', {"x-caravan-seconds": "nan"}, 400),
    ],
)
async def test_what_no_operation_can_read_is_refused_at_the_internal_entry(
    clients: dict[str, httpx2.AsyncClient], backends: Backends, body: bytes, headers: dict[str, str], status: int
) -> None:
    _is_problem(await _call(clients["cats"], backends, body, **headers), status)
    answer = await _call(clients["cats"], backends, b'{"failure": "x"}')
    assert answer.status_code == 200
    assert answer.json() == {"failure": "x"}


async def _call(client: httpx2.AsyncClient, backends: Backends, body: bytes, **headers: str) -> httpx2.Response:
    token = issue_internal_token(derive_secret(backends.secret, "internal"), "gateway", "cats")
    return await client.post(ASK.url_path, content=body, headers={"authorization": token, **headers})
