"""The promise of every entry point as tests, inherited once for each.

Whatever is handed in twice, in whatever way, has its effect once. An entry point adds only the fixture `entry_point`.

An action is a key and a text; its effect is a row. Whoever does it passes two gates, in the middle of the transaction
and between the commit and the answer, where a test can hold it, or let it die there.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from caravan.clock import new_id, utc_now
from caravan.database import Database, UnitOfWork
from caravan.database.migrations import KERNEL_VERSIONS, provision_databases, upgrade_database
from caravan.runtime import Backends
from tests.support.shop import wait_until

Moment = Literal["before commit", "after commit"]

VERSION = """
from alembic import op
revision = "{name}0001"
down_revision = None
branch_labels = ("{name}",)
def upgrade():
    op.execute("CREATE TABLE action (id bigint GENERATED ALWAYS AS IDENTITY, key uuid, text text)")
"""


@dataclass
class Gate:
    """Open, until `closed` says where the next one is held."""

    blocked_at: Moment | None = None
    reached_event: asyncio.Event = field(default_factory=asyncio.Event)
    opened_event: asyncio.Event = field(default_factory=asyncio.Event)

    def block_at(self, moment: Moment) -> None:
        self.blocked_at = moment
        self.reached_event.clear()
        self.opened_event.clear()

    async def pass_through(self, moment: Moment) -> None:
        if self.blocked_at == moment:
            self.blocked_at = None  # holds one, not those who come after it
            self.reached_event.set()
            await self.opened_event.wait()

    async def wait_until_reached(self) -> None:
        await asyncio.wait_for(self.reached_event.wait(), 20)


@dataclass
class Clock:
    """Time that passes when a test says so."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


class EntryPoint(ABC):
    """Where actions are handed in. `retention`: how long the same key is known."""

    retention: timedelta

    def __init__(self, database: Database, clock: Clock, gate: Gate) -> None:
        self.database = database
        self.clock = clock
        self.gate = gate

    @abstractmethod
    async def submit(self, key: UUID, text: str) -> Any:
        """Hand an action in and wait until it has been dealt with; what is said to whoever handed it in, None where
        nothing is.
        """

    @abstractmethod
    async def submit_elsewhere(self, key: UUID, text: str) -> None:
        """The same action reaches another worker, while the first is still at it; returns when that worker has dealt
        with it.
        """

    @abstractmethod
    async def replace_worker(self) -> None:
        """Whoever is held at the gate is gone, and another takes its place."""

    @abstractmethod
    def is_body_mismatch(self, response: Any) -> bool:
        """Whether that is what this entry point says to a known key with another text."""

    async def insert_effect(self, uow: UnitOfWork, key: UUID, text: str) -> None:
        """The effect; for the entry point's handler."""
        await uow.execute("INSERT INTO action (key, text) VALUES ($1, $2)", key, text)
        await self.gate.pass_through("before commit")

    async def list_effects(self, key: UUID) -> list[str]:
        return [row[0] for row in await self.database.fetch("SELECT text FROM action WHERE key = $1 ORDER BY id", key)]


async def create_database(backends: Backends, name: str, folder: Path) -> Path:
    """A database with the kernel's tables and the actions; the folder of its versions."""
    (folder / f"{name}.py").write_text(VERSION.format(name=name))
    await provision_databases(backends.database_url, {name: backends.get_password(name)})
    await upgrade_database(name, backends.get_database_url(name), [KERNEL_VERSIONS, folder])
    return folder


@asynccontextmanager
async def open_database(backends: Backends, folder: Path, clock: Clock) -> AsyncIterator[Database]:
    name = "actions"
    await create_database(backends, name, folder)
    database = await Database.open(name, backends.get_database_url(name), size=6, clock=clock)
    try:
        yield database
    finally:
        await database.close()


class IdempotencyContract:
    async def test_the_same_again_has_one_effect_and_the_same_answer(self, entry_point: EntryPoint) -> None:
        key = new_id()
        responses = [await entry_point.submit(key, "once") for _ in range(5)]
        assert responses == responses[:1] * 5
        assert await entry_point.list_effects(key) == ["once"]

    async def test_many_at_once_have_one_effect_and_the_same_answer(self, entry_point: EntryPoint) -> None:
        key = new_id()
        responses = await asyncio.gather(*(entry_point.submit(key, "once") for _ in range(10)))
        assert responses == responses[:1] * 10
        assert await entry_point.list_effects(key) == ["once"]

    async def test_what_is_in_flight_is_not_done_a_second_time(self, entry_point: EntryPoint) -> None:
        key = new_id()
        entry_point.gate.block_at("before commit")
        first = asyncio.create_task(entry_point.submit(key, "once"))
        await entry_point.gate.wait_until_reached()
        second = asyncio.create_task(entry_point.submit_elsewhere(key, "once"))
        await asyncio.wait([second], timeout=0.2)  # it gets as far as it can
        entry_point.gate.opened_event.set()
        await asyncio.gather(first, second)
        assert await entry_point.list_effects(key) == ["once"]

    async def test_a_known_key_with_another_body_has_no_second_effect(self, entry_point: EntryPoint) -> None:
        key = new_id()
        await entry_point.submit(key, "first")
        assert entry_point.is_body_mismatch(await entry_point.submit(key, "second"))
        assert await entry_point.list_effects(key) == ["first"]

    async def test_a_key_is_known_until_its_time_has_come(self, entry_point: EntryPoint) -> None:
        key = new_id()
        await entry_point.submit(key, "once")
        entry_point.clock.ahead = entry_point.retention - timedelta(minutes=1)
        await entry_point.database.purge_expired()
        await entry_point.submit(key, "once")
        assert await entry_point.list_effects(key) == ["once"]
        entry_point.clock.ahead = entry_point.retention + timedelta(minutes=1)
        await entry_point.database.purge_expired()
        await entry_point.submit(key, "once")
        assert await entry_point.list_effects(key) == ["once", "once"]

    async def test_a_death_in_the_middle_leaves_nothing_and_the_next_try_does_it(self, entry_point: EntryPoint) -> None:
        key = new_id()
        entry_point.gate.block_at("before commit")
        lost_request = asyncio.create_task(entry_point.submit(key, "once"))
        await entry_point.gate.wait_until_reached()
        await entry_point.replace_worker()
        lost_request.cancel()
        await asyncio.gather(lost_request, return_exceptions=True)
        await entry_point.submit(key, "once")
        assert await entry_point.list_effects(key) == ["once"]

    async def test_a_death_between_commit_and_answer_is_not_a_second_effect(self, entry_point: EntryPoint) -> None:
        key = new_id()
        entry_point.gate.block_at("after commit")
        lost_request = asyncio.create_task(entry_point.submit(key, "once"))
        await entry_point.gate.wait_until_reached()
        assert await wait_until(lambda: entry_point.list_effects(key)) == ["once"]
        await entry_point.replace_worker()
        lost_request.cancel()
        await asyncio.gather(lost_request, return_exceptions=True)
        await entry_point.submit(key, "once")
        assert await entry_point.list_effects(key) == ["once"]
