"""The payment provider: a third party behind a Protocol, and the built-in simulation of one.

The simulation behaves as an outside system does: it has its own books (`provider_ledger`), writes them in its own statements, answers a key that it knows
with what it stored, and may fail to answer. A real one takes its place in `open_parts`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, cast

import asyncpg

from caravan.clock import new_id
from caravan.database import Database
from caravan.money import Money
from caravan.service import Context
from services.payments.drawing import Drawings
from services.payments.settings import Settings

GATHER_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Captured:
    charge: str


@dataclass(frozen=True, slots=True)
class Declined:
    """Nothing was charged. A `hard` one will be declined again, whatever the attempt."""

    reason: str
    hard: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """What the provider's books hold for a key."""

    key: str
    kind: Literal["capture", "refund"]
    outcome: Literal["captured", "declined", "failed", "refunded"]
    amount: Money
    reason: str
    charge: str | None
    at: datetime


class NoAnswer(Exception):
    """The call ended without an answer: it may or may not have had its effect. Ask again with the same key."""


class Provider(Protocol):
    """Every call repeats: a key that is known is answered with what was stored for it. Any exception means that nothing is known."""

    async def capture(self, key: str, reference: str, amount: Money, token: str) -> Captured | Declined:
        """Charge. `reference` is our name for the order."""

    async def refund(self, key: str, reference: str, charge: str, amount: Money) -> None:
        """Give back a charge."""

    async def lookup(self, key: str) -> Entry | None: ...

    async def ledger(self, reference: str) -> list[Entry]:
        """All that was done for a reference, oldest first."""


_ASKED = tuple[str, str, str, int, str]
_VERDICTS = {
    "tok_ok": ("captured", ""),
    "tok_timeout_charged": ("captured", ""),
    "tok_flaky": ("captured", ""),
    "tok_declined": ("declined", "card_declined"),
}
_CAPTURE = """
    WITH asked AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[])
            AS a(key, reference, token, amount, currency, outcome, reason, charge)
    ), judged AS (
        SELECT *, token = 'tok_flaky'
            AND (SELECT count(*) FROM provider_ledger l WHERE l.reference = asked.reference AND l.outcome = 'failed') < 2 AS flaky
        FROM asked
    ), added AS (
        INSERT INTO provider_ledger (key, kind, reference, amount, currency, outcome, reason, charge)
        SELECT key, 'capture', reference, amount, currency, CASE WHEN flaky THEN 'failed' ELSE outcome END,
            CASE WHEN flaky THEN 'try_again_later' ELSE reason END, CASE WHEN flaky OR outcome <> 'captured' THEN NULL ELSE charge END
        FROM judged ORDER BY key
        ON CONFLICT (key) DO NOTHING RETURNING key, outcome, reason, charge
    )
    SELECT key, outcome, reason, charge, true AS new FROM added
    UNION ALL SELECT key, outcome, reason, charge, false FROM provider_ledger WHERE key = ANY($1)
"""
_ENTRY = "SELECT key, kind, outcome, amount, currency, reason, charge, at FROM provider_ledger"


class SimulatedProvider:
    """Its tokens: `tok_ok`, `tok_declined` (for good), `tok_flaky` (fails twice per order, then succeeds), `tok_timeout_charged` (charges, but the first call
    with a key gets no answer). Any other token is declined for good. Captures that come within two milliseconds share one statement."""

    def __init__(self, database: Database, latency: float = 0.0) -> None:
        self._database = database
        self._latency = latency
        self._waiting: dict[str, tuple[_ASKED, asyncio.Future[asyncpg.Record]]] = {}
        self._gathering = False
        self._writing: set[asyncio.Task[None]] = set()

    async def capture(self, key: str, reference: str, amount: Money, token: str) -> Captured | Declined:
        await asyncio.sleep(self._latency)
        row = await self._write((key, reference, token, amount.amount, amount.currency))
        if row["new"] and token == "tok_timeout_charged":
            raise NoAnswer("the provider timed out")
        if row["outcome"] == "captured":
            return Captured(row["charge"])
        return Declined(row["reason"], hard=row["outcome"] == "declined")

    async def refund(self, key: str, reference: str, charge: str, amount: Money) -> None:
        await asyncio.sleep(self._latency)
        await self._database.fetch(
            "INSERT INTO provider_ledger (key, kind, reference, amount, currency, outcome, charge)"
            " VALUES ($1, 'refund', $2, $3, $4, 'refunded', $5) ON CONFLICT (key) DO NOTHING",
            key,
            reference,
            amount.amount,
            amount.currency,
            charge,
        )

    async def lookup(self, key: str) -> Entry | None:
        row = await self._database.fetchrow(f"{_ENTRY} WHERE key = $1", key)
        return _entry(row) if row else None

    async def ledger(self, reference: str) -> list[Entry]:
        return [_entry(row) for row in await self._database.fetch(f"{_ENTRY} WHERE reference = $1 ORDER BY at, key", reference)]

    async def _write(self, asked: _ASKED) -> asyncpg.Record:
        key = asked[0]
        if key not in self._waiting:
            self._waiting[key] = (asked, asyncio.get_running_loop().create_future())
        if not self._gathering:
            self._gathering = True
            task = asyncio.create_task(self._flush())
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
        return await asyncio.shield(self._waiting[key][1])

    async def _flush(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        waiting, self._waiting, self._gathering = self._waiting, {}, False
        try:
            found = await self._book([asked for asked, _ in waiting.values()])
        except Exception as error:
            for _, future in waiting.values():
                future.set_exception(NoAnswer(repr(error)))
                future.exception()  # whoever asked may have stopped waiting
            return
        for key, (_, future) in waiting.items():
            if key in found:
                future.set_result(found[key])
            else:  # another process was writing the same key: its row was not visible to our statement
                future.set_exception(NoAnswer("busy with this key"))
                future.exception()

    async def _book(self, asked: list[_ASKED]) -> dict[str, asyncpg.Record]:
        verdicts = [_VERDICTS.get(token, ("declined", "invalid_token")) for _, _, token, _, _ in asked]
        columns = list(zip(*((*row, *verdict, f"ch_{new_id().hex}") for row, verdict in zip(asked, verdicts, strict=True)), strict=True))
        rows = await self._database.fetch(_CAPTURE, *(list(column) for column in columns))
        return {row["key"]: row for row in rows}


def _entry(row: asyncpg.Record) -> Entry:
    kind = cast(Literal["capture", "refund"], row["kind"])
    return Entry(
        row["key"], kind, row["outcome"], Money(amount=row["amount"], currency=row["currency"]), row["reason"], row["charge"], row["at"]
    )


@dataclass(slots=True)
class Parts:
    """What payments holds open: its provider, and the drawing of invoices."""

    provider: Provider
    drawings: Drawings


@asynccontextmanager
async def open_parts(context: Context[Settings, Any]) -> AsyncIterator[Parts]:
    drawings = Drawings(at_once=2, waiting=50)
    try:
        yield Parts(SimulatedProvider(context.database, context.settings.provider_latency_seconds), drawings)
    finally:
        await drawings.close()
