"""Notifications that a provider refused for good, or that failed too often, as a place of the failure desk: seen, sent again, or discarded."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal
from uuid import UUID

import asyncpg
import orjson

from caravan.bus import DeadLetter
from caravan.clock import rfc3339
from services.notifications.model import KINDS
from services.notifications.store import failures as store
from services.notifications.use_cases import NotificationsContext
from services.notifications.use_cases.accepting import SEND_JOBS

REFUSABLE = {kind.name: "" if kind.category == "security" else kind.category for kind in KINDS.values()}
"""By kind what a user may have opted out of meanwhile; security messages can't be."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Messages have no order among each other, so none is held back for another."""

    context: NotificationsContext
    place: Literal["effect"] = "effect"

    async def letters(self, limit: int, preview: int) -> list[DeadLetter]:
        return [_dead_letter(row, preview) for row in await store.given_up(self.context.database, limit)]

    async def redrive(self, letters: Sequence[DeadLetter]) -> int:
        context = self.context
        async with context.database.work() as work:
            priorities = await store.send_again(work, [UUID(letter.id) for letter in letters], REFUSABLE, context.clock())
            for priority in set(priorities):
                work.after_commit(partial(context.jobs.enqueue_soon, SEND_JOBS[priority]))  # type: ignore[index]  # as the table's CHECK has it
        return len(priorities)

    async def discard(self, letters: Sequence[DeadLetter]) -> int:
        async with self.context.database.work() as work:
            return await store.discard(work, [UUID(letter.id) for letter in letters], self.context.clock())


def _dead_letter(row: asyncpg.Record, preview: int) -> DeadLetter:
    """A notification in the shape of a message's envelope."""
    about = {name: row[name] for name in ("about", "kind", "channel", "recipient", "subject")}
    body = orjson.dumps({"id": str(row["id"]), "type": row["kind"], "time": rfc3339(row["created_at"]), "data": about})
    channel = f"notifications.{row['channel']}"
    return DeadLetter(
        id=str(row["id"]),
        subscription=channel,
        channel=channel,
        key="",
        body=body[:preview],
        reason=row["reason"] or "",
        attempt=row["attempts"],
        died_at=row["failed_at"],
        size=len(body),
    )
