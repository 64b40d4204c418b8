"""The promise of every door as tests, inherited once per door: whatever is handed in twice, in whatever way, has its effect once. A door adds only the fixture `door`.

A deed is a key and a text; its effect is a row. Whoever does it passes two gates, in the middle of the transaction and between the commit and the answer, where a
test can hold it, or let it die there.
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
from caravan.migrations import KERNEL, provision, upgrade
from caravan.runtime import Backends
from tests.shop import until

Moment = Literal["before commit", "after commit"]

VERSION = """
from alembic import op
revision = "{name}0001"
down_revision = None
branch_labels = ("{name}",)
def upgrade():
    op.execute("CREATE TABLE deed (id bigint GENERATED ALWAYS AS IDENTITY, key uuid, text text)")
"""


@dataclass
class Gate:
    """Open, until `closed` says where the next one is held."""

    closed: Moment | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self, moment: Moment) -> None:
        self.closed = moment
        self.reached.clear()
        self.opened.clear()

    async def passes(self, moment: Moment) -> None:
        if self.closed == moment:
            self.closed = None  # holds one, not those who come after it
            self.reached.set()
            await self.opened.wait()

    async def holds(self) -> None:
        await asyncio.wait_for(self.reached.wait(), 20)


@dataclass
class Clock:
    """Time that passes when a test says so."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


class Door(ABC):
    """Where deeds are handed in. `remembers`: how long the same key is known."""

    remembers: timedelta

    def __init__(self, database: Database, clock: Clock, gate: Gate) -> None:
        self.database = database
        self.clock = clock
        self.gate = gate

    @abstractmethod
    async def hand_in(self, key: UUID, text: str) -> Any:
        """Hand a deed in and wait until it has been dealt with; what is said to whoever handed it in, None where nothing is."""

    @abstractmethod
    async def again_elsewhere(self, key: UUID, text: str) -> None:
        """The same deed reaches another worker, while the first is still at it; returns when that worker has dealt with it."""

    @abstractmethod
    async def dies(self) -> None:
        """Whoever is held at the gate is gone, and another takes its place."""

    @abstractmethod
    def says_other_body(self, told: Any) -> bool:
        """Whether that is what this door says to a known key with another text."""

    async def do(self, work: UnitOfWork, key: UUID, text: str) -> None:
        """The effect; for the door's handler."""
        await work.execute("INSERT INTO deed (key, text) VALUES ($1, $2)", key, text)
        await self.gate.passes("before commit")

    async def effects(self, key: UUID) -> list[str]:
        return [row[0] for row in await self.database.fetch("SELECT text FROM deed WHERE key = $1 ORDER BY id", key)]


async def migrated(backends: Backends, name: str, folder: Path) -> Path:
    """A database with the kernel's tables and the deeds; the folder of its versions."""
    (folder / f"{name}.py").write_text(VERSION.format(name=name))
    await provision(backends.database_url, {name: backends.password(name)})
    await upgrade(name, backends.database(name), [KERNEL, folder])
    return folder


@asynccontextmanager
async def deeds(backends: Backends, folder: Path, clock: Clock) -> AsyncIterator[Database]:
    name = "deeds"
    await migrated(backends, name, folder)
    database = await Database.open(name, backends.database(name), size=6, clock=clock)
    try:
        yield database
    finally:
        await database.close()


class IdempotencyContract:
    async def test_the_same_again_has_one_effect_and_the_same_answer(self, door: Door) -> None:
        key = new_id()
        answers = [await door.hand_in(key, "once") for _ in range(5)]
        assert answers == answers[:1] * 5
        assert await door.effects(key) == ["once"]

    async def test_many_at_once_have_one_effect_and_the_same_answer(self, door: Door) -> None:
        key = new_id()
        answers = await asyncio.gather(*(door.hand_in(key, "once") for _ in range(10)))
        assert answers == answers[:1] * 10
        assert await door.effects(key) == ["once"]

    async def test_what_is_in_flight_is_not_done_a_second_time(self, door: Door) -> None:
        key = new_id()
        door.gate.close("before commit")
        first = asyncio.create_task(door.hand_in(key, "once"))
        await door.gate.holds()
        second = asyncio.create_task(door.again_elsewhere(key, "once"))
        await asyncio.wait([second], timeout=0.2)  # it gets as far as it can
        door.gate.opened.set()
        await asyncio.gather(first, second)
        assert await door.effects(key) == ["once"]

    async def test_a_known_key_with_another_body_has_no_second_effect(self, door: Door) -> None:
        key = new_id()
        await door.hand_in(key, "first")
        assert door.says_other_body(await door.hand_in(key, "second"))
        assert await door.effects(key) == ["first"]

    async def test_a_key_is_known_until_its_time_has_come(self, door: Door) -> None:
        key = new_id()
        await door.hand_in(key, "once")
        door.clock.ahead = door.remembers - timedelta(minutes=1)
        await door.database.forget()
        await door.hand_in(key, "once")
        assert await door.effects(key) == ["once"]
        door.clock.ahead = door.remembers + timedelta(minutes=1)
        await door.database.forget()
        await door.hand_in(key, "once")
        assert await door.effects(key) == ["once", "once"]

    async def test_a_death_in_the_middle_leaves_nothing_and_the_next_try_does_it(self, door: Door) -> None:
        key = new_id()
        door.gate.close("before commit")
        lost = asyncio.create_task(door.hand_in(key, "once"))
        await door.gate.holds()
        await door.dies()
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
        await door.hand_in(key, "once")
        assert await door.effects(key) == ["once"]

    async def test_a_death_between_commit_and_answer_is_not_a_second_effect(self, door: Door) -> None:
        key = new_id()
        door.gate.close("after commit")
        lost = asyncio.create_task(door.hand_in(key, "once"))
        await door.gate.holds()
        assert await until(lambda: door.effects(key)) == ["once"]
        await door.dies()
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
        await door.hand_in(key, "once")
        assert await door.effects(key) == ["once"]
