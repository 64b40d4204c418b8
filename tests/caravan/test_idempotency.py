"""A key has one effect and one answer: who comes again gets what was stored, whatever the operation says the second
time; tests/contract has the races of whole requests.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import Response

from caravan.clock import new_id
from caravan.database import RESPONSE_RETENTION, Database
from caravan.errors import Conflict, InvalidRequest, RequestInFlight
from caravan.idempotency import IdempotentRequest, OptionalIdempotency, RequiredIdempotency
from caravan.runtime import Backends
from tests.support.database import NOTE_TABLE, open_kernel_database


class MovableClock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 29, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture(scope="module")
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture(scope="module")
async def database(backends: Backends, clock: MovableClock) -> AsyncIterator[Database]:
    async with open_kernel_database(backends, "kernel_idempotency", NOTE_TABLE, clock=clock) as opened:
        yield opened


class NoteWriter:
    """An operation that writes a note and stores its answer; `calls` counts how often it was run."""

    def __init__(self, database: Database, key: str | None, fingerprint: bytes = b"body") -> None:
        self.database = database
        self.request = IdempotentRequest("customer:1 POST /v1/notes", key, fingerprint)
        self.text = key or str(new_id())
        self.calls = 0

    async def run(self) -> Response:
        self.calls += 1
        async with self.database.unit_of_work() as uow:
            await uow.execute("INSERT INTO note (text) VALUES ($1)", self.text)
            return self.request.store(uow, 201, {"number": self.calls}, {"Location": "/v1/notes/1"})

    async def execute(self) -> Response:
        return await self.request.execute(self.database, self.run)

    async def count_notes(self) -> int:
        return int(await self.database.fetchval("SELECT count(*) FROM note WHERE text = $1", self.text))


@pytest.fixture
def writer(database: Database) -> NoteWriter:
    return NoteWriter(database, str(new_id()))


async def test_the_same_again_gets_the_stored_answer_and_says_so(writer: NoteWriter) -> None:
    first = await writer.execute()
    second = await writer.execute()
    assert (second.status_code, second.body) == (first.status_code, first.body) == (201, b'{"number":1}')
    assert second.headers["location"] == first.headers["location"]
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert await writer.count_notes() == 1


async def test_many_at_once_have_one_effect_and_one_answer(writer: NoteWriter) -> None:
    responses = await asyncio.gather(*(writer.execute() for _ in range(8)))
    assert len({response.body for response in responses}) == 1
    assert sum("idempotency-replayed" in response.headers for response in responses) == 7
    assert await writer.count_notes() == 1


async def test_without_a_key_nothing_is_stored_and_each_request_has_its_effect(database: Database) -> None:
    writer = NoteWriter(database, None)
    before = await database.fetchval("SELECT count(*) FROM idempotency")
    assert [(await writer.execute()).body for _ in range(2)] == [b'{"number":1}', b'{"number":2}']
    assert await writer.count_notes() == 2
    assert await database.fetchval("SELECT count(*) FROM idempotency") == before


async def test_a_key_with_another_body_is_refused(writer: NoteWriter, database: Database) -> None:
    await writer.execute()
    with pytest.raises(InvalidRequest, match="was used with another body"):
        await NoteWriter(database, writer.request.key, b"another body").execute()
    assert await writer.count_notes() == 1


async def test_keys_of_another_scope_are_not_known(writer: NoteWriter, database: Database) -> None:
    await writer.execute()
    other = NoteWriter(database, writer.request.key)
    other.request = IdempotentRequest("customer:2 POST /v1/notes", writer.request.key, b"another body")
    assert "idempotency-replayed" not in (await other.execute()).headers


async def test_what_was_done_is_answered_though_it_is_not_possible_any_more(writer: NoteWriter) -> None:
    """The second request finds the state that the first one left, and is refused by it."""
    await writer.execute()

    async def refuse() -> Response:
        raise Conflict("the order is cancelled already")

    assert (await writer.request.execute(writer.database, refuse)).body == b'{"number":1}'


async def test_a_refusal_is_not_stored_and_the_key_stays_free(writer: NoteWriter) -> None:
    async def refuse() -> Response:
        async with writer.database.unit_of_work() as uow:
            writer.request.store(uow, 201, {})
            raise Conflict("not now")

    with pytest.raises(Conflict, match="not now"):
        await writer.request.execute(writer.database, refuse)
    assert "idempotency-replayed" not in (await writer.execute()).headers
    assert await writer.count_notes() == 1


async def test_who_waits_too_long_for_the_first_is_told_to_come_again(writer: NoteWriter) -> None:
    async def wait_in_vain() -> Response:
        raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout")

    with pytest.raises(RequestInFlight) as refusal:
        await writer.request.execute(writer.database, wait_in_vain)
    assert refusal.value.headers["Retry-After"] == "1"


async def test_a_key_is_free_again_after_its_time(writer: NoteWriter, clock: MovableClock) -> None:
    await writer.execute()
    clock.moment += RESPONSE_RETENTION - timedelta(seconds=1)
    assert "idempotency-replayed" in (await writer.execute()).headers
    clock.moment += timedelta(seconds=1)
    assert "idempotency-replayed" not in (await writer.execute()).headers
    assert await writer.count_notes() == 2
    assert "idempotency-replayed" in (await writer.execute()).headers


app = FastAPI()


@app.post("/required")
async def post_required(request: RequiredIdempotency) -> list[str | None]:
    return [request.scope, request.key, request.fingerprint.hex()]


@app.post("/optional")
async def post_optional(request: OptionalIdempotency) -> list[str | None]:
    return [request.scope, request.key, request.fingerprint.hex()]


async def post(path: str, body: bytes = b"", key: str | None = "k", host: str = "192.0.2.1") -> Any:
    transport = httpx2.ASGITransport(app=app, client=(host, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        headers = {} if key is None else {"Idempotency-Key": key}
        response = await client.post(path, content=body, headers=headers)
        return response.json() if response.status_code == 200 else response.status_code


async def test_a_request_is_known_by_its_caller_its_path_and_what_its_body_means() -> None:
    given = await post("/required", b'{"a": 1, "b": [1, 2]}')
    assert given[:2] == ["anonymous 192.0.2.1 POST /required", "k"]
    assert await post("/required", b'{"b":[1,2],"a":1}') == given
    assert await post("/optional", b'{"b":[1,2],"a":1}') != given
    assert await post("/required", b'{"b":[1,2],"a":1}', host="192.0.2.2") != given
    assert (await post("/required", b'{"b":[2,1],"a":1}'))[2] != given[2]
    assert (await post("/required", b"no JSON"))[2] != (await post("/required", b"no  JSON"))[2]


async def test_a_key_is_required_or_not_and_bounded() -> None:
    assert await post("/required", key=None) == 422
    assert await post("/optional", key=None) == ["", None, ""]
    assert (await post("/required", key="x" * 200))[1] == "x" * 200
    assert await post("/required", key="x" * 201) == 422
    assert await post("/optional", key="") == 422
