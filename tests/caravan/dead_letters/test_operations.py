"""Only admins see and move a service's dead letters, and the audit log says what they began and what came of it."""

from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from caravan.auth import Caller
from caravan.bus import DeadLetter
from caravan.client import BoundOperation, authorization
from caravan.clock import utc_now
from caravan.database import Database
from caravan.dead_letters import DeadLetterService, build_operations
from caravan.dead_letters.schemas import DiscardRequest, ListRequest, Selection, ShowRequest
from caravan.errors import Forbidden, Unauthorized
from caravan.runtime import Backends
from tests.support.database import open_kernel_database


class OneLetterSource:
    """A source with one dead letter; `error` is raised instead of moving it."""

    origin = "subscription"

    def __init__(self) -> None:
        self.letters = [DeadLetter("1", "kernel.noted", "noted", "k", b"{}", "no", 1, utc_now(), 2)]
        self.error: Exception | None = None

    async def list_dead_letters(self, limit: int, preview: int) -> list[DeadLetter]:
        return self.letters

    async def redrive(self, dead_letters: Any) -> int:
        if self.error is not None:
            raise self.error
        self.letters = []
        return len(dead_letters)

    discard = redrive


class RoleVerifier:
    """Takes a role for a token."""

    async def verify(self, token: str) -> Caller:
        return Caller(subject="1", role=token, session="s")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
async def database(backends: Backends) -> AsyncIterator[Database]:
    async with open_kernel_database(backends, "kernel_letters") as opened:
        yield opened


@pytest.fixture
def source() -> OneLetterSource:
    return OneLetterSource()


@pytest.fixture
async def context(database: Database) -> Any:
    await database.fetch("TRUNCATE outbox")
    return SimpleNamespace(service="kernel", database=database, verifier=RoleVerifier())


@pytest.fixture
def operations(source: Any) -> dict[str, BoundOperation]:
    built = build_operations(DeadLetterService("kernel", [source]), "kernel")
    return {bound.operation.name: bound for bound in built}


@pytest.fixture
def as_admin() -> Iterator[None]:
    token = authorization.set("Bearer admin")
    yield
    authorization.reset(token)


REQUESTS = {
    "failures": ListRequest(),
    "failure": ShowRequest(id="1"),
    "redrive-failures": Selection(subscription="kernel.noted"),
    "discard-failures": DiscardRequest(subscription="kernel.noted", reason="a test"),
}


async def read_audit(database: Database) -> list[dict[str, Any]]:
    rows = await database.fetch("SELECT body FROM outbox ORDER BY id")
    return [orjson.loads(row["body"])["data"] for row in rows]


@pytest.mark.parametrize("name", REQUESTS)
async def test_nobody_but_an_admin_is_answered(
    operations: dict[str, BoundOperation], source: OneLetterSource, context: Any, name: str
) -> None:
    with pytest.raises(Unauthorized):
        await operations[name].use_case(context, REQUESTS[name])
    for role in ("customer", "staff"):
        token = authorization.set(f"Bearer {role}")
        try:
            with pytest.raises(Forbidden):
                await operations[name].use_case(context, REQUESTS[name])
        finally:
            authorization.reset(token)
    assert len(source.letters) == 1
    assert await read_audit(context.database) == []


@pytest.mark.usefixtures("as_admin")
async def test_reading_leaves_no_record(operations: dict[str, BoundOperation], context: Any) -> None:
    page = await operations["failures"].use_case(context, ListRequest())
    (item,) = page.items
    assert await operations["failure"].use_case(context, ShowRequest(id=item.id)) == item
    rehearsed = await operations["redrive-failures"].use_case(context, Selection(ids=[item.id], dry_run=True))
    assert (rehearsed.selected, rehearsed.done) == (1, 0)
    assert await read_audit(context.database) == []


@pytest.mark.usefixtures("as_admin")
@pytest.mark.parametrize("name", ["redrive-failures", "discard-failures"])
async def test_an_action_is_recorded_before_and_after(
    operations: dict[str, BoundOperation], source: OneLetterSource, context: Any, name: str
) -> None:
    assert (await operations[name].use_case(context, REQUESTS[name])).done == 1
    assert source.letters == []
    records = await read_audit(context.database)
    action = "failures." + name.removesuffix("-failures")
    assert [(record["action"], record["result"], record["target"]) for record in records] == [
        (action, "begun", "failures:kernel"),
        (action, "done", "failures:kernel"),
    ]
    assert {record["actor"] for record in records} == {"admin:1"}
    assert all(record["details"]["subscription"] == "kernel.noted" for record in records)
    assert all(record["details"].get("reason") == getattr(REQUESTS[name], "reason", None) for record in records)


@pytest.mark.usefixtures("as_admin")
async def test_an_action_that_failed_is_recorded_as_failed(
    operations: dict[str, BoundOperation], source: OneLetterSource, context: Any
) -> None:
    source.error = ConnectionResetError("no broker")
    with pytest.raises(ConnectionResetError):
        await operations["redrive-failures"].use_case(context, REQUESTS["redrive-failures"])
    records = await read_audit(context.database)
    assert [record["result"] for record in records] == ["begun", "failed"]
    assert records[-1]["details"]["reason"] == "ConnectionResetError"
