"""The dead letters of a service's outbox: rows that the bus refused for good, which are sent again or discarded
like those of its subscriptions, and rows that it has not taken for minutes.

`relay.py` sets them aside; `caravan/dead_letters/` has them from here.
"""

from collections.abc import Sequence
from typing import Literal

from caravan.bus import DeadLetter
from caravan.database import Database

_STALE_SECONDS = 300.0
"""A row that the bus has not taken for so long is a failure that somebody should see."""


class OutboxDeadLetters:
    """The outbox as a source of dead letters: rows that the bus refused permanently, and those that wait for too
    long.
    """

    origin: Literal["outbox"] = "outbox"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_dead_letters(self, limit: int, preview: int) -> list[DeadLetter]:
        rows = await self._database.fetch(
            "SELECT id::text, channel, key, substr(body, 1, $2) AS body, length(body) AS size, refused_at, "
            "created_at, coalesce(reason, CASE WHEN EXISTS ("
            "SELECT 1 FROM outbox r WHERE r.refused_at IS NOT NULL AND r.channel = o.channel AND r.key = o.key)"
            " THEN 'waits behind a refused row of its key' ELSE 'the bus has not taken it for minutes; it is sent as "
            "soon as it does' END) AS reason"
            " FROM outbox o WHERE refused_at IS NOT NULL OR created_at < now() - make_interval(secs => $3) ORDER BY "
            "o.id LIMIT $1",
            limit,
            preview,
            _STALE_SECONDS,
        )
        return [
            DeadLetter(
                id=row["id"],
                subscription=f"{self._database.service}.outbox",
                channel=row["channel"],
                key=row["key"],
                body=row["body"],
                reason=row["reason"],
                attempt=1,
                dead_lettered_at=row["refused_at"] or row["created_at"],
                size=row["size"],
                redrivable=row["refused_at"] is not None,
            )
            for row in rows
        ]

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int:
        """Let the relay try again, in the rows' order."""
        rows = await self._database.fetch(
            "UPDATE outbox SET refused_at = NULL, reason = NULL WHERE id = ANY($1) AND refused_at IS NOT NULL "
            "RETURNING id",
            _list_row_ids(dead_letters),
        )
        self._database.outbox_written.set()
        return len(rows)

    async def discard(self, dead_letters: Sequence[DeadLetter]) -> int:
        rows = await self._database.fetch(
            "DELETE FROM outbox WHERE id = ANY($1) AND refused_at IS NOT NULL RETURNING id", _list_row_ids(dead_letters)
        )
        self._database.outbox_written.set()
        return len(rows)


def _list_row_ids(dead_letters: Sequence[DeadLetter]) -> list[int]:
    return [int(dead_letter.id) for dead_letter in dead_letters]
