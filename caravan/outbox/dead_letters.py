"""The dead letters of a service's outbox: rows that the bus refused for good, which are sent again or discarded
like those of its subscriptions, and rows that it has not taken for minutes.

`relay.py` sets them aside; `caravan/dead_letters/` has them from here.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from sqlalchemy import bindparam, case, cast, delete, exists, func, or_, select, update
from sqlalchemy.orm import aliased

from caravan.bus import DeadLetter
from caravan.database import Database
from caravan.database import tables as sql
from caravan.database.conditions import is_among
from caravan.database.kernel_tables import Outbox
from caravan.database.query import Query
from caravan.database.tables import col

_STALE_AFTER = timedelta(minutes=5)
"""A row that the bus has not taken for so long is a failure that somebody should see."""


class _Row(NamedTuple):
    id: str
    channel: str
    key: str
    body: bytes
    size: int
    refused_at: datetime | None
    created_at: datetime
    reason: str


_REFUSED = aliased(Outbox)
_IS_BEHIND_REFUSED = exists().where(
    col(_REFUSED.refused_at).is_not(None),
    col(_REFUSED.channel) == col(Outbox.channel),
    col(_REFUSED.key) == col(Outbox.key),
)
_IS_REFUSED = col(Outbox.refused_at).is_not(None)
_IS_SELECTED = is_among(col(Outbox.id), "ids")
_LIST = Query(
    select(
        cast(col(Outbox.id), sql.TEXT),
        col(Outbox.channel),
        col(Outbox.key),
        func.substr(col(Outbox.body), 1, bindparam("preview", type_=sql.INTEGER)),
        func.length(col(Outbox.body)),
        col(Outbox.refused_at),
        col(Outbox.created_at),
        func.coalesce(
            col(Outbox.reason),
            case(
                (_IS_BEHIND_REFUSED, "waits behind a refused row of its key"),
                else_="the bus has not taken it for minutes; it is sent as soon as it does",
            ),
        ),
    )
    .where(or_(_IS_REFUSED, col(Outbox.created_at) < func.now() - bindparam("stale_after", type_=sql.INTERVAL)))
    .order_by(col(Outbox.id))
    .limit(bindparam("limit")),
    _Row,
)
_REDRIVE = Query(update(Outbox).where(_IS_SELECTED, _IS_REFUSED).values(refused_at=None, reason=None))
_DISCARD = Query(delete(Outbox).where(_IS_SELECTED, _IS_REFUSED))


class OutboxDeadLetters:
    """The outbox as a source of dead letters: rows that the bus refused permanently, and those that wait for too
    long.
    """

    origin: Literal["outbox"] = "outbox"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_dead_letters(self, limit: int, preview: int) -> list[DeadLetter]:
        rows = await _LIST.fetch_all(self._database, limit=limit, preview=preview, stale_after=_STALE_AFTER)
        return [
            DeadLetter(
                id=row.id,
                subscription=f"{self._database.service}.outbox",
                channel=row.channel,
                key=row.key,
                body=row.body,
                reason=row.reason,
                attempt=1,
                dead_lettered_at=row.refused_at or row.created_at,
                size=row.size,
                redrivable=row.refused_at is not None,
            )
            for row in rows
        ]

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int:
        """Let the relay try again, in the rows' order."""
        count = await _REDRIVE.execute(self._database, ids=_list_row_ids(dead_letters))
        self._database.outbox_written.set()
        return count

    async def discard(self, dead_letters: Sequence[DeadLetter]) -> int:
        count = await _DISCARD.execute(self._database, ids=_list_row_ids(dead_letters))
        self._database.outbox_written.set()
        return count


def _list_row_ids(dead_letters: Sequence[DeadLetter]) -> list[int]:
    return [int(dead_letter.id) for dead_letter in dead_letters]
