"""Notifications that a provider rejected, or that failed too often, as dead letters of the service: listed, sent again,
or discarded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal
from uuid import UUID

import orjson

from caravan.bus import DeadLetter
from caravan.clock import format_rfc3339
from services.notifications.model import KINDS
from services.notifications.store import dead_letters as store
from services.notifications.use_cases import NotificationsContext
from services.notifications.use_cases.accept import SEND_JOBS

OPT_OUT_CATEGORIES = {kind.name: "" if kind.category == "security" else kind.category for kind in KINDS.values()}
"""By kind what a user may have opted out of meanwhile; security messages can't be."""


@dataclass(frozen=True, slots=True)
class NotificationDeadLetters:
    """Messages have no order among each other, so none is held back for another."""

    context: NotificationsContext
    origin: Literal["effect"] = "effect"

    async def list_dead_letters(self, limit: int, preview: int) -> list[DeadLetter]:
        return [_build_dead_letter(failed, preview) for failed in await store.list_failed(self.context.database, limit)]

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int:
        context = self.context
        async with context.database.unit_of_work() as uow:
            priorities = await store.requeue_failed(
                uow, [UUID(dead_letter.id) for dead_letter in dead_letters], OPT_OUT_CATEGORIES, context.clock()
            )
            for priority in set(priorities):
                job = SEND_JOBS[priority]  # type: ignore[index]  # as the table's CHECK has it
                uow.run_after_commit(partial(context.jobs.enqueue_soon, job))
        return len(priorities)

    async def discard(self, dead_letters: Sequence[DeadLetter]) -> int:
        async with self.context.database.unit_of_work() as uow:
            return await store.discard_failed(
                uow, [UUID(dead_letter.id) for dead_letter in dead_letters], self.context.clock()
            )


def _build_dead_letter(failed: store.FailedNotification, preview: int) -> DeadLetter:
    """A notification in the shape of a message's envelope."""
    data = {name: getattr(failed, name) for name in ("about", "kind", "channel", "recipient", "subject")}
    body = orjson.dumps(
        {"id": str(failed.id), "type": failed.kind, "time": format_rfc3339(failed.created_at), "data": data}
    )
    channel = f"notifications.{failed.channel}"
    return DeadLetter(
        id=str(failed.id),
        subscription=channel,
        channel=channel,
        key="",
        body=body[:preview],
        reason=failed.reason or "",
        attempt=failed.attempts,
        dead_lettered_at=failed.due_at,
        size=len(body),
    )
